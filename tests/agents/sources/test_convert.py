"""Bytes of files to text: each kind, made by its own library or by hand; and files that are broken, or bombs."""

import asyncio
import gzip
import os
import re
import zipfile
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from agents.sources.convert import ConversionError, Converted, builder
from agents.sources.convert.child import NICENESS
from agents.sources.convert.convert import PATIENCE_S, Converter
from agents.sources.convert.kinds import kind_of

LOWEST = 19


def convert(path: Path, patience_s: float = 60.0, memory_bytes: int = 2 * 1024**3) -> Converted:
    """By a process that ends with it."""

    async def run() -> Converted:
        converter = Converter(patience_s, memory_bytes)
        try:
            return await converter.convert(path, kind_of(path.name) or "")
        finally:
            await converter.close()

    return asyncio.run(run())


def sections(found: Converted) -> list[tuple[int | None, str | None, str]]:
    """Page, heading and text of each."""
    return [(row.page, row.heading, found.text[row.start : row.end]) for row in found.sections]


def pdf_of(*pages: str) -> bytes:
    """A PDF by hand, with an outline entry for the second page, a title, an author and a date."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R /Outlines 4 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{7 + 2 * n} 0 R' for n in range(len(pages)))}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /First 5 0 R /Last 5 0 R /Count 1 >>",
        f"<< /Title (Second) /Parent 4 0 R /Dest [{9 if len(pages) > 1 else 7} 0 R /Fit] >>",
        "<< /Title (Sluices) /Author (A. Keeper) /CreationDate (D:20260130120000+01'00') >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {8 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 6 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def test_pdf_by_page_and_outline(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_of("The first page.", "The second page.", "The third."))
    found = convert(path)
    assert (found.title, found.author, found.timestamp) == ("Sluices", "A. Keeper", "2026-01-30T12:00:00+01:00")
    assert sections(found) == [
        (1, None, "The first page."),
        (2, "Second", "The second page."),
        (3, "Second", "The third."),
    ]


def test_html_without_what_is_around_it(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        """<html><head><title>A &amp; B</title><meta name="author" content="A. Keeper"><style>p {}</style></head><body>
        <nav><a>Home</a></nav><main><h1>Sluices</h1><p>One <b>bold</b>
        word.</p><script>no()</script><h2>Gates</h2><ul><li>First</li><li>Second</li></ul><pre>a  b
  c</pre></main><footer>Imprint</footer></body></html>"""
    )
    found = convert(path)
    assert (found.title, found.author) == ("A & B", "A. Keeper")
    assert found.text == "Sluices\n\nOne bold word.\n\nGates\n\nFirst\n\nSecond\n\na  b\n  c"
    assert [row[:2] for row in sections(found)] == [(None, "Sluices"), (None, "Sluices › Gates")]


def test_html_in_its_own_encoding_and_as_xml(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes('<meta charset="iso-8859-1"><p>Mühle</p>'.encode("cp1252"))
    assert convert(tmp_path / "a.html").text == "Mühle"
    head = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a.js"/></head>'
    (tmp_path / "a.xhtml").write_text(f"{head}<body><p>A</p></body></html>")
    assert convert(tmp_path / "a.xhtml").text == "A"


def _without_core_properties(path: Path, to: Path) -> None:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w") as made:
        for name in archive.namelist():
            raw = archive.read(name)
            if name in ("_rels/.rels", "[Content_Types].xml"):
                raw = re.sub(rb"<(Relationship|Override) [^>]*docProps/core[^>]*>", b"", raw)
            if name != "docProps/core.xml":
                made.writestr(name, raw)


def test_office(tmp_path: Path) -> None:
    import docx
    import odfdo
    import pptx
    import xlsxwriter

    word = docx.Document()
    word.core_properties.author = "A. Keeper"
    word.add_heading("Sluices", 1)
    word.add_paragraph("A paragraph.")
    table = word.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "gate", "open"
    word.save(str(tmp_path / "a.docx"))
    found = convert(tmp_path / "a.docx")
    assert (found.author, found.text) == ("A. Keeper", "Sluices\n\nA paragraph.\n\ngate | open")
    assert found.sections[0].heading == "Sluices"

    _without_core_properties(tmp_path / "a.docx", tmp_path / "b.docx")
    found = convert(tmp_path / "b.docx")
    assert (found.title, found.author, found.timestamp) == (None, None, None), "not those of the library's template"

    slides = pptx.Presentation()
    for title in ("First", "Second"):
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, f"About {title}."
    slides.save(str(tmp_path / "a.pptx"))
    assert sections(convert(tmp_path / "a.pptx")) == [
        (1, "First", "First\nAbout First."),
        (2, "Second", "Second\nAbout Second."),
    ]

    with xlsxwriter.Workbook(str(tmp_path / "a.xlsx")) as book:
        sheet = book.add_worksheet("Gates")
        for number, row in enumerate((("name", "metres"), ("North", 3), ("South", 4.5))):
            sheet.write_row(number, 0, row)
    assert sections(convert(tmp_path / "a.xlsx")) == [
        (None, "Gates", "name | metres\nname: North, metres: 3\nname: South, metres: 4.5")
    ]

    text = odfdo.Document("text")
    text.body.clear()
    text.body.append(odfdo.Header(1, "Sluices"))
    text.body.append(odfdo.Paragraph("A paragraph."))
    text.save(str(tmp_path / "a.odt"))
    assert sections(convert(tmp_path / "a.odt")) == [(None, "Sluices", "Sluices\n\nA paragraph.")]


def epub_of(path: Path, *, encrypts: str = "", files: dict[str, str | bytes] | None = None) -> None:
    """A book in a folder of its archive, with a package document for three chapters and a table of contents."""
    package = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:opf="http://www.idpf.org/2007/opf"><metadata
        xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Sluices &amp; Gates</dc:title><dc:creator>A. Keeper
        </dc:creator><dc:date opf:event="modification">2024-02-03</dc:date>
        <dc:date opf:event="publication">2019</dc:date></metadata><manifest>
        <item id="two" href="b%20b.xhtml" media-type="application/xhtml+xml"/>
        <item id="one" href="a.xhtml" media-type="application/xhtml+xml"/>
        <item id="toc" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>
        <item id="cover" href="cover.svg" media-type="image/svg+xml"/>
        </manifest><spine><itemref idref="cover"/><itemref idref="toc"/><itemref idref="one"/><itemref idref="two"/>
        <itemref idref="nowhere"/></spine></package>"""
    parts: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": package,
        "OEBPS/toc.xhtml": "<html><body><h1>Contents</h1></body></html>",
        "OEBPS/a.xhtml": '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
        '<script src="a.js"/></head><body><h1>The <i>first</i></h1><p>One.</p></body></html>',
        "OEBPS/b b.xhtml": "<html><body><article><h2>Below</h2><p>Two.</p></article><article><p>Three: ä.</p></article>"
        "</body></html>",
        **(files or {}),
    }
    if encrypts:
        parts["META-INF/encryption.xml"] = (
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
            '<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#">'
            f'<EncryptionMethod Algorithm="{encrypts}"/></EncryptedData></encryption>'
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_epub_in_the_order_of_its_spine(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    epub_of(path, encrypts="http://www.idpf.org/2008/embedding")  # of fonts
    found = convert(path)
    assert (found.title, found.author, found.timestamp) == ("Sluices & Gates", "A. Keeper", "2019-01-01T00:00:00Z")
    assert sections(found) == [
        (None, "The first", "The first\n\nOne."),
        (None, "The first › Below", "Below\n\nTwo.\n\nThree: ä."),
    ]


def test_epub_that_is_encrypted_or_none_says_so(tmp_path: Path) -> None:
    epub_of(tmp_path / "locked.epub", encrypts="http://www.w3.org/2001/04/xmlenc#aes256-cbc")
    with zipfile.ZipFile(tmp_path / "none.epub", "w") as archive:
        archive.writestr("a.txt", "text")
    with zipfile.ZipFile(tmp_path / "many.epub", "w") as archive:
        for number in range(builder.ENTRIES + 1):
            archive.writestr(f"{number}", "")
    names = "abcdefghij"
    laughs = '<!ENTITY a "ha">' + "".join(f'<!ENTITY {name} "{f"&{below};" * 10}">' for below, name in pairwise(names))
    epub_of(tmp_path / "laughs.epub", files={"OEBPS/book.opf": f"<!DOCTYPE package [{laughs}]><package>&j;</package>"})
    for name, part in (
        ("locked", r"the book is encrypted \(DRM\)"),
        ("none", "no EPUB: META-INF/container.xml is not in the archive"),
        ("many", "files in the archive: more than 50000"),
        ("laughs", "no valid .epub: ParseError: limit on input amplification"),
    ):
        with pytest.raises(ConversionError, match=part):
            convert(tmp_path / f"{name}.epub")


def test_rtf_with_what_it_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "a.rtf").write_bytes(
        rb"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fswiss\fcharset0 Arial;}}{\info{\title Schleusen \'fcberall}"
        rb"{\author A. Keeper}{\creatim\yr2026\mo1\dy30\hr12\min5}}\binfsxn1 {\pict\bin3 }{\}"
        rb"\f0 Die M\'fchle, M\u252?hle, \u-10179?\u-8704? and M" + b"\xfc" + rb"hle.\par\par Two \{braces\}.\par "
        rb"\trowd one\cell two\cell\row }and what is behind it"
    )
    assert convert(tmp_path / "a.rtf") == Converted(
        text="Die Mühle, Mühle, \U0001f600 and Mühle.\n\nTwo {braces}.\none|two|",
        title="Schleusen überall",
        author="A. Keeper",
        timestamp="2026-01-30T12:05:00Z",
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "Die Schleuse wurde geöffnet, und das Wasser floß über die Mühle hinweg.\nÄpfel und Öl."
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert convert(tmp_path / "a.txt").text == text
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode(encoding)))
    assert convert(tmp_path / "b.txt.gz").text == text


