"""Named places where a test can have the process die as if killed: `PENSTOCK_FAIL_POINT=after_chunks:3`.

The process sends itself SIGKILL the third time it passes `after_chunks`. Does nothing otherwise.
"""

import os
import signal
from typing import Literal

FailPointName = Literal["after_intent", "mid_chunks", "after_chunks", "after_done", "before_claim", "after_claim"]


class FailPoints:
    """`spec`: `name` or `name:nth`; empty for none."""

    def __init__(self, spec: str = "") -> None:
        self._name, _, nth = spec.partition(":")
        self._left = int(nth or 1)

    def passing(self, name: FailPointName) -> None:
        """Die here if it is this point's turn."""
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
