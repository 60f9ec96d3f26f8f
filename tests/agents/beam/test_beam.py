"""What is scattered, what travels, and what is said of an engine's failure; Beam itself is run on the real stack."""

import asyncio
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agents.beam.engine import processes_of
from agents.beam.ranges import LEAST, MOST, MOST_BYTES, Piece, Range, pieces, scattered
from agents.beam.taking import Taking, log_pages
from agents.settings import Settings
from agents.settings.secrets import give_to_children, with_secrets, without_secrets
from agents.settings.sections import ElasticsearchSettings, KafkaSettings
from streams.errors import RefusedError
from streams.memory import MemoryLog, Partition
from streams.plan import FieldNames, Space
from streams.protocol import Work
from streams.record import Record
from streams.snapshot import File


class Stages:
    """Rejects the records of which it is told."""

    def __init__(self, rejected: set[int]) -> None:
        self.rejected = rejected

    def work_of(self, record: Record) -> Work:
        return Work(record, 0, Space(model="m", dims=2, names=FieldNames()))

    async def ready(self, _: Sequence[Record]) -> None: ...

    async def unsettled(self, works: list[Work]) -> list[Work]:
        return works

    async def prepare(self, works: Sequence[Work]) -> None: ...

    async def through(self, works: Sequence[Work]) -> None:
        for work in works:
            if work.record.offset in self.rejected:
                work.outcome = "dead_lettered"


spans = st.tuples(st.integers(0, 10**6), st.integers(0, 200_000)).map(lambda row: range(row[0], row[0] + row[1]))


@given(st.dictionaries(st.integers(0, 5), spans, max_size=5), st.integers(1, 64))
def test_each_offset_is_in_one_range(ranges: dict[int, range], processes: int) -> None:
    found = scattered(ranges, processes)
    for number, one in ranges.items():
        mine = sorted((part for part in found if part.partition == number), key=lambda part: part.start)
        assert [offset for part in mine for offset in (part.start, part.end)] == (
            [one.start, *(end for part in mine[:-1] for end in (part.end, part.end)), one.stop] if len(one) else []
        )
        assert all(part.end - part.start >= LEAST for part in mine[:-1])
    assert all(0 < part.end - part.start <= MOST for part in found)


def test_ranges_of_all_partitions_come_in_turn() -> None:
    found = scattered({0: range(1000), 7: range(10, 410)}, 1)
    assert found[:4] == [Range(0, 0, 200), Range(7, 10, 210), Range(0, 200, 400), Range(7, 210, 410)]


@given(st.lists(st.integers(0, 10**9), max_size=5), st.integers(1, 64))
def test_each_byte_of_a_file_is_in_one_piece(sizes: list[int], processes: int) -> None:
    names = [f"{number}{'.jsonl' if number % 2 else '.csv'}" for number in range(len(sizes))]
    groups = pieces([File(path=name, size=size) for name, size in zip(names, sizes, strict=True)], processes)
    found = [piece for group in groups for piece in group]
    assert all(len(group) == 1 or sum(one.end - one.start for one in group) <= MOST_BYTES for group in groups)
    for name, size in zip(names, sizes, strict=True):
        mine = [one for one in found if one.path == name]
        if name.endswith(".csv"):
            assert mine == [Piece(name, 0, size)], "it is read from its first line"
        else:
            assert [one.start for one in mine] == [0, *(one.end for one in mine)][: len(mine)]
            assert (mine[-1].end if mine else 0) == size
            assert all(one.end - one.start <= MOST_BYTES for one in mine)


def test_small_files_are_read_together() -> None:
    groups = pieces([File(path=f"{number}.md", size=1000) for number in range(3000)], 1)
    assert (len(groups) < 20, sum(map(len, groups))) == (True, 3000)


@pytest.mark.parametrize(
    ("options", "processes"),
    [
        ([], 1),
        (["--direct_num_workers=2"], 2),
        (["--parallelism", "8", "--flink_master=[local]"], 8),
        (["--num_workers=2", "--max_num_workers=20"], 20),
        (["--parallelism"], 1),
        (["--parallelism=many"], 1),
    ],
)
def test_processes_are_as_beam_is_told(options: list[str], processes: int) -> None:
    assert processes_of(options) == processes


def test_secrets_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """And come from the environment there."""
    secret = SecretStr("hidden")
    settings = Settings(
        kafka=KafkaSettings(security_protocol="SASL_SSL", sasl_username="u", sasl_password=secret),
        elasticsearch=ElasticsearchSettings(api_key=SecretStr("a2V5OmtleQ==")),
    )
    travelled = pickle.dumps(without_secrets(settings))
    assert b"hidden" not in travelled
    assert b"a2V5OmtleQ==" not in travelled
    for name in ("PENSTOCK_KAFKA__SASL_PASSWORD", "PENSTOCK_ELASTICSEARCH__API_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    arrived: Settings = pickle.loads(travelled)  # noqa: S301 - our own
    assert with_secrets(arrived) == arrived
    give_to_children(settings)
    assert with_secrets(arrived) == settings


@pytest.mark.parametrize(("rejected", "max_ratio", "ends"), [(150, 0.05, False), (40, 0.05, True), (1200, 1.0, True)])
def test_a_batch_ends_where_too_much_is_rejected(rejected: int, max_ratio: float, *, ends: bool) -> None:
    """In a thousand records, whatever came before them."""
    log = MemoryLog()
    log.partitions[0] = Partition()
    for offset in range(4000):
        record = Record(topic="t", partition=0, offset=offset, timestamp_ms=0, key=b"k", value=b"")
        log.partitions[0].append(record)
    stages: Any = Stages(set(range(2000, 2000 + rejected)))
    taking = Taking(stages, log_pages(stages, log, "t"), max_ratio=max_ratio)
    if ends:
        counts = asyncio.run(taking.take(Range(0, 0, 4000)))
        assert (counts["records"], counts["dead_lettered"]) == (4000, rejected)
    else:
        with pytest.raises(RefusedError, match=r"more than dead_letters.max_ratio = 0.05: `penstock dlq list`"):
            asyncio.run(taking.take(Range(0, 0, 4000)))
