"""Faults 40 and 41 at length: records of every kind, until the time is over; each finding is shrunk and gone around."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit.harness import Servers
from tests.kit.search import Search

LIMIT = 4 * 1024**2


@pytest.mark.timeout(7200)
def test_records_of_every_kind(
    servers: Servers, model_folder: Path, tmp_path: Path, minutes: float, summary: dict[str, Any]
) -> None:
    seed = int(os.environ.get("SEED") or time.time())
    tried, troubles = Search(servers, model_folder, tmp_path, {}, LIMIT).hunt(random.Random(seed), minutes, print)
    summary["any record: minutes, seed"] = f"{minutes:g}, {seed}"
    summary["any record: tried"] = tried.records
    summary["any record: indexed"] = tried.indexed
    summary["any record: RSS above rest MiB"] = round(tried.above_rest / 1024**2)
    for reason, count in tried.letters.most_common():
        summary[f"any record: {reason}"] = count
    summary["any record: findings"] = len(troubles)
    assert not troubles, "\n\n".join(map(str, troubles))