def test_markdown_restructured_text_and_tables(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("intro\n\n# One\n\ntext\n\n```sh\n# no heading\n```\n\n## Two ##\n\nmore\n")
    found = convert(tmp_path / "a.md")
    assert (found.title, [row[1:] for row in sections(found)]) == (
        "One",
        [("One", "# One\n\ntext\n\n```sh\n# no heading\n```\n\n"), ("One › Two", "## Two ##\n\nmore\n")],
    )
    (tmp_path / "a.md").write_text("no heading")
    assert convert(tmp_path / "a.md") == Converted(text="no heading")
    (tmp_path / "a.rst").write_text("=====\nTitle\n=====\n\nintro\n\nPart\n====\n\ntext\n\nSub\n---\n\nmore\n")
    found = convert(tmp_path / "a.rst")
    assert (found.title, [row.heading for row in found.sections]) == (
        "Title",
        ["Title", "Title › Part", "Title › Part › Sub"],
    )
    (tmp_path / "a.csv").write_text('name;metres\n"North; old";3\nSouth;\n')
    assert convert(tmp_path / "a.csv").text == "name | metres\nname: North; old, metres: 3\nname: South"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.pdf", b"%PDF-1.4 truncated", "no valid .pdf"),
        ("a.docx", b"PK\x03\x04 nothing", "no valid .docx"),
        ("a.html", gzip.compress(b"<p>Text.", mtime=0), "it is packed with gzip: a name that ends with .gz says so"),
        ("a.html", bytes(range(128, 256)) * 9, "it is no HTML, or in an encoding that it does not tell"),
        ("a.xlsx", b"", "no valid .xlsx"),
        ("a.epub", b"PK\x03\x04 nothing", "no valid .epub"),
        ("a.rtf", b"text", "no valid .rtf: it does not begin as one"),
        ("a.txt.gz", gzip.compress(b"text", mtime=0)[:-4], "no valid .txt"),
        ("a.html", b"<p> </p>" + b" " * 20_000, "no text in"),
        ("a.txt", b"ab\0c", "no text: it has NUL characters"),
    ],
)
def test_what_is_broken_says_why(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConversionError, match=part):
        convert(tmp_path / name)


