"""What is scattered, what travels, and what is said of an engine's failure; Beam itself is run on the real stack."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agents.beam.engine import processes_of
from agents.beam.ranges import LEAST, MOST, Range, scattered
from agents.settings import Settings
from agents.settings.secrets import give_to_children, with_secrets, without_secrets
from agents.settings.sections import ElasticsearchSettings, KafkaSettings

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
