"""Files that become text: to disk as they come, then one after the other through the converter's own process."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.sources import Failure, Outgoing
from agents.sources.convert import ConversionError
from agents.sources.convert.convert import Converter
from agents.sources.convert.kinds import GZIP, is_there, kind_of
from agents.sources.http import Limits
from agents.sources.http.body import parts, require_length
from agents.sources.http.call import Call
from agents.sources.http.problems import ProblemError, too_large
from agents.sources.http.room import Room
from agents.sources.media import UNKNOWN, media_type
from agents.sources.reading import of_file, stem_of

JSON = "application/json"
TYPES = {
    "application/epub+zip": ".epub",
    "application/pdf": ".pdf",
    "application/rtf": ".rtf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/xhtml+xml": ".xhtml",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/rtf": ".rtf",
    "text/tab-separated-values": ".tsv",
    "text/x-rst": ".rst",
}
"""Kinds by content type."""


def kind_in(call: Call) -> str | None:
    """Of what kind the body is; None for JSON. What `?filename=` says counts more than a content type.

    Raises ProblemError (415) for another kind, and one whose library is not installed.
    """
    content_type = media_type(call.request.headers).name or UNKNOWN
    if content_type == JSON:
        return None
    name = call.request.rel_url.query.get("filename", "")
    kind = kind_of(name) or (None if name else TYPES.get(content_type))
    if kind is None:
        raise ProblemError(
            415,
            f"{name or content_type} is of no kind that is read: send {JSON}, or the file itself with its Content-Type "
            "or `?filename=`",
            close=True,
        )
    if not is_there(kind):
        raise ProblemError(415, f"{kind} is not read here: its library is not installed on the server", close=True)
    return kind


class Uploads:
    """Of one server. Close it: it has a process that converts, from the first file on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room = Room(limits.uploads, f"too many files wait to be converted ({limits.uploads})")
        self._converter = Converter()
        self._converting = asyncio.Lock()

    async def close(self) -> None:
        """End that process. Twice is harmless."""
        await self._converter.close()

    async def document(self, call: Call, kind: str) -> Outgoing:
        """Of the file in the body. Raises ProblemError: 413, 503 without room, 422 where it gives no document."""
        require_length(call.request, "the file", self._limits.upload)
        name = call.request.rel_url.query.get("filename", "")
        with self._room.held():
            async with self._on_disk(call, kind + (GZIP if name.lower().endswith(GZIP) else "")) as path:
                try:
                    async with self._converting:  # in the order in which they came
                        converted = await self._converter.convert(path, kind)
                except ConversionError as exc:
                    raise ProblemError(422, str(exc)) from exc
        query = call.request.rel_url.query
        title = query.get("title") or stem_of(name or call.doc_id)
        made = of_file(converted, call.doc_id, call.doc_id, title=title, url=query.get("url"))
        if isinstance(made, Failure):
            raise ProblemError(422, made.reason)
        return made

    @asynccontextmanager
    async def _on_disk(self, call: Call, suffix: str) -> AsyncIterator[Path]:
        """The body, as a file, while it is needed."""
        number, name = tempfile.mkstemp(prefix="penstock-upload-", suffix=suffix)
        try:
            size = 0
            with os.fdopen(number, "wb") as file:
                async for part in parts(call.request, idle_s=self._limits.idle_s):
                    size += len(part)
                    if size > self._limits.upload:
                        raise too_large("the file", self._limits.upload)
                    await asyncio.to_thread(file.write, part)
            yield Path(name)
        finally:
            os.unlink(name)
