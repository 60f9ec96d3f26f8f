"""How the process keeps the memory that it has freed."""

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8


def use_two_heaps() -> None:
    """Have glibc keep two heaps for all threads, instead of up to eight for each core; elsewhere nothing happens.

    Bodies of a megabyte are fetched, read, encoded and sent by different threads, and what one heap has free is of no
    use to another (mallopt(3), M_ARENA_MAX). Call it before there are other threads.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
