"""The benchmark: `make bench`, or `make bench QUICK=1` for a shorter run with all ratios of the processor.

One corpus, one machine, interleaved repetitions; medians with least and greatest. Every row's vectors are compared with
the fp32 session's, and its index is checked complete: a fast wrong row is no row, and fails the run. See docs/speed.md.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION
from agents.local.demo import bundled_model
from agents.settings import Settings
from agents.settings.environment import cache_dir
from agents.sources.pydocs import real_texts
from bench import report
from bench.adaptive import adaptive
from bench.batch import batch
from bench.bulk import bulk
from bench.ceiling import BUDGETS, find_ceiling
from bench.corpus import make_corpus
from bench.gpu import gpu
from bench.null import memory, null_rows, record_cost
from bench.report import RESULTS
from bench.rows import Bench, Row
from bench.scale import latency, scale
from bench.servers import servers
from models.export.exporter import PrecisionName, ensure_model
from models.manifest import read_manifest
from models.onnx.choose import Constraints
from models.onnx.embedder import load_embedder
from models.onnx.runtime import PROVIDERS, computes_bf16, installed_runtimes, processor, usable_cores
from models.onnx.session import available_providers

LONG = ("bulk", "scale", "batch")
"""Left out of a quick run: no ratio comes of them."""
FP32, INT8 = "all-MiniLM-L6-v2", "all-MiniLM-L6-v2-int8"
MODELS: dict[PrecisionName, str] = {"fp32": FP32, "fp16": "all-MiniLM-L6-v2-fp16", "int8": INT8}


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer chunks and repetitions")
    parser.add_argument("--only", default="", help="one of its parts; writes no JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers stop with it
    folder = cache_dir() / "bench"
    with servers(folder) as settings:
        result = measure(settings, folder, quick=arguments.quick, only=arguments.only)
    show(result)
    if wrong := [row["wrong"] for row in result["rows"] if row["wrong"]]:
        sys.exit("wrong vectors, so nothing is written:\n" + "\n".join(f"  {why}" for why in wrong))
    if not arguments.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
        report.main()
        print(f"written to {RESULTS} and the README")


def measure(settings: Settings, folder: Path, *, quick: bool, only: str) -> dict[str, Any]:
    """Every part in turn; rows and ratios of all."""
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": _machine(),
        "versions": _versions(),
        "rows": [],
        "ratios": {},
    }
    load_embedder(settings.model.dir / export(settings, "fp32"), say=print).close()  # proved before a row replaces it
    parts: dict[str, Callable[[], None]] = {
        "null": lambda: null_rows(settings, folder, result, quick=quick),  # first: it warms the servers up
        "record": lambda: record_cost(settings, folder, result, quick=quick),
        "embed": lambda: embed(settings, folder, result, quick=quick),
        "gpu": lambda: on_gpu(settings, folder, result, quick=quick),
        "adaptive": lambda: adaptive(settings.model.dir / FP32, result, quick=quick),
        "latency": lambda: latency(settings, folder, result, quick=quick),
        "bulk": lambda: bulk(settings, folder, result),
        "scale": lambda: scale(settings, folder, result),
        "memory": lambda: memory(settings, folder, result, quick=quick),
        "batch": lambda: batch(settings, result),
    }
    for name, run in parts.items():
        if only == name or (not only and not (quick and name in LONG)):
            print(f"— {name}", flush=True)
            begun = time.monotonic()
            run()
            print(f"  {name} took {time.monotonic() - begun:.0f} s", flush=True)
    return result


def export(settings: Settings, precision: PrecisionName) -> str:
    """Name of the model of this precision, exported unless it is there."""
    ensure_model(
        str(bundled_model()),
        name=MODELS[precision],
        models=settings.model.dir,
        cache=cache_dir(),
        say=print,
        precision=precision,
        texts=real_texts() if precision != "fp32" else (),
    )
    return MODELS[precision]


def on_gpu(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """The rows of a GPU, where the installed runtime has one."""
    if PROVIDERS["cuda"] in available_providers():
        gpu(settings, folder, result, fp32=export(settings, "fp32"), fp16=export(settings, "fp16"), quick=quick)
    else:
        print("the installed onnxruntime has no CUDA provider: no rows of a GPU", flush=True)


def embed(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """The rows that embed, interleaved."""
    for precision in ("fp32", "int8"):
        export(settings, precision)
    embedder = load_embedder(settings.model.dir / FP32, wanted=Constraints(precision="fp32"), say=print)
    corpus = make_corpus(embedder, 350 if quick else 2000)
    tokens = embedder.tokens.encode(list(corpus.texts.values()))
    embedder.close()
    bench = Bench(settings, folder, corpus, tokens)
    asyncio.run(bench.publish())
    result["corpus"] = {
        "documents": len(corpus.documents),
        "chunks": len(corpus.texts),
        "tokens": sum(map(len, tokens)),
    }
    print(result["corpus"], flush=True)
    kinds = {"fp32": (FP32, "fp32"), "bf16": (FP32, "bf16"), "int8": (INT8, "auto")}
    if not (computes_bf16() and "OpenVINOExecutionProvider" in available_providers()):
        del kinds["bf16"]
    ceilings = {}
    for kind, (model, precision) in kinds.items():
        folder_of = settings.model.dir / model
        some = tokens[:: max(1, len(tokens) // (60 if quick else 250))]
        ceilings[kind] = find_ceiling(
            folder_of,
            read_manifest(folder_of),
            precision,  # type: ignore[arg-type]
            some,
            budgets=BUDGETS[:3] if quick else BUDGETS,
        )
        print(f"ceiling {kind}: {ceilings[kind].shape}", flush=True)
    rows: dict[str, Row] = {}

    def row(name: str) -> Row:
        return rows.setdefault(name, Row(name))

    for repetition in range(2 if quick else 3):
        for kind, (model, precision) in kinds.items():
            bench.ceiling(row(f"ceiling_{kind}"), ceilings[kind])
            _tell(row(f"ceiling_{kind}"))
            bench.penstock(row(f"penstock_{kind}"), model, {"MODEL__PRECISION": precision})
            _tell(row(f"penstock_{kind}"))
        if repetition < (1 if quick else 2):
            bench.peer(row("quix"), "quix.py")
            _tell(row("quix"))
            if not quick:
                bench.peer(row("plain"), "plain.py")
                _tell(row("plain"))
                bench.fastembed(row("fastembed"), settings.model.dir / FP32)
                _tell(row("fastembed"))
    medians = {name: statistics.median(found.rates) for name, found in rows.items()}
    result["rows"] += [found.as_json() for found in rows.values()]
    ratios = result["ratios"]
    ratios["end_to_end_over_ceiling"] = medians["penstock_fp32"] / medians["ceiling_fp32"]
    for kind in ("bf16", "int8"):
        if kind in kinds:
            ratios[f"{kind}_over_ceiling"] = medians[f"penstock_{kind}"] / medians[f"ceiling_{kind}"]
    ratios["end_to_end_over_quix"] = medians["penstock_fp32"] / medians["quix"]
    ratios["best_over_quix"] = max(medians[f"penstock_{k}"] for k in kinds if k != "int8") / medians["quix"]
    if "plain" in medians:
        ratios["end_to_end_over_plain"] = medians["penstock_fp32"] / medians["plain"]


def show(result: dict[str, Any]) -> None:
    """The table, for people."""
    print(f"\n{'row':<18} {'chunks/s':>9} {'least':>7} {'greatest':>9}  complete  least cosine")
    for row in result["rows"]:
        rate = row["chunks_per_s"]
        print(
            f"{row['name']:<18} {rate['median']:>9.1f} {rate['min']:>7.1f} {rate['max']:>9.1f}  "
            f"{row['complete']!s:<8}  {row['cosine_min']:.6f}  {row['notes'] or ''}"
        )
    for name, ratio in result["ratios"].items():
        print(f"{name} = {ratio:.3f}")


def _tell(row: Row) -> None:
    print(f"{row.name:<18} {row.rates[-1]:8.1f} chunks/s   cosine {row.cosines[-1]:.6f}   {row.notes}", flush=True)


def _machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "bf16": computes_bf16(),
        "system": platform.system(),
        "python": sys.version.split()[0],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
    }


def _versions() -> dict[str, str]:
    names = ("penstock", "faust-streaming", "aiokafka", "elasticsearch", *installed_runtimes(), "tokenizers", "numpy")
    return {name: version(name) for name in names} | {
        "kafka": KAFKA_VERSION,
        "elasticsearch-server": ELASTICSEARCH_VERSION,
    }


if __name__ == "__main__":
    main()
