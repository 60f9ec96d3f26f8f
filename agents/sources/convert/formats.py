"""One function a format: a file to its text. Run in a child process: libraries in C may crash, hang or inflate.

Each raises ConversionError, or whatever its library raises for a file that is none.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.sources.convert import ConversionError, Converted
from agents.sources.convert.builder import Builder, iso, path_of, require_bounded
from agents.sources.convert.decoded import decoded
from agents.sources.convert.running import without_running_lines
from streams.sections import BELOW, Section

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

DELIMITERS = ",;\t|"
HYPHEN = re.compile("[\x02\ufffe](?:\r\n)?")
"""What PDFium has in place of a hyphen that a line's end made."""
BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"}
    | {"dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"}
    | {"html", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody", "td"}
    | {"tfoot", "th", "thead", "title", "tr", "ul"}
)
DROPPED = (
    "script,style,noscript,template,svg,nav,footer,aside,form,iframe,[hidden],[aria-hidden=true],"
    "[role=navigation],[role=banner],[role=search],[role=contentinfo]"
)
EMPTY = re.compile(r"<(title|script|style|textarea|iframe|noscript|noframes|xmp)\b([^<>]*)/>", re.IGNORECASE)
"""Elements that HTML does not end before their end tag."""
XHTML = "http://www.w3.org/1999/xhtml"
SNIFFED_CHARS = 2000


def pdf(path: Path) -> Converted:
    """Page by page; the outline's titles are headings, from where they stand on the page that they lead to.

    What runs along at the top and bottom of pages is left out: it would be chunks of one line, or between sentences.
    """
    import pypdfium2

    built = Builder()
    document = pypdfium2.PdfDocument(path)
    try:
        outline: dict[int, list[tuple[int, str]]] = {}
        for row in document.get_toc():
            target = row.get_dest()
            page = target.get_index() if target else None
            if page is not None:
                outline.setdefault(page, []).append((row.level + 1, row.get_title()))
        pages = without_running_lines([_page_text(page) for page in document])
        for number, text in enumerate(pages):
            for level, title in outline.get(number, []):
                if found := _line_of(title, text):
                    built.add(text[: found.start()], page=number + 1)
                    text = text[found.start() :]
                built.below(level, title)
            built.add(text, page=number + 1)
        told = document.get_metadata_dict()
    finally:
        document.close()
    return built.built(
        title=told.get("Title"), author=told.get("Author"), timestamp=_pdf_date(told.get("CreationDate"))
    )


def _page_text(page: Any) -> str:
    text_page = page.get_textpage()
    try:
        text: str = text_page.get_text_range()
    finally:
        text_page.close()
        page.close()
    return HYPHEN.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def _line_of(title: str, text: str) -> re.Match[str] | None:
    """Where a line begins that has a title, perhaps after its number; a line's end may be in it."""
    words = r"\s+".join(map(re.escape, title.split()))
    return re.search(rf"^[^\S\n]*\S{{0,12}}[^\S\n]*{words}\s*$", text, re.MULTILINE) if words else None


def _pdf_date(text: str | None) -> str | None:
    """`D:20260130120000+01'00'` (ISO 32000, 7.9.4)."""
    found = re.fullmatch(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(Z|[+-]\d\d'?\d\d'?)?.*", text or "")
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part) if part else None for part in found.groups()[:6])
    zone = (found[7] or "Z").replace("'", "")
    try:
        made = datetime(year or 1, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=UTC)
    except ValueError:
        return None
    told = made.replace(tzinfo=None).isoformat() + ("Z" if zone == "Z" else f"{zone[:3]}:{zone[3:]}")
    return told if iso(told) else None


def html(path: Path) -> Converted:
    """What is in `main` or `article`, else the body without navigation and the like; headings from `h1` to `h6`."""
    return of_tree(parsed(decoded(path.read_bytes(), None)))


def parsed(text: str) -> "LexborHTMLParser":
    """Of HTML or XHTML; the latter may have `<title/>` for an empty element, which HTML takes for its beginning."""
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(EMPTY.sub(r"<\1\2></\1>", text) if XHTML in text[:SNIFFED_CHARS] else text)