def test_bombs_end_a_process_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as part:
        for _ in range(600):
            part.write(bytes(1024**2))
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(bytes(1024**2)) * 600)
    (tmp_path / "deep.html").write_text("<div>" * 300_000 + "text")
    (tmp_path / "good.md").write_text("# Good")

    async def run(patience_s: float, *names: str) -> list[str]:
        converter, told = Converter(patience_s, memory_bytes=600 * 1024**2), list[str]()
        for name in names:
            try:
                told.append((await converter.convert(tmp_path / name, kind_of(name) or "")).text)
            except ConversionError as exc:
                told.append(str(exc))
        await converter.close()
        return told

    docx, gz, good = asyncio.run(run(60.0, "bomb.docx", "bomb.txt.gz", "good.md"))
    assert "bytes when it is unpacked" in docx
    assert "bytes when it is unpacked" in gz
    assert good == "# Good"
    asyncio.run(run(2.0, "deep.html"))  # which takes for ever, or not: as the library likes
    assert not [child for child in psutil.Process().children() if "agents.sources.convert.child" in child.cmdline()]


def test_a_process_that_hangs_or_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text("# A")
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\nread = pathlib.Path.read_bytes\n"
        "def act(path):\n"
        "    if path.name == 'hang.md':\n        import time; time.sleep(600)\n"
        "    if path.name == 'spin.md':\n        while True: pass\n"
        "    if path.name == 'die.md':\n        os.abort()\n"
        "    return read(path)\n"
        "pathlib.Path.read_bytes = act\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def run() -> list[str]:
        converter, told = Converter(), list[str]()
        for name in ("a.md", "hang.md", "a.md", "die.md", "a.md", "spin.md"):
            converter._patience_s = 10.0 if name == "hang.md" else PATIENCE_S  # a start may take long, too
            if name == "spin.md":
                await converter.close()
                converter = Converter(cpu_s=1.0)
            (tmp_path / name).write_text("# A")
            try:
                told.append((await converter.convert(tmp_path / name, ".md")).text)
            except ConversionError as exc:
                told.append(str(exc))
        await converter.close()
        return told

    one, hung, two, died, three, spun = asyncio.run(run())
    assert (one, two, three) == ("# A", "# A", "# A")
    assert (hung, spun) == ("it took more than 10 s", "it took more than 1 s of a processor")
    assert "ended its process" in died


