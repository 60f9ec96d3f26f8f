"""What so many documents a second take, computed from the last result: the table of docs/capacity.md.

Linear, from CPU seconds a chunk and a document: more cores of the same kind do the same work in less time. Whoever has
another machine, model or document runs `make bench` there.
"""

import math
from dataclasses import dataclass
from typing import Any

TARGETS = (1_000, 10_000, 100_000)
"""Documents a second."""
CHUNKS = 5
"""A document; as in the null rows."""
BUSY = 0.6
"""Share of the cores that is planned for: the rest is for peaks, merges, rebalances and a node that is away."""
COPIES = {"broker": 3, "data node": 2}
"""Replication factor, and shards with one replica."""
CORES = {"worker": 16, "broker": 8, "data node": 16}
PARTITIONS_A_WORKER = 2
"""So that one more worker has something to take."""
LEAST = {"worker": 2, "broker": 3, "data node": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU seconds. `model` and `index`: a chunk; `broker` and `loop`: a document; the loop's are of one core."""

    model: float
    index: float
    broker: float
    loop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Machines, by kind, and partitions of the topic."""

    workers: int
    partitions: int
    brokers: int
    data_nodes: int


def costs(result: dict[str, Any], row: dict[str, Any]) -> Costs:
    """As measured, with the model of this row."""
    cpu_s, chunks = row["notes"]["cpu_s"], result["corpus"]["chunks"]
    without_model = result["null"][f"{CHUNKS}_chunks_a_document"]["cpu_us_a_document"]
    return Costs(
        model=cpu_s["worker"] / chunks,
        index=cpu_s["elasticsearch"] / chunks,
        broker=without_model["kafka"] / 1e6,
        loop=without_model["worker"] / 1e6,
    )


def need(documents_per_s: int, cost: Costs) -> Need:
    """What is needed for so many, `CHUNKS` chunks each."""
    chunks_per_s = documents_per_s * CHUNKS
    workers = max(
        _machines("worker", chunks_per_s * cost.model),
        math.ceil(documents_per_s * cost.loop / BUSY),  # one process has one event loop, however many cores
    )
    return Need(
        workers=workers,
        partitions=workers * PARTITIONS_A_WORKER,
        brokers=_machines("broker", documents_per_s * cost.broker * COPIES["broker"]),
        data_nodes=_machines("data node", chunks_per_s * cost.index * COPIES["data node"]),
    )


def _machines(kind: str, busy_cores: float) -> int:
    return max(LEAST[kind], math.ceil(busy_cores / BUSY / CORES[kind]))


def render(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Measured on {result['machine']['cores']} cores, {result['machine']['processor']}:",
        "",
        "| | CPU |",
        "|---|---|",
    ]
    rows = {row["name"]: row for row in result["rows"]}
    found = {
        precision: costs(result, rows[name])
        for precision in ("fp32", "bf16", "int8")
        if (name := f"penstock_{precision}") in rows
    }
    lines += [f"| worker, a chunk, {precision} | {cost.model * 1e3:.1f} ms |" for precision, cost in found.items()]
    cost = next(iter(found.values()))
    lines += [
        f"| Elasticsearch, a chunk with its vector indexed | {cost.index * 1e3:.1f} ms |",
        f"| broker, a document of {CHUNKS} chunks | {cost.broker * 1e3:.2f} ms |",
        f"| a worker without a model, a document of {CHUNKS} chunks | {cost.loop * 1e3:.2f} ms |",
        "",
        f"| documents/s | precision | workers of {CORES['worker']} cores | partitions "
        f"| brokers of {CORES['broker']} cores | data nodes of {CORES['data node']} cores |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        for precision, cost in found.items():
            row = need(target, cost)
            lines.append(
                f"| {target:,} | {precision} | {row.workers:,} | {row.partitions:,} | {row.brokers:,} "
                f"| {row.data_nodes:,} |"
            )
    return "\n".join(lines) + "\n"
