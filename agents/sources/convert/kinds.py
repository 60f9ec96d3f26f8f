"""What can be read, by suffix: module and function, and the library that it needs, of the extra `documents`."""

from functools import cache
from importlib.util import find_spec

KINDS: dict[str, tuple[str, str | None]] = {
    ".txt": ("formats:plain", None),
    ".text": ("formats:plain", None),
    ".rst": ("formats:restructured", None),
    ".md": ("formats:markdown", None),
    ".markdown": ("formats:markdown", None),
    ".csv": ("formats:table", None),
    ".tsv": ("formats:table", None),
    ".html": ("formats:html", "selectolax"),
    ".htm": ("formats:html", "selectolax"),
    ".xhtml": ("formats:html", "selectolax"),
    ".pdf": ("formats:pdf", "pypdfium2"),
    ".epub": ("epub:epub", "selectolax"),
    ".rtf": ("rtf:rtf", "striprtf"),
    ".docx": ("formats:docx", "docx"),
    ".pptx": ("formats:pptx", "pptx"),
    ".xlsx": ("formats:sheets", "python_calamine"),
    ".xls": ("formats:sheets", "python_calamine"),
    ".ods": ("formats:sheets", "python_calamine"),
    ".odt": ("formats:opendocument", "odfdo"),
    ".odp": ("formats:opendocument", "odfdo"),
}
GZIP = ".gz"
HTML = ".html"
EXTRA = "documents"


def kind_of(name: str) -> str | None:
    """The suffix that says how a file is read, `.gz` aside; None where it is of no kind that can be."""
    name = name.lower().removesuffix(GZIP)
    suffix = name[name.rfind(".") :] if "." in name else ""
    return suffix if suffix in KINDS else None


@cache
def is_there(kind: str) -> bool:
    """Whether its library is installed."""
    module = KINDS[kind][1]
    return module is None or find_spec(module) is not None
