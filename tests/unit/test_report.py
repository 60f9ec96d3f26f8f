"""The README's figures are the bench's."""

import json

from bench.report import MARKS, README, RESULTS, render


def test_the_readmes_table_is_the_last_result() -> None:
    (found,) = MARKS.finditer(README.read_text())
    assert found[0] == found[1] + render(json.loads(RESULTS.read_text())) + found[2]
