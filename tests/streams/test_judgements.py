"""Questions and judgements as people keep them; what is wrong is named with its line."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigError
from streams.judgements import read_qrels, read_queries

word = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(st.dictionaries(word, word, min_size=1))
def test_questions_in_each_form(queries: dict[str, str]) -> None:
    beir = [orjson.dumps({"_id": key, "text": text}).decode() for key, text in queries.items()]
    assert read_queries(beir, "q") == queries
    assert read_queries([f"{key}\t{text}\n" for key, text in queries.items()], "q") == queries
    plain = read_queries([f"{text}\n" for text in queries.values()], "q")
    assert list(plain.values()) == list(queries.values())


@given(st.dictionaries(word, st.dictionaries(word, st.integers(1, 3), min_size=1), min_size=1))
def test_judgements_in_each_form(judged: dict[str, dict[str, int]]) -> None:
    rows = [(query, document, gain) for query, found in judged.items() for document, gain in found.items()]
    beir = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t{gain}" for query, document, gain in rows)]
    trec = [f"{query} 0 {document} {gain}" for query, document, gain in rows]
    assert read_qrels(beir, "q") == read_qrels(trec, "q") == judged


def test_what_is_not_relevant_is_left_out() -> None:
    assert read_qrels(["1 0 a 0", "1 0 b 2", ""], "q") == {"1": {"b": 2.0}}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([""], "q has no questions"),
        (['{"_id": 1}'], "q, line 1: not a question"),
        (["a\tb", "a\tc"], "q, line 2: there is a question a already"),
        (["a\t "], "q, line 1: the question has no text"),
        (['{"_id": "1", "text": 3}'], "q, line 1: the question has no text"),
    ],
)
def test_a_mistake_in_questions_is_named(lines: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_queries(lines, "q")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1 0 a"], None),
        (["1 0 a x"], "line 1"),
        (["1 0 a 1e400"], "line 1"),
        (["1 0 a nan"], "line 1"),
        (["1"], "line 1"),
        (["1 0 a 0"], "no judgement above 0"),
    ],
)
def test_a_mistake_in_judgements_is_named(lines: list[str], words: str | None) -> None:
    if words is None:
        words = "line 1"
    with pytest.raises(ConfigError, match=words):
        read_qrels(lines, "q")
