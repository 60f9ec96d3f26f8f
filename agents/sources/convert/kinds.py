"""What can be read, by suffix: the function of `formats`, and the library that it needs, of the extra `documents`."""

from functools import cache
from importlib.util import find_spec

KINDS: dict[str, tuple[str, str | None]] = {
    ".txt": ("plain", None),
    ".text": ("plain", None),
    ".rst": ("restructured", None),
    ".md": ("markdown", None),
    ".markdown": ("markdown", None),
    ".csv": ("table", None),
    ".tsv": ("table", None),
    ".html": ("html", "selectolax"),
    ".htm": ("html", "selectolax"),
    ".xhtml": ("html", "selectolax"),
    ".pdf": ("pdf", "pypdfium2"),
    ".docx": ("docx", "docx"),
    ".pptx": ("pptx", "pptx"),
    ".xlsx": ("sheets", "python_calamine"),
    ".xls": ("sheets", "python_calamine"),
    ".ods": ("sheets", "python_calamine"),
    ".odt": ("opendocument", "odfdo"),
    ".odp": ("opendocument", "odfdo"),
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
