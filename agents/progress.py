"""How far long work is, as it tells its caller."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called with the step's name, the items done, and the items in all."""
