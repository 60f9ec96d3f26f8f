"""The daemon: Faust's application and worker around the pipeline, started checked and stopped within one deadline.

Faust delivers; it does not decide what is done. Its own offsets are a hint for other tools.
"""

import asyncio
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
import uvloop
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.types import TP

from agents.clock import Deadline
from agents.configured import routes_of
from agents.fail_points import FailPoints
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.budget import Budget
from agents.indexing.meter import Meter
from agents.indexing.preflight import Checked
from agents.kafka.claims import WRITE_TIMEOUT_S, ClaimTable
from agents.kafka.connection import tls, unreachable
from agents.kafka.reader import LogReader, log_reader
from agents.log import setup_logging
from agents.metrics import Metrics
from agents.settings import CLAIMS_TABLE, Settings
from agents.settings.environment import fail_point
from agents.settings.loading import load_settings
from agents.terminal import shown
from agents.worker.allocator import use_two_heaps
from agents.worker.assignment import Assignment, Subject
from agents.worker.backpressure import Flow
from agents.worker.consumer import Consumer
from agents.worker.drift import Incarnations
from agents.worker.health import Admin
from agents.worker.load_mode import end_when_filled
from agents.worker.loop_watch import LoopWatch
from agents.worker.membership import Membership
from agents.worker.model_watch import ModelWatch
from agents.worker.output import finish, never_wait
from agents.worker.pipeline import EMBEDDING, Pipeline
from agents.worker.spending import Spending
from agents.worker.startup import SEEN_S, prepare
from agents.worker.watchdog import Watchdog
from streams.contract import spaces_of
from streams.errors import ModelChangedError, PenstockError
from streams.record import Record

WATCH_EVERY_S = 2.0
SMALL_FETCH_BYTES = 16 * 1024
BALANCE_EVERY_S = 0.1
REVOKE_S = 10.0
"""A rebalance waits so long for batches in flight; what is not done then is replayed by the next owner."""
CLOSING_S = 3.0
"""Part of the drain deadline that is kept for commit and close."""
LEAST_STILL_S = 60.0
"""However short `lifecycle.stall_s` is, a loop that is held for less may only be slow."""
WINDOW = 1024
"""Most records that are taken from Faust at once."""

logger = logging.getLogger(__name__)


class Worker(faust.Worker):  # type: ignore[misc]  # faust is untyped here
    """Faust's worker with our logging, exit codes and signals."""

    def __init__(self, app: "PenstockApp", *services: Any, loglevel: Any = None, **options: Any) -> None:
        options["redirect_stdouts"] = False
        super().__init__(app, *services, loglevel=loglevel, override_logging=False, **options)
        self.spinner = None
        log = app.settings.log
        never_wait()
        setup_logging(log.model_copy(update={"level": str(loglevel).lower()}) if loglevel else log)

    def _on_sigterm(self) -> None:
        self._stop_by(signal.SIGTERM)

    def _on_sigint(self) -> None:
        self._stop_by(signal.SIGINT)

    def _stop_by(self, which: signal.Signals) -> None:
        if self._signal_stop_time:  # two that the loop read at once
            _exit_at_once(which)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _exit_at_once)  # the loop hears none between its runs, and a stop has several
        logger.info("stopping", extra={"drain_s": self.app.settings.lifecycle.drain_s})
        _exit_after(self.app.settings.lifecycle.drain_s, self.app)
        self._schedule_shutdown(which)

    async def _sentinel_task(self) -> None:
        """All is closed by now: Faust's second of waiting before it closes the loop would be for nothing."""

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped. Exits 0 after a clean stop, else with the error's own code."""
        try:
            super().execute_from_commandline()
        except (SystemExit, asyncio.CancelledError) as exc:  # the latter when a stage was cancelled by the crash
            reason = self.app.crash_reason or self.crash_reason
            if isinstance(reason, PenstockError):
                print(shown(f"penstock: {reason}"), file=sys.stderr)  # noqa: T201 - the last word is for people
                code: Any = reason.exit_code
            else:
                code = exc.code if reason is None and isinstance(exc, SystemExit) else 1
            finish()
            os._exit(code if isinstance(code, int) else 1)  # threads inside the model must not hold the exit up
        finish()
        raise SystemExit(0)


