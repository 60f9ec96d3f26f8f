"""Questions, and which documents answer them, as people keep them: BEIR's files, TREC's, or one question a line."""

import math
from collections.abc import Iterable

import orjson

from streams.errors import ConfigError

BEIR_HEAD = ("query-id", "corpus-id", "score")

Queries = dict[str, str]
"""Text by id."""
Judgements = dict[str, dict[str, float]]
"""Gain by document, by question; only what is above 0."""


def read_queries(lines: Iterable[str], name: str) -> Queries:
    """Of BEIR's JSON lines (`{"_id": …, "text": …}`), of `id<TAB>text`, or of texts alone, whose ids are their numbers.

    Raises ConfigError naming the line at fault, or the file where it is empty.
    """
    found: Queries = {}
    for number, line in _lines(lines):
        key, text = _query(line, str(number), f"{name}, line {number}")
        if key in found:
            raise ConfigError(f"{name}, line {number}: there is a question {key} already: give each an id of its own")
        found[key] = text
    if not found:
        raise ConfigError(f"{name} has no questions: write one a line")
    return found


def _query(line: str, number: str, where: str) -> tuple[str, str]:
    if line.startswith("{"):
        try:
            row = orjson.loads(line)
            key, text = str(row["_id"]), row["text"]
        except (orjson.JSONDecodeError, KeyError) as exc:
            raise ConfigError(f'{where}: not a question such as {{"_id": "q1", "text": "…"}} ({exc})') from exc
    elif "\t" in line:
        key, _, text = line.partition("\t")
    else:
        key, text = number, line
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{where}: the question has no text")
    return key.strip(), text.strip()


def read_qrels(lines: Iterable[str], name: str) -> Judgements:
    """Of BEIR's table (`query-id<TAB>corpus-id<TAB>score`) or TREC's (`query 0 document gain`).

    Raises ConfigError naming the line at fault, or the file where nothing in it is relevant.
    """
    found: Judgements = {}
    for number, line in _lines(lines):
        fields = line.split("\t") if line.count("\t") >= 2 else line.split()
        if tuple(fields) == BEIR_HEAD:
            continue
        if len(fields) == 4:
            fields = [fields[0], *fields[2:]]
        try:
            query, document, gain = fields[0].strip(), fields[1].strip(), float(fields[2])
            if not math.isfinite(gain):
                raise ValueError
        except (ValueError, IndexError):
            raise ConfigError(
                f"{name}, line {number}: not a judgement: `query document gain` between tabs, as BEIR has it, or "
                "`query 0 document gain`, as TREC has it"
            ) from None
        if gain > 0:
            found.setdefault(query, {})[document] = gain
    if not found:
        raise ConfigError(f"{name} has no judgement above 0: which documents answer a question?")
    return found


def _lines(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    return ((number, line.strip("\r\n")) for number, line in enumerate(lines, 1) if line.strip())
