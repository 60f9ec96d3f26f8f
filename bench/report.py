"""The tables of README and docs/capacity.md, of the last result: `python -m bench.report`; `make bench` does it too."""

import json
import re
from pathlib import Path
from typing import Any

from bench import capacity

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "latest.json"
README = ROOT / "README.md"
CAPACITY = ROOT / "docs" / "capacity.md"
MARKS = re.compile(r"(<!-- bench: made by `make bench`, do not edit -->\n).*?(<!-- bench: end -->)", re.DOTALL)
ROWS = {
    "ceiling_fp32": "the bare session, sorted, best shape (ceiling), fp32",
    "penstock_fp32": "**Penstock end to end, fp32**",
    "ceiling_bf16": "ceiling, bf16",
    "penstock_bf16": "**Penstock end to end, bf16** (the default where the processor has it)",
    "ceiling_int8": "ceiling, int8",
    "penstock_int8": "**Penstock end to end, int8** (a model of its own)",
    "quix": "Quix Streams + sentence-transformers + its Elasticsearch sink",
    "plain": "aiokafka + sentence-transformers + bulk helper",
    "fastembed": "fastembed, texts in memory, no index",
    "gpu_raw": "GPU: the bare session, fp16",
    "gpu_embedder": "GPU: **Penstock's embedder**, texts in memory",
    "gpu_sentence_transformers": "GPU: sentence-transformers, fp16, texts in memory",
}
RATIOS = {
    "end_to_end_over_ceiling": "end to end over its ceiling, fp32",
    "bf16_over_ceiling": "the same, bf16",
    "int8_over_ceiling": "the same, int8",
    "end_to_end_over_quix": "end to end over Quix, fp32",
    "best_over_quix": "end to end over Quix, this machine's default",
    "null_over_bare": "without a model, over a bare `getmany` + `_bulk` loop: 5 chunks a document",
    "null_over_bare_one_chunk": "the same, 1 chunk a document",
    "record_cost_over_faust": "Faust with admission, ledger and claims, over Faust's bare agent loop (CPU a record)",
    "adaptive_over_best_fixed": "batch shape found while running, over the best fixed one",
    "rss_1m_over_100k": "memory with a backlog of 1,000,000 records, over 100,000",
    "batch_over_session": "a batch of 20,000 chunks by Beam's own runner, over the bare session (CPU)",
    "rerun_over_first": "the same again, over a topic that is settled: how much faster",
    "gpu_end_to_end_over_raw": "GPU: embedder over the bare session",
    "gpu_raw_over_sentence_transformers": "GPU: bare session over sentence-transformers fp16",
}


def main() -> None:
    """Write the tables."""
    result = json.loads(RESULTS.read_text())
    for file, table in ((README, render(result)), (CAPACITY, capacity.render(result))):
        file.write_text(MARKS.sub(lambda found, table=table: found[1] + table + found[2], file.read_text()))  # type: ignore[misc]


def render(result: dict[str, Any]) -> str:
    """Markdown."""
    machine = result["machine"]
    corpus, ratios, same = result["corpus"], result["ratios"], "broker and Elasticsearch on the same cores"
    lines = [
        f"{machine['cores']} cores, {machine['processor']}; {corpus['chunks']:,} chunks of "
        f"{corpus['tokens'] / corpus['chunks']:.0f} tokens; all-MiniLM-L6-v2; {same}; "
        "medians of interleaved repetitions (least–greatest).",
        "",
        "| | chunks/s | least cosine to fp32 |",
        "|---|---|---|",
    ]
    rows = {row["name"]: row for row in result["rows"]}
    for name, title in ROWS.items():
        if row := rows.get(name):
            rate = row["chunks_per_s"]
            lines.append(
                f"| {title} | {rate['median']:.1f} ({rate['min']:.1f}–{rate['max']:.1f}) | {row['cosine_min']:.5f} |"
            )
    lines += ["", "| ratio | |", "|---|---|"]
    lines += [f"| {title} | {ratios[name]:.2f} |" for name, title in RATIOS.items() if name in ratios]
    if latency := result.get("latency"):
        lines += [
            "",
            f"Light load: p50 {latency['p50_s']:.2f} s, p95 {latency['p95_s']:.2f} s from publication to a search hit "
            f"(linger + refresh + 3 batches: {latency['bound_s']:.2f} s).",
        ]
    if idle := [row["notes"]["idle_share"] for row in rows.values() if "idle_share" in row["notes"]]:
        lines += ["", f"Under backlog the model's lanes were idle for {max(idle):.1%} of their time at most."]
    if null := result.get("null"):
        loop = dict(null["5_chunks_a_document"]["event_loop_us_a_document"])
        loop.pop("waiting, or the event loop itself", None)
        lines += [
            "",
            f"Without a model the event loop's Python works {sum(loop.values()):.0f} µs on a document of 5 chunks, "
            f"{loop['faust']:.0f} of them in Faust.",
        ]
    if scale := result.get("scale"):
        rates = ", ".join(f"{row['workers']}: {row['documents_per_s']:,}" for row in scale["rows"])
        lines += [
            "",
            f"Workers without a model, on the same cores, documents of one chunk a second: {rates}. "
            f"When one joins, nothing is settled for {scale['join_gap_s']:.1f} s.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
