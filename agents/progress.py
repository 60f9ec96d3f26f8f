"""How far long work is, as it tells its caller."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""What is being done, how much of it is, of how much."""