def of_tree(tree: "LexborHTMLParser") -> Converted:
    """The same of what is parsed already, and loses what is no text."""
    title = tree.css_first("title")
    author = tree.css_first('meta[name="author"]')
    when = tree.css_first('meta[property="article:published_time"]') or tree.css_first('meta[name="date"]')
    told = {
        "title": title.text() if title else None,
        "author": author.attributes.get("content") if author else None,
        "timestamp": iso(when.attributes.get("content") if when else None),
    }
    top = tree.css_first("main") or tree.css_first("[role=main]") or tree.css_first("article") or tree.body
    built = Builder()
    if top is not None:
        add_html(built, top)
    return built.built(**told)


def add_html(built: Builder, top: "LexborNode") -> None:
    """Paragraphs and headings of an element, which loses what is no text."""
    for node in top.css(DROPPED):
        node.decompose()
    text = list[str]()
    block: LexborNode | None = None

    def end(of: "LexborNode | None") -> None:
        tag = of.tag if of is not None else ""
        if found := re.fullmatch("h([1-6])", tag or ""):
            built.heading(int(found[1]), "".join(text))
        else:
            built.add("".join(text) if tag == "pre" else " ".join("".join(text).split()))
        text.clear()

    for node in top.traverse(include_text=True):
        if node.tag == "br":
            text.append("\n")
        elif node.tag == "-text":
            of = node.parent
            while of is not None and of.tag not in BLOCKS:
                of = of.parent
            if block is not None and (of is None or of.mem_id != block.mem_id):
                end(block)
            block = of
            text.append(node.text_content or "")
    end(block)


CORE_PROPERTIES = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"


def _core_properties(document: Any) -> dict[str, str | None]:
    """What a DOCX or PPTX says of itself. Where it says nothing, its library would tell what its own templates say."""
    try:
        document.part.package.part_related_by(CORE_PROPERTIES)
    except KeyError:
        return {}
    told = document.core_properties
    return {"title": told.title, "author": told.author, "timestamp": iso(told.created)}


def docx(path: Path) -> Converted:
    """Paragraphs and tables in their order; styles named Heading are headings."""
    import docx as library
    from docx.table import Table

    require_bounded(path)
    document, built = library.Document(str(path)), Builder()
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            _add_rows(built, ([cell.text for cell in row.cells] for row in block.rows))
        elif found := re.fullmatch(r"Heading (\d)", (block.style.name if block.style else "") or ""):
            built.heading(int(found[1]), block.text)
        else:
            built.add(block.text)
    return built.built(**_core_properties(document))


def pptx(path: Path) -> Converted:
    """A slide is a page, its title a heading."""
    from pptx import Presentation

    require_bounded(path)
    document, built = Presentation(str(path)), Builder()
    for number, slide in enumerate(document.slides, 1):
        title = slide.shapes.title
        built._headings = [(1, " ".join(title.text.split()))] if title is not None and title.text.strip() else []
        texts = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
        for shape in slide.shapes:
            if shape.has_table:
                texts += [" | ".join(cell.text for cell in row.cells) for row in shape.table.rows]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame:
            texts.append(slide.notes_slide.notes_text_frame.text)
        built.add("\n".join(text for text in texts if text.strip()), page=number)
    return built.built(**_core_properties(document))


def sheets(path: Path) -> Converted:
    """XLSX, XLS and ODS: a sheet is a section; each row names its columns, where the first row does."""
    import python_calamine

    if zipfile.is_zipfile(path):
        require_bounded(path)
    built = Builder()
    with python_calamine.load_workbook(str(path)) as book:
        for name in book.sheet_names:
            built._headings = [(1, name)]
            rows = book.get_sheet_by_name(name).iter_rows()
            _add_rows(built, ([_cell(cell) for cell in row] for row in rows), named=True)
    return built.built()


def _cell(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def table(path: Path) -> Converted:
    """CSV and TSV, by what divides the first line."""
    text = plain(path).text
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=first.count)
    built = Builder()
    csv.field_size_limit(len(text) + 1)  # a cell may be all of it
    _add_rows(built, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), named=True)
    return built.built()


