"""Where the event loop's time goes: a thread looks at its stack a few hundred times a second, and names the stage."""

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY_S = 0.003
# innermost first: a frame belongs to the first of these that it is called from
STAGES = {
    ("mode/worker.py", ""): "waiting, or the event loop itself",
    ("agents/kafka/claims.py", "write"): "claims",
    ("agents/worker/assignment.py", "admit"): "admission",
    ("agents/worker/assignment.py", "settle"): "ledger, claims and acks",
    ("agents/worker/assignment.py", "judge"): "ledger, claims and acks",
    ("agents/indexing/stages.py", "prepare"): "decode and split",
    ("agents/elastic/entries.py", "read"): "registry: read",
    ("agents/elastic/entries.py", "swap"): "registry: intents and dones",
    ("agents/elastic/chunks.py", "write"): "chunks: encode and send",
    ("streams/protocol.py", "begin"): "plan",
    ("streams/protocol.py", "reuse"): "plan",
    ("streams/protocol.py", "write"): "plan",
    ("streams/protocol.py", "finish"): "plan",
    ("agents/indexing/stages.py", "embed"): "embed: hand over",
    ("agents/worker/pipeline.py", ""): "pipeline",
    ("agents/worker/backpressure.py", ""): "byte budget",
    ("agents/worker/consumer.py", ""): "byte budget",
    ("agents/worker/app.py", "_record"): "faust",
    ("agents/worker/app.py", "_watch"): "watchdog",
    ("agents/worker/health.py", ""): "the bench's own looks",
    ("elastic_transport", ""): "elasticsearch client",
    ("elasticsearch", ""): "elasticsearch client",
    ("aiohttp", ""): "elasticsearch client",
    ("faust", ""): "faust",
    ("mode", ""): "faust",
    ("aiokafka", ""): "faust",
}


def start(path: str) -> None:
    """Sample the thread that calls this, from now on; writes `{stage: seconds}` into the file every second."""
    target = threading.get_ident()
    threading.Thread(target=_sample, args=(target, Path(path)), daemon=True, name="penstock-sampling").start()


def _sample(target: int, path: Path) -> None:
    seconds: Counter[str] = Counter()
    written = last = time.monotonic()
    while True:
        time.sleep(EVERY_S)
        now = time.monotonic()
        frame = sys._current_frames().get(target)
        seconds[_stage(frame)] += now - last  # type: ignore[assignment]
        last = now
        if now - written > 1:
            written = now
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(seconds))
            os.replace(temporary, path)


def _stage(frame: FrameType | None) -> str:
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        for (file, wanted), stage in STAGES.items():
            if file in name and wanted in ("", function):
                return stage
        frame = frame.f_back
    return "waiting, or the event loop itself"
