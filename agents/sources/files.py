"""Files and folders of this machine. An object's id is its URI; its tag is when it was changed, with its size."""

import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.patterns import EXCLUDED, Patterns
from agents.sources.reading import TAKEN, Ids, Origin, Reading, cannot, why_passed_over
from streams.errors import ConfigError

LOCKS = (".#", "~$")
"""Before the name of a file that somebody has open, in Emacs and in office programs."""


def file_sources(paths: Sequence[Path], ids: Ids, patterns: Patterns = Patterns()) -> "list[Files]":  # noqa: B008 - frozen
    """A source for each path, in their order, twice the same once.

    Raises ConfigError for a path that does not exist or cannot be looked at, and a named file of an unknown kind.
    """
    found: dict[str, Files] = {}
    for path in paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ConfigError(
                f"{path} does not exist. To delete the document of a file that is gone, ingest its folder with --sync, "
                "or send DELETE to `penstock ingest serve`"
            ) from None
        except (OSError, ValueError) as exc:
            raise ConfigError(f"{path} {cannot(exc)}") from exc
        if not stat.S_ISDIR(mode) and (why := why_passed_over(path.name)):
            raise ConfigError(f"{path}: {why.option or TAKEN}")
        source = Files(path, ids, patterns)
        found[source.name] = source
    return list(found.values())


class Files:
    """`Source` of a folder with all below it, or of one file. Links to folders are not followed."""

    def __init__(self, path: Path, ids: Ids, patterns: Patterns = Patterns()) -> None:  # noqa: B008 - frozen
        self._path = path.resolve() if ".." in path.parts else path.absolute()  # a link may lead elsewhere tomorrow
        self._folder = self._path.is_dir()
        self._patterns = patterns
        self._reading = Reading(ids)

    async def close(self) -> None:
        """End the process that converts."""
        await self._reading.close()

    @property
    def name(self) -> str:
        """The URI of the folder, which ends with a slash, or of the file."""
        return self._path.as_uri().rstrip("/") + "/" if self._folder else self._path.as_uri()

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """Every file of a kind that is taken."""
        for found in self._found():
            if not isinstance(found, Path):
                yield found
            elif not self._patterns.takes(self._relative(found)):
                yield EXCLUDED
            else:
                listed = why_passed_over(found.name) or _listed(found)
                if listed is not None:
                    yield listed

    def excludes(self, name: str) -> bool:
        """As `Source` says."""
        return not self._patterns.takes(self._relative(_path_of(name)))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._path).as_posix() if self._folder else path.name

    def _found(self) -> Iterator[Path | Failure | PassedOver]:
        if not self._folder:
            yield self._path
            return
        unreadable: list[OSError] = []
        for inside, folders, names in os.walk(self._path, onerror=unreadable.append):
            entered = [name for name in sorted(folders) if self._patterns.enters(self._relative(Path(inside) / name))]
            yield from (EXCLUDED for _ in range(len(folders) - len(entered)))
            folders[:] = entered
            yield from (Path(inside) / name for name in sorted(names))
            yield from (_failed(Path(exc.filename), exc) for exc in unreadable)
            unreadable.clear()
        yield from (_failed(Path(exc.filename), exc) for exc in unreadable)

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure]:
        """As `Reading.documents`."""
        path = _path_of(listed.id)
        try:
            path.stat()
        except OSError as exc:
            yield Failure(origin=str(path), reason=cannot(exc))
            return
        origin = Origin(uri=listed.id, shown=str(path), relative=self._relative(path))
        async for found in self._reading.documents(path, origin):
            yield found


def _path_of(uri: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def _failed(path: Path, exc: OSError) -> Failure:
    return Failure(origin=str(path), reason=cannot(exc), object=path.as_uri())


def _listed(file: Path) -> Listed | PassedOver | None:
    if file.name.startswith(LOCKS):
        return PassedOver(kind="lock file")
    try:
        found = file.stat()
    except OSError as exc:  # a link that leads nowhere, or a folder that may be listed and not entered
        if not os.path.lexists(file):
            return None  # it went since it was seen
        return Listed(id=file.as_uri(), tag=type(exc).__name__)  # reading it says why; all else is known
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for somebody to write
        return PassedOver(kind="no regular file")
    return Listed(id=file.as_uri(), tag=f"{found.st_mtime_ns}-{found.st_size}", size=found.st_size)
