"""The server from its start to its end.

SIGTERM and SIGINT: no connection more, what was begun is answered, what was handed over is acknowledged, all by one
deadline (`lifecycle.drain_s`). The second one ends the process at once. SIGHUP: tokens and certificate are read again,
which happens by itself, too, within a second of a change.
"""

import asyncio
import ipaddress
import logging
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from agents.clock import Deadline
from agents.elastic.client import connect
from agents.settings import Settings
from agents.sources.http import Options
from agents.sources.http.admission import Admission
from agents.sources.http.documents import Documents
from agents.sources.http.lines import Lines
from agents.sources.http.log import Log
from agents.sources.http.metrics import Metrics
from agents.sources.http.room import Room
from agents.sources.http.routes import routes
from agents.sources.http.server import Listening, Server
from agents.sources.http.tokens import Tokens
from agents.sources.http.uploads import Uploads
from agents.sources.http.waiting import Waiting
from streams.errors import ConfigError

LOOK_S = 1.0
CLOSING_S = 2.0
"""Of the drain, for what the producer still has, and for closing."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


async def serve(
    settings: Settings, options: Options, listens: Callable[[str], None], stops: Callable[[float], None]
) -> None:
    """Until a signal stops it. `listens`: called with the address; `stops`: with the seconds that a stop may take.

    Raises ConfigError for options that would let anybody in, PenstockError when the port is taken, or Kafka refuses.
    While Kafka is away it listens, and answers 503.
    """
    certificate = Certificate(options.tls_cert, options.tls_key) if options.tls_cert else None
    tokens = Tokens(options.tokens) if options.tokens else None
    listening = _listening(options, certificate)
    stopping, metrics, limits = asyncio.Event(), Metrics(), options.limits
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings.elasticsearch))
        admission = Admission(settings, options.max_lag)
        log = Log(settings, admission, partitions=options.partitions, publish_s=limits.publish_s)
        uploads, held = Uploads(limits), Room(limits.held, f"too many bytes of documents at once ({limits.held})")
        stack.push_async_callback(uploads.close)
        metrics.held_bytes.set_function(lambda: held.taken)
        documents = Documents(log, Waiting(log, client, limits.waits, stopping), uploads, held, limits)
        answers = routes(documents, Lines(log, held, metrics, limits), metrics, lambda: _why_not_ready(log, stopping))
        server = Server(listening, answers, tokens, metrics, limits, stopping)
        port = await server.listen()
        watching = [one for one in (tokens, certificate) if one]
        async with _stopped_by_signals(stopping, watching):
            keeping = asyncio.create_task(log.keep())
            looking = asyncio.create_task(_look(watching))
            listens(f"{'https' if certificate else 'http'}://{_in_url(options.host)}:{port}")
            try:
                ended = asyncio.create_task(stopping.wait())
                await asyncio.wait((keeping, looking, ended), return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                for task in (keeping, looking):
                    if task.done():
                        task.result()  # it ends with an error only
            finally:
                stopping.set()
                stops(settings.lifecycle.drain_s)
                deadline = Deadline(settings.lifecycle.drain_s)
                logger.info("draining: what was begun is answered", extra={"drain_s": settings.lifecycle.drain_s})
                whole = await server.drain(Deadline(max(0.0, deadline.left_s - CLOSING_S)))
                whole = await log.settled(deadline) and whole
                logger.info("drained" if whole else "deadline reached: what was not answered may be published or not")
                for task in (keeping, looking):
                    task.cancel()
                await asyncio.wait((keeping, looking), timeout=CLOSING_S)


class Certificate:
    """Of the server, as it is now; connections that begin later have the newer one."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Raises ConfigError when it cannot be used."""
        self._files = cert, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._seen = self._state()
        self._load()

    def _load(self) -> None:
        cert, key = self._files
        try:
            self.context.load_cert_chain(cert, key)
        except OSError as exc:
            raise ConfigError(f"--tls-cert {cert}, with --tls-key {key}, cannot be used: {exc}") from exc

    def look(self, *, again: bool = False) -> None:
        """Load it again where it changed, or at once. One that cannot be used changes nothing, and the log says why."""
        seen = self._state()
        if seen == self._seen and not again:
            return
        self._seen = seen
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*self._files)
            self._load()
        except (OSError, ConfigError) as exc:
            logger.error("the certificate is the one from before", extra={"reason": str(exc)})
        else:
            logger.info("the certificate was read")

    def _state(self) -> list[tuple[int, int]]:
        found = []
        for path in filter(None, self._files):
            try:
                state = path.stat()
            except OSError:
                continue
            found.append((state.st_mtime_ns, state.st_ino))
        return found


def _listening(options: Options, certificate: Certificate | None) -> Listening:
    """Raises ConfigError where anybody could publish, or a token would be sent unencrypted."""
    if options.tls_key and not options.tls_cert:
        raise ConfigError("--tls-key is the key of --tls-cert, which is missing")
    local = is_local(options.host)
    if not local and options.tokens is None:
        raise ConfigError(
            f"--host {options.host} is reached from other machines, and whoever reaches it could publish and delete: "
            "give it --tokens FILE (`penstock ingest token NAME` makes a token), or listen on 127.0.0.1"
        )
    if not local and certificate is None and not options.allow_plaintext_tokens:
        raise ConfigError(
            f"--host {options.host} without TLS would have tokens, and everything else, sent unencrypted: give it "
            "--tls-cert and --tls-key, or, behind something that ends TLS, --allow-plaintext-tokens"
        )
    return Listening(
        host=options.host,
        port=options.port,
        secure=certificate.context if certificate else None,
        local=options.tokens is None,
    )


def is_local(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _why_not_ready(log: Log, stopping: asyncio.Event) -> list[str]:
    """For whoever asks: without names or addresses, which the log has."""
    if stopping.is_set():
        return ["it is stopping"]
    return ["Kafka is away"] if log.admission.away else []


async def _look(watching: Sequence[Tokens | Certificate]) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        for one in watching:
            one.look()


@asynccontextmanager
async def _stopped_by_signals(stopping: asyncio.Event, watching: Sequence[Tokens | Certificate]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def stop(_: int) -> None:
        stopping.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, _end_at_once)

    def look() -> None:
        for one in watching:
            one.look(again=True)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, look)
    try:
        yield
    finally:
        for number in (*SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _end_at_once(number: int, _: object) -> None:
    os.write(2, b"penstock: second signal: exiting at once\n")
    os._exit(128 + number)