class Tables(TableManager):  # type: ignore[misc]
    """Faust's, without the second that it waits first: our only table is declared before the app starts."""

    async def on_start(self) -> None:
        """Start reading the changelog; partitions are assigned after this."""
        await self._update_channels()
        await self.recovery.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a worker works with between start and stop."""

    assembly: Assembly
    reader: LogReader
    assignment: Assignment
    pipeline: Pipeline
    incarnations: Incarnations
    watchdog: Watchdog
    model_watch: ModelWatch
    spending: Spending | None


class PenstockApp(faust.App):  # type: ignore[misc]
    """One worker: the Faust app."""

    def __init__(self, settings: Settings, checked: Checked, metrics: Metrics) -> None:
        self.settings = settings
        self.checked = checked
        self.drained = False
        self.metrics = metrics
        self.running: Running | None = None
        self._open = AsyncExitStack()
        self._running_stages: list[asyncio.Future[Any]] = []
        self.flow = Flow(
            settings.source.topic,
            Budget(settings.batch.max_inflight_bytes),
            self.metrics,
            lambda: self.running is None or self.running.assembly.requests.closed,
        )
        super().__init__(
            settings.source.group,
            broker=f"kafka://{settings.kafka.bootstrap_servers.replace(',', ';')}",
            broker_credentials=_credentials(settings),
            Worker=Worker,
            TableManager=Tables,
            autodiscover=False,
            processing_guarantee="at_least_once",
            agent_supervisor="mode.CrashingSupervisor",
            stream_wait_empty=False,
            stream_buffer_maxsize=10**9,  # `Flow` counts bytes instead
            stream_recovery_delay=0,
            broker_max_poll_interval=7 * 24 * 3600.0,  # at the default, a 17-minute outage hangs the consumer
            broker_max_poll_records=500,
            broker_rebalance_timeout=60.0,
            broker_session_timeout=settings.kafka.session_timeout_s,
            broker_heartbeat_interval=0.3 * settings.kafka.session_timeout_s,
            broker_commit_interval=1.0,
            producer_acks=-1,
            producer_request_timeout=30.0,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            store="memory://",
            web_enabled=False,
            worker_redirect_stdouts=False,
            consumer_auto_offset_reset="earliest",
            canonical_url=f"http://{socket.gethostname()}-{os.getpid()}:1",  # names this worker to the assignor
            datadir=_scratch_folder(settings.source.group),
        )
        raw = {"key_type": bytes, "value_type": bytes, "partitions": checked.partitions}
        self.claim_table = self.Table(CLAIMS_TABLE, **raw)
        self.source = self.topic(settings.source.topic, key_serializer="raw", value_serializer="raw", **raw)
        self.agent(self.source, name="embed", concurrency=1)(self._embed_agent)
        self.on_rebalance_complete.connect(self._assigned)
        self.on_partitions_revoked.connect(self._revoked)

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = Consumer
        return transport

    async def on_start(self) -> None:
        """Connect and start the stages, before Faust joins the group. An error is a crash, with its exit code."""
        try:
            shutil.rmtree(self.conf.datadir, ignore_errors=True)  # now, so that a killed worker leaves nothing behind
            self.running = running = await self._connect()
            await self._start_admin(running)
            self._start_stages(running)
            await super().on_start()
        except Exception as exc:
            self._crash(exc)
            raise

    async def _connect(self) -> Running:
        settings, checked, enter = self.settings, self.checked, self._open.enter_async_context
        meter = Meter(settings.cost.prices, self.metrics) if settings.counts_costs else None
        assembly = await enter(
            assemble(
                settings,
                checked,
                metrics=self.metrics,
                budget=self.flow.budget,
                fail_points=FailPoints(fail_point()),
                meter=meter,
            )
        )
        reader = await enter(log_reader(settings, fetch_bytes=SMALL_FETCH_BYTES))
        assignment = Assignment(
            Subject(
                topic=settings.source.topic,
                sink=checked.identity.sink,
                max_ratio=settings.dead_letters.max_ratio,
                history=checked.history,
                indexed=checked.indexed if checked.unverified else {},
            ),
            claims=ClaimTable(self.claim_table),
            log=reader,
            patient=reader.patient(WRITE_TIMEOUT_S),
            seek=self._seek,
            fetched=self._fetched,
            passed=self._passed,
            metrics=self.metrics,
            budget=self.flow.budget,
        )
        spending = None
        if meter:
            meter.tell(settings.model_by_route)
            meter.gate = spending = Spending(
                settings,
                reader=reader,
                assignment=assignment,
                meter=meter,
                metrics=self.metrics,
                partitions=checked.partitions,
            )
        pipeline = Pipeline(assembly.parts, assignment, spending)
        incarnations = Incarnations(settings, checked, reader, assembly.client, assembly.requests)
        return Running(
            assembly=assembly,
            reader=reader,
            assignment=assignment,
            pipeline=pipeline,
            incarnations=incarnations,
            watchdog=Watchdog(
                settings,
                assignment=assignment,
                pipeline=pipeline,
                requests=assembly.requests,
                incarnations=incarnations,
                membership=Membership(settings, reader),
            ),
            model_watch=ModelWatch(settings, checked, assembly, reader, pipeline),
            spending=spending,
        )

    async def _start_admin(self, running: Running) -> None:
        admin = Admin(
            self.settings.admin,
            self.metrics.registry,
            live=running.watchdog.stalled,
            ready=running.watchdog.not_ready,
            status=self._statusz,
        )
        await admin.start()
        self._open.push_async_callback(admin.stop)
        for model in self.checked.models:
            name, told = model.manifest.name, model.told()
            self.metrics.model_info.labels(name, told.sha256, told.provider, told.precision).set(1)
            for width in told.refused_widths:
                self.metrics.shapes_refused.labels(str(width)).set(1)
        source = self.settings.source
        self.metrics.worker_info.labels(source.group, source.topic, self.checked.identity.index).set(1)

    def _start_stages(self, running: Running) -> None:
        for stage in (
            *[running.pipeline.run_embedding] * EMBEDDING,
            running.pipeline.run_writing,
            running.model_watch.run,
            *([running.spending.run] if running.spending else []),
            self._watch,
            self._balance,
            self._watch_loop,
            lambda: end_when_filled(
                self.settings,
                self.checked,
                running.reader,
                running.assembly.client,
                pauses=lambda: running.spending is not None and running.spending.used_up,
            ),
        ):
            self._running_stages.append(self.add_future(self._supervised(stage)))
        logger.info(
            "worker starting",
            extra={
                "topic": self.settings.source.topic,
                "index": self.checked.identity.index,
                "model": self.checked.embedder.manifest.name,
                "setup": (told := self.checked.embedder.told()).how,
                "measured": told.details.get("measured"),
            }
            | ({"routes": routes} if (routes := self._routes()) else {}),
        )

    async def on_stop(self) -> None:
        """Finish what is begun within the deadline, then let Faust commit and close.

        1. drain the stages  2. Faust stops consuming and commits  3. our own connections
        """
        if self.running is not None and (changed := self.running.pipeline.changed):
            self._crash(changed)  # if it has not yet: what is begun can't be finished
        if self.running is not None and not self.crashed:
            logger.info("draining: what is begun is finished, and nothing else is begun")
            self.drained = await self.running.pipeline.drain(
                Deadline(max(0.0, self.settings.lifecycle.drain_s - CLOSING_S))
            )
            logger.info("drained" if self.drained else "deadline reached: what is in flight will be replayed")
            if self.drained:
                _exit_after(CLOSING_S * 3, self)
        await super().on_stop()
        await self._end_stages()
        self.checked.close()
        await self._open.aclose()

    async def _end_stages(self) -> None:
        """Before the models are let go: one of them asks for known vectors now and then."""
        stages = [stage for stage in self._running_stages if stage is not asyncio.current_task()]
        for stage in stages:
            stage.cancel()
        if stages:
            await asyncio.wait(stages, timeout=1)

    def _crash(self, reason: BaseException) -> None:
        """The end of the process, whoever called for it, and however Faust's stop goes.

        Keeps the first reason: an agent that is cancelled because of it crashes in turn, and would hide it.
        """
        if isinstance(reason, KafkaError):
            reason = unreachable(self.settings.kafka.bootstrap_servers, reason)
        first = self.crash_reason
        if first is None:
            _exit_after(CLOSING_S * 3, self)
        super()._crash(reason if first is None or isinstance(first, asyncio.CancelledError) else first)

    async def _embed_agent(self, stream: Any) -> None:
        """Windows of records from Faust, unacknowledged, into the pipeline."""
        async for events in stream.noack_take(WINDOW, within=self.settings.batch.linger_ms / 1000):
            if (running := self.running) is None:
                raise RuntimeError("the agent runs before the app was started")
            delivered = [(_record(event.message), event.message.after, event) for event in events]
            admitted = await running.assignment.admit(delivered)
            if admitted:
                await running.pipeline.accept(admitted)

    async def _assigned(self, *_: Any, **__: Any) -> None:
        """After table recovery, before Faust seeks to its committed offsets and resumes."""
        self.hold_flow()
        if (running := self.running) is not None:
            topic = self.settings.source.topic
            numbers = [tp.partition for tp in self.consumer.assignment() if tp.topic == topic]
            await running.incarnations.require_same(idle=not numbers)
            running.pipeline.resume()  # first: what enters and is not taken stays open, and holds up its partition
            await running.assignment.assign(numbers)
            for model in self.checked.models:
                model.take_share(len(numbers) / self.checked.partitions)
            await self._compare_committed(running, numbers)

    async def _compare_committed(self, running: Running, numbers: list[int]) -> None:
        """The group's offsets are a hint for other tools; whoever sets them back by hand is told so."""
        group, topic = self.settings.source.group, self.settings.source.topic
        committed = await running.reader.committed(group, topic, numbers)
        behind = running.assignment.behind_claim(committed)
        if behind:
            logger.info(
                "the consumer group's offsets are below the claims: a worker ended, or partitions moved, before they "
                "were committed, or somebody set them back; the claims count, and nothing is processed again (for "
                "that, stop the workers and run `penstock index rebuild --in-place`)",
                extra={"topic": topic, "partitions": behind},
            )

    def hold_flow(self) -> None:
        """Else a fetch in flight makes Faust overwrite the seek that follows, and records are skipped."""
        self.consumer.stop_flow()

    async def _revoked(self, *_: Any, **__: Any) -> None:
        if (running := self.running) is not None:
            await running.pipeline.drain(Deadline(min(REVOKE_S, self.settings.lifecycle.drain_s)))
            running.assignment.revoke()

    async def _seek(self, offsets: Mapping[int, int]) -> None:
        topic = self.settings.source.topic
        await self.consumer.seek_wait({TP(topic, partition): offset for partition, offset in offsets.items()})

    async def _fetched(self, partition: int) -> int | None:
        try:
            async with asyncio.timeout(WATCH_EVERY_S):
                return cast(int | None, await self.consumer.position(TP(self.settings.source.topic, partition)))
        except (TimeoutError, KafkaError):  # revoked, or it has to find its place first
            return None

    def _passed(self, partition: int, offset: int) -> None:
        self.consumer.pass_over(TP(self.settings.source.topic, partition), offset)

    async def _watch(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(WATCH_EVERY_S)
            if self.running is not None and not self.should_stop:
                rebalance = self.rebalancing_count if self.rebalancing else None
                refused = self.consumer.take_group_error()
                await self.running.watchdog.look(paused=self.flow.paused, rebalance=rebalance, refused=refused)

    async def _balance(self) -> None:
        while True:
            await asyncio.sleep(BALANCE_EVERY_S)
            if self.running is not None and self.running.assignment.received and not self.rebalancing:
                self.flow.balance(self.consumer, self.consumer.assignment())

    async def _watch_loop(self) -> None:
        watch = LoopWatch(max(LEAST_STILL_S, self.settings.lifecycle.stall_s), _end_standing)
        watch.start()
        while True:
            due = time.monotonic() + 1
            await asyncio.sleep(1)
            watch.tick()
            self.metrics.event_loop_lag.set(max(0.0, time.monotonic() - due))

    async def _supervised(self, stage: Any) -> None:
        """The one supervisor: any error in a stage ends the process; the restart replays.

        One of the model some seconds later: its alert has to be scraped.
        """
        try:
            await stage()
        except asyncio.CancelledError:
            raise
        except ModelChangedError as exc:
            await asyncio.sleep(SEEN_S)
            await self.crash(exc)
        except Exception as exc:  # noqa: BLE001 - see above
            await self.crash(exc)

    def _routes(self) -> list[dict[str, Any]]:
        """Each with its model, and how that is run."""
        spaces = spaces_of(self.checked.identity.contract)
        models = {space.names.vector: model for space, model in zip(spaces, self.checked.models, strict=True)}
        return [
            {"name": route.name, "model": route.model, "vector": route.vector, **models[route.vector].told().details}
            for route in routes_of(self.settings)
        ]

    def _statusz(self) -> dict[str, Any]:
        return {
            "group": self.settings.source.group,
            "index": self.checked.identity.index,
            "model": self.checked.embedder.manifest.name,
            **self.checked.embedder.told().details,
            **({"routes": routes} if (routes := self._routes()) else {}),
            "waits_for": self.running.pipeline.waits if self.running else [],
            "partitions": self.running.assignment.snapshot() if self.running else [],
        }


def create_app(settings: Settings) -> PenstockApp:
    """Check everything, then make the application. Blocks for seconds, or until Kafka and Elasticsearch answer.

    Raises as `agents.worker.startup.prepare`.
    """
    use_two_heaps()
    setup_logging(settings.log)  # the checks have something to say, such as which setup of the model is fastest here
    metrics = Metrics()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        checked = runner.run(prepare(settings, metrics))
    asyncio.set_event_loop(uvloop.new_event_loop())
    app = PenstockApp(settings, checked, metrics)
    gc.collect()
    gc.freeze()  # what is here now stays: else every collection looks at it again, a quarter of the loop's time
    return app


def app_for_faust() -> PenstockApp:
    """What `faust -A agents` loads. Ends the process with a message and the exit code when a check fails."""
    try:
        app = create_app(load_settings())
    except PenstockError as exc:
        print(shown(f"penstock: {exc}"), file=sys.stderr)  # noqa: T201 - for people
        raise SystemExit(exc.exit_code) from None
    return app


def _credentials(settings: Settings) -> Any:
    """How Faust logs in, as `agents.kafka.connection` has it for everything else."""
    kafka, context = settings.kafka, tls(settings)
    if kafka.sasl_password:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            ssl_context=context,
            mechanism=kafka.sasl_mechanism,
        )
    return faust.SSLCredentials(context) if context else None


