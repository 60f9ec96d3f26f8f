"""EPUB (W3C, EPUB 3.3; 2 is alike): an archive of XHTML, which its package document lists in the order of reading."""

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from agents.sources.convert import ConversionError, Converted
from agents.sources.convert.builder import Builder, iso, require_bounded
from agents.sources.convert.decoded import decoded
from agents.sources.convert.formats import add_html, parsed

CONTAINER = "META-INF/container.xml"
"""Where it says which of its files is the package document."""
ENCRYPTION = "META-INF/encryption.xml"
OF_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""What hides fonts alone, and no text."""
TEXTS = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")
Element = ElementTree.Element


def epub(path: Path) -> Converted:
    """What the spine lists, in its order, its tables of contents aside; headings from `h1` to `h6`.

    Raises ConversionError also for a book that is encrypted.
    """
    require_bounded(path)
    built = Builder()
    with zipfile.ZipFile(path) as archive:
        _require_open(archive)
        name = _package_name(archive)
        package = _xml(archive, name)
        for href in _spine(package):
            inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(href)))
            if top := parsed(decoded(archive.read(inside), None)).body:
                add_html(built, top)
    date = _said(package, "date")
    return built.built(
        title=_said(package, "title"),
        author=_said(package, "creator"),
        timestamp=iso(date + "-01-01"[len(date) - 4 :] if len(date) in (4, 7) else date),  # of a year, its first day
    )


def _require_open(archive: zipfile.ZipFile) -> None:
    """Raises ConversionError where more than fonts is encrypted."""
    names = archive.namelist()
    locked = any(row.flag_bits & 1 for row in archive.infolist())
    if ENCRYPTION in names:
        found = _xml(archive, ENCRYPTION).iterfind("{*}EncryptedData/{*}EncryptionMethod")
        locked = locked or any(method.get("Algorithm") not in OF_FONTS for method in found)
    if locked:
        raise ConversionError("the book is encrypted (DRM): only a copy without that can be read")


def _package_name(archive: zipfile.ZipFile) -> str:
    if CONTAINER not in archive.namelist():
        raise ConversionError(f"no EPUB: {CONTAINER} is not in the archive")
    found = _xml(archive, CONTAINER).find(".//{*}rootfile[@full-path]")
    if found is None:
        raise ConversionError(f"no EPUB: {CONTAINER} names no package document")
    return found.get("full-path", "")


def _spine(package: Element) -> Iterator[str]:
    """Where the texts are, relative to the package document."""
    items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    for row in package.iterfind("{*}spine/{*}itemref"):
        item = items.get(row.get("idref"))
        if item is not None and item.get("media-type") in TEXTS and "nav" not in item.get("properties", "").split():
            yield item.get("href", "")


def _said(package: Element, name: str) -> str:
    """Of all that have this name the first; of dates the one of publication, where one is."""
    found = package.findall(f"{{*}}metadata//{{http://purl.org/dc/elements/1.1/}}{name}")
    found.sort(key=lambda one: "publication" not in one.attrib.values())
    return "".join(found[0].itertext()).strip() if found else ""


def _xml(archive: zipfile.ZipFile, name: str) -> Element:
    return ElementTree.fromstring(archive.read(name))  # noqa: S314 - expat bounds entities, and we are a bounded child