def _add_rows(built: Builder, rows: Iterable[Sequence[str]], *, named: bool = False) -> None:
    """A line each. `named`: where the first row has a name for every column, each cell is told with its own."""
    names: Sequence[str] | None = None
    lines = []
    for row in rows:
        if named and names is None:
            names = row if all(cell.strip() for cell in row) and len(set(row)) == len(row) else ()
        elif names:
            pairs = [f"{name}: {cell}" for name, cell in zip(names, row, strict=False) if cell.strip()]
            lines.append(", ".join(pairs))
            continue
        lines.append(" | ".join(cell.strip() for cell in row if cell.strip()))
    built.add("\n".join(line for line in lines if line))


def opendocument(path: Path) -> Converted:
    """ODT and ODP: paragraphs and headings; a slide is a page."""
    from odfdo import Document

    require_bounded(path)
    document, built = Document(str(path)), Builder()
    body = document.body
    if pages := body.get_elements("//draw:page"):
        for number, page in enumerate(pages, 1):
            built.add("\n".join(row.inner_text for row in page.get_elements("descendant::text:p")), page=number)
    else:
        for row in body.get_elements("//text:h|//text:p"):
            if row.tag == "text:h":
                built.heading(int(row.get_attribute("text:outline-level") or 1), row.inner_text)
            else:
                built.add(row.inner_text)
    told = document.meta
    return built.built(title=told.title, author=told.creator or told.initial_creator, timestamp=iso(told.date))


def plain(path: Path) -> Converted:
    """Text in any encoding: what its mark says, UTF-8, or what it looks like."""
    raw = path.read_bytes()
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32")):
        if raw.startswith(mark):
            return _text(raw.removeprefix(mark).decode(encoding) if encoding == "utf-8" else raw.decode(encoding))
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _text(raw.decode("utf-16"))
    try:
        return _text(raw.decode())
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(raw[:1_000_000]).best()
        if best is None:
            raise ConversionError("no text in any encoding that is known") from None
        return _text(raw.decode(best.encoding, errors="strict"))


def _text(text: str) -> Converted:
    if "\0" in text:
        raise ConversionError("no text: it has NUL characters")
    return Converted(text=text.replace("\r\n", "\n").replace("\r", "\n"))


def markdown(path: Path) -> Converted:
    """As it is; headings (`#` to `######`, outside of fences) begin sections."""
    return _by_headings(plain(path).text, _markdown_headings)


def restructured(path: Path) -> Converted:
    """As it is; titles underlined with punctuation begin sections, levels in the order in which they come."""
    return _by_headings(plain(path).text, _restructured_headings)


def _markdown_headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    fence = ""
    for number, line in enumerate(lines):
        if found := re.match(r" {0,3}(`{3,}|~{3,})", line):
            if not fence:
                fence = found[1][:3]
            elif found[1].startswith(fence):
                fence = ""
        elif not fence and (found := re.match(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$", line)):
            yield number, len(found[1]), found[2]


def _restructured_headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    styles: list[str] = []
    for number in range(1, len(lines)):
        title, under = lines[number - 1].rstrip(), lines[number].rstrip()
        rule = re.fullmatch(r"([=\-`:'\"~^_*+#<>.])\1{2,}", under)
        if not rule or not title.strip() or len(under) < len(title) or re.fullmatch(r"(\W)\1+", title):
            continue
        over = number >= 2 and lines[number - 2].rstrip() == under
        style = rule[1] + ("^" if over else "")
        if style not in styles:
            styles.append(style)
        yield number - (2 if over else 1), styles.index(style) + 1, title.strip()


def _by_headings(text: str, find: Callable[[list[str]], Iterator[tuple[int, int, str]]]) -> Converted:
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    path: list[tuple[int, str]] = []
    cuts: list[tuple[int, str | None]] = []
    for number, level, name in find(lines):
        path = [row for row in path if row[0] < level] + [(level, name)]
        cuts.append((starts[number], path_of(path)))
    ends = [at for at, _ in cuts[1:]] + [len(text)] if cuts else []
    sections = tuple(
        Section(start=at, end=end, heading=heading) for (at, heading), end in zip(cuts, ends, strict=True) if end > at
    )
    title = next((heading for _, heading in cuts if heading and BELOW not in heading), None)
    return Converted(text=text, title=title, sections=sections)