def _scratch_folder(group: str) -> Path:
    """Faust makes folders for tables on disk; ours are in memory, and the folder goes again when it has started."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"penstock-{group}-{os.getpid()}"  # noqa: S108 - named by pid
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PenstockError(f"the folder {folder} cannot be made: {exc.strerror}; set TMPDIR to another one") from exc
    return folder


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=message.timestamp_ms,
        key=message.key,
        value=message.value,
        headers=_headers(message.headers),
    )


def _headers(headers: Any) -> tuple[tuple[str, bytes | None], ...]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return tuple((name, None if value is None else bytes(value)) for name, value in pairs)


def _exit_at_once(number: int, _: object = None) -> NoReturn:
    """What the second signal does."""
    logger.error("second signal: exiting at once, what is in flight will be replayed")
    finish()
    os._exit(128 + number)


def _exit_after(seconds: float, app: PenstockApp) -> None:
    """End the process when its stop hangs: a stopped worker must never block its replacement.

    After a crash with that one's message and exit code. Faust's stop hangs now and then when a commit or a rebalance is
    on its way; once everything is drained, and so claimed, that is no failure.
    """

    def run() -> None:
        time.sleep(seconds)
        reason, code, rest = app.crash_reason, 1, "what is in flight will be replayed"
        if app.drained and reason is None:
            code, rest = 0, "everything was drained"
        sys.stderr.write(f"penstock: the stop did not finish in time; exiting, {rest}\n")
        if isinstance(reason, PenstockError):
            code = reason.exit_code
            sys.stderr.write(shown(f"penstock: {reason}\n"))
        finish()
        os._exit(code)

    threading.Thread(target=run, daemon=True, name="penstock-deadline").start()


def _end_standing(why: str) -> None:
    sys.stderr.write(f"penstock: {why}exiting, what is in flight will be replayed\n")
    finish()
    os._exit(1)
