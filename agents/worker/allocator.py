"""How the process gives memory back."""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
LARGE_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """Have glibc give blocks of 128 KiB and more back as soon as they are freed; elsewhere nothing happens.

    By itself it raises that threshold to the largest block that was ever freed, up to 32 MiB: records of a megabyte,
    which come and go in many threads, then leave holes in its heaps (mallopt(3), M_MMAP_THRESHOLD).
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
