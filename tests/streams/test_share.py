"""The share of rejected records."""

import pytest

from streams.share import WINDOW, Share


@pytest.mark.parametrize(
    ("records", "rejected", "ratio", "exceeded"),
    [
        (1, 1, 0.5, False),
        (500, 500, 0.5, False),
        (501, 501, 0.5, True),
        (WINDOW, 500, 0.5, False),
        (WINDOW, 501, 0.5, True),
        (3000, 1000, 0.5, False),
        (3000, 3000, 1.0, False),
        (1, 1, 0.0, True),
        (WINDOW, 0, 0.0, False),
    ],
)
def test_more_than_the_share_of_a_thousand(records: int, rejected: int, ratio: float, exceeded: bool) -> None:
    share = Share(records=records, rejected=rejected)
    assert share.exceeds(ratio) is exceeded
    assert share.full is (records >= WINDOW)
    assert share.plus(Share(records=1, rejected=1)) == Share(records=records + 1, rejected=rejected + 1)
