"""Faust's own agent loop, with Penstock's settings of Faust, doing nothing: windows are taken and acked.

Usage: python -m bench.bare_faust BROKER TOPIC PARTITIONS RECORDS; prints wall and CPU seconds from the first record to
the last.
"""

import asyncio
import os
import sys
import tempfile
import time
from typing import Any

import faust
import uvloop

from agents.worker.app import WINDOW


def main(broker: str, topic: str, partitions: int, records: int) -> None:
    """Run until all records were acked."""
    asyncio.set_event_loop(uvloop.new_event_loop())
    app = faust.App(
        f"bare-faust-{os.getpid()}",
        broker=f"kafka://{broker}",
        autodiscover=False,
        store="memory://",
        web_enabled=False,
        stream_wait_empty=False,
        stream_recovery_delay=0,
        stream_buffer_maxsize=10**9,
        broker_max_poll_records=500,
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
        datadir=tempfile.mkdtemp(prefix="penstock-bench-"),
    )
    raw = {"key_type": bytes, "value_type": bytes, "partitions": partitions}
    source = app.topic(topic, key_serializer="raw", value_serializer="raw", **raw)

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def bare(stream: Any) -> None:
        done, begun, cpu_s = 0, 0.0, 0.0
        async for events in stream.noack_take(WINDOW, within=0.2):
            if not begun:
                begun, cpu_s = time.monotonic(), time.process_time()
            for event in events:
                event.ack()
            done += len(events)
            if done >= records:
                print(time.monotonic() - begun, time.process_time() - cpu_s, flush=True)
                os._exit(0)

    app.worker_init()
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(arguments[0], arguments[1], int(arguments[2]), int(arguments[3]))
