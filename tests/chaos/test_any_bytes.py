"""Fault 41 without servers, at length: bytes of every kind through decoding, splitting and the writes."""

import os
import random
import time
from collections import Counter
from typing import Any

import pytest

from streams.record import Record
from tests.kit.records import VALUES, Recipe, bake
from tests.streams.test_any_record import through


def test_bytes_of_every_kind(minutes: float, summary: dict[str, Any]) -> None:
    """Values of every kind, their bytes changed, left out, doubled, and one put into another."""
    seed = int(os.environ.get("SEED") or time.time())
    rng, until = random.Random(seed), time.monotonic() + minutes * 60 / 10
    counts: Counter[str] = Counter()
    kinds = list(VALUES)
    pool = [b""]
    while time.monotonic() < until:
        if counts.total() % 200 == 0:  # what is changed now: some of each kind
            made = [bake(Recipe(seed=rng.getrandbits(40), room=int(10 ** rng.uniform(1, 4)), value=k)) for k in kinds]
            pool = [baked.value or b"" for baked in made]
        raw = bytearray(rng.choice(pool))
        for _ in range(rng.choice([1, 1, 2, 5])):
            start, length = rng.randint(0, len(raw)), rng.choice([0, 1, 1, 4, 40])
            other = rng.choice(pool)
            place = rng.randint(0, len(other))
            doubled = bytes(raw[start : start + length]) * 2
            part = rng.choice([b"", rng.randbytes(length), doubled, other[place : place + length]])
            raw[start : start + length] = part * rng.choice([1, 1, 1, 300])
        value = bytes(raw)
        try:
            counts[through(_record(value))] += 1
        except Exception as exc:  # noqa: BLE001 - whatever it is
            pytest.fail(f"seed {seed}: {exc!r:.300} by the value {_shortest(value, type(exc))!r}")
    summary["any bytes: minutes, seed"] = f"{minutes / 10:g}, {seed}"
    for outcome, count in counts.most_common():
        summary[f"any bytes: {outcome}"] = count


def _record(value: bytes) -> Record:
    return Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value)


def _shortest(value: bytes, kind: type[Exception]) -> bytes:
    """As short as it gets by leaving parts out, with an error of the same kind."""
    size = len(value) // 2
    while size:
        for start in range(0, len(value), size):
            less = value[:start] + value[start + size :]
            try:
                through(_record(less))
            except kind:
                value = less
                break
            except Exception:  # noqa: BLE001, S112 - another one
                continue
        else:
            size //= 2
    return value
