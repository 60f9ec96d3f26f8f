"""The same questions to two generations, each with its own model: how alike is what readers would find?"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from agents.elastic.client import Client
from agents.operations.search import QueryModels, search
from agents.progress import Report
from agents.settings import Settings
from streams.agreement import Agreements, agreement, summary
from streams.errors import ConfigError
from streams.generations import Generation


def read_queries(path: Path) -> list[str]:
    """One question a line; empty lines and those that begin with # are left out. Raises ConfigError without any."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as exc:
        raise ConfigError(f"--queries {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"--queries {path} is not UTF-8 text") from None
    queries = [line for line in lines if line and not line.startswith("#")]
    if not queries:
        raise ConfigError(f"--queries {path} has no questions: one a line is needed")
    return queries


async def compare(
    client: Client,
    settings: Settings,
    generations: tuple[Generation, Generation],
    queries: Sequence[str],
    k: int,
    report: Report,
) -> Agreements:
    """Top k of each question in both. Chunks are compared where both were split alike, else documents."""
    first, second = generations
    by_chunk = _cuts(first) == _cuts(second)
    rows = []
    with closing(QueryModels(settings)) as models:
        for number, query in enumerate(queries, 1):
            found = []
            for generation in generations:
                question = await models.question(generation, query)
                found.append(_ids(await search(client, settings, generation, question, k), by_chunk=by_chunk))
            rows.append(agreement(query, *found))
            report("canary queries", number, len(queries))
    return summary(rows)


def _cuts(generation: Generation) -> dict[str, Any]:
    """What decides where its texts are cut."""
    return {name: value for name, value in generation.contract["split"].items() if name != "document_vector"}


def _ids(hits: Sequence[dict[str, Any]], *, by_chunk: bool) -> list[str]:
    return list(dict.fromkeys(hit["id"] if by_chunk else hit["metadata"].get("doc_id", hit["id"]) for hit in hits))
