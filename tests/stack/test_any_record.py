"""Faults 40 and 41: records of every kind, at the level of bytes; at length in `make chaos`."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.kit.harness import Servers
from tests.kit.records import batches
from tests.kit.search import Search

SEED = int(os.environ.get("SEED") or 41)
LIMIT = 1024**2 + 200_000
"""Bytes of a batch: a key may be larger than a dead-letter topic takes by default."""
SHRINK_S = 120


@pytest.mark.timeout(600)
def test_records_of_every_kind_harm_nobody(servers: Servers, model_folder: Path, tmp_path: Path) -> None:
    search = Search(servers, model_folder, tmp_path, {"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(32 * 1024**2)}, LIMIT)
    found = list(batches(random.Random(SEED), 800, limit=LIMIT))
    tried, trouble = search.attempt(found[::2], found[1::2])
    if trouble:
        pytest.fail(f"seed {SEED}: {search.shrink(trouble, time.monotonic() + SHRINK_S)}")
    assert tried.indexed > 200
    assert sum(tried.letters.values()) > 100