def test_what_converts_goes_after_a_worker_on_the_same_machine(tmp_path: Path) -> None:
    own = os.nice(0)
    if own == LOWEST:
        pytest.skip("the tests have the lowest priority themselves: nothing can be below them")
    (tmp_path / "a.md").write_text("# A")

    async def run() -> list[int]:
        converter = Converter()
        await converter.convert(tmp_path / "a.md", ".md")
        (child,) = [one for one in psutil.Process().children() if "agents.sources.convert.child" in one.cmdline()]
        found = [child.nice(), *(os.getpriority(os.PRIO_PROCESS, one.id) for one in child.threads())]
        await converter.close()
        return found

    assert set(asyncio.run(run())) == {min(own + NICENESS, LOWEST)}


def test_where_a_heading_stands_on_its_page_is_where_its_section_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_of("One.", "The end of one.) Tj 0 -20 Td (2.1 Second) Tj 0 -20 Td (It begins here."))
    assert sections(convert(path)) == [
        (1, None, "One."),
        (2, None, "The end of one."),
        (2, "Second", "2.1 Second\nIt begins here."),
    ]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("one\n1\n2\n", "one: 1\none: 2"),
        ("version,codename,eol\n1.1,Buzz,1997-06-05\n13,Trixie\n", "version: 1.1, codename: Buzz, eol: 1997-06-05"),
        ("name;size\nlock;3,5\n", "name: lock, size: 3,5"),
        ("1 2\n3 4\n", "1 2: 3 4"),
        ("a\tb\n1\t2\n", "a: 1, b: 2"),
        ('a,b\n"one\u2028two",' + "x" * 200_000 + "\n", "a: one\u2028two, b: xxx"),
    ],
)
def test_tables_with_one_column_few_rows_or_another_delimiter(tmp_path: Path, raw: str, text: str) -> None:
    (tmp_path / "a.csv").write_text(raw)
    assert text in convert(tmp_path / "a.csv").text
