"""The index contract: differences are named field by field."""

import pytest

from streams.contract import chunk_mappings, differences, fingerprint, same_log, this_very_log

CONTRACT = {
    "model": {"name": "m", "dims": 3},
    "similarity": "cosine",
    "source": {"topic": "t", "partitions": 4},
    "cuts": [],
}


def test_differences_name_the_field_and_both_sides() -> None:
    other = {**CONTRACT, "model": {"name": "m", "dims": 5}}
    assert differences(CONTRACT, other) == ["model.dims: index 3, worker 5"]
    assert differences(CONTRACT, CONTRACT) == []


def test_cuts_are_the_indexs_life_and_not_its_contract() -> None:
    grown = {**CONTRACT, "cuts": [{"0": 10}], "source": {"topic": "t", "partitions": 4, "log": "c/t"}}
    assert differences(grown, CONTRACT) == []
    assert fingerprint(grown) == fingerprint(CONTRACT)


def test_mapping_is_strict_and_holds_the_contract() -> None:
    fields = {"text": "text", "vector": "v", "metadata": {"year": "integer", "tag": "keyword"}}
    contract = {**CONTRACT, "fields": fields, "split": {}}
    mapping = chunk_mappings(contract, index_options={"type": "int8_hnsw"})
    fields = mapping["properties"]["metadata"]["properties"]
    assert fields["year"] == {"type": "integer"}
    assert fields["tag"] == fields["author"], "bounded like every keyword"
    assert mapping["dynamic"] == "strict"
    assert mapping["_meta"]["penstock"] == contract
    assert mapping["properties"]["v"]["dims"] == 3


@pytest.mark.parametrize(
    ("first", "second", "same", "very"),
    [
        ("c/t", "c/t", True, True),
        ("c/t", "c2/t", True, True),  # a topic's id is unique by itself
        ("c/t", "c/t2", False, False),
        ("c/", "c/t", True, False),  # the broker was upgraded
        ("c/", "c2/t", False, False),
        ("c/", "c/", True, False),
        (None, "c/t", True, False),
        ("/", "c/t", True, False),
    ],
)
def test_two_identities_of_one_log(first: str | None, second: str, same: bool, very: bool) -> None:
    assert (same_log(first, second), this_very_log(first, second)) == (same, very)
