"""Files wherever Beam's file systems find them, byte for byte: what is packed is unpacked by who reads it."""

from collections.abc import Sequence
from typing import IO, cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

SAID_CHARS = 300


def reach(options: Sequence[str]) -> None:
    """Stores as Beam's own options say; for this process."""
    FileSystems.set_options(PipelineOptions(list(options)))


def opened(path: str) -> IO[bytes]:
    """To read. Raises OSError where it cannot be reached."""
    return cast(IO[bytes], FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def created(path: str) -> IO[bytes]:
    """To write, in the place of what is there. Raises OSError where it cannot be reached."""
    return cast(IO[bytes], FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED))


def said(exc: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(exc).split())[:SAID_CHARS]
