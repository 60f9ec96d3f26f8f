"""How every client reaches the brokers, and what is said where it does not."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import client as client_module
from aiokafka.admin import client as admin_module
from aiokafka.errors import (
    BrokerNotAvailableError,
    ClusterAuthorizationFailedError,
    DelegationTokenAuthorizationFailed,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    RebalanceInProgressError,
    ReplicaNotAvailableError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.producer import producer as producer_module
from aiokafka.protocol.metadata import MetadataRequest

from agents.kafka.bootstrap import Found
from agents.settings import Settings
from streams.errors import AwayError, ConfigError, PenstockError

REFUSALS = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    DelegationTokenAuthorizationFailed,
)
ACL = "the ACL for it (the runbook's section on secrets lists those that are needed)"
AWAY = (
    KafkaTimeoutError,
    KafkaUnavailableError,
    BrokerNotAvailableError,
    ReplicaNotAvailableError,
    RebalanceInProgressError,
)
"""What passes by itself, too, beside the errors that aiokafka calls retriable."""
UNCONNECTED = "Unable to bootstrap from"
"""How aiokafka says that it got on with none of the servers."""


class _Question(MetadataRequest):  # type: ignore[misc]  # aiokafka is untyped here
    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


class _Client(client_module.AIOKafkaClient):  # type: ignore[misc]  # aiokafka is untyped here
    asked: tuple[Any, float] | None = None

    async def _metadata_update(self, cluster: Any, topics: Any) -> Any:
        """At most one every `retry_backoff_ms`, as Kafka's own client does: aiokafka's producer asks without a pause.

        While a partition has no leader, or its topic is gone, that took a whole core of each worker, and of the broker.
        """
        loop, wanted = asyncio.get_running_loop(), frozenset(topics or ())
        if self.asked and self.asked[0] == wanted:
            await asyncio.sleep(max(0.0, self.asked[1] + self._retry_backoff - loop.time()))
        self.asked = wanted, loop.time()
        return await super()._metadata_update(cluster, topics)


def mend_clients() -> None:
    """Every client of this process; aiokafka has no settings for it. Twice is harmless.

    None makes a topic by asking for it, as a broker's default lets it: one that an operator has just deleted would be
    there again, with one partition and settings that lose claims and letters. And a producer's asks at a pace.
    """
    client_module.MetadataRequest = admin_module.MetadataRequest = _Question
    producer_module.AIOKafkaClient = _Client


def tls(settings: Settings) -> ssl.SSLContext | None:
    """Whom to trust, and who we are; None without TLS. Raises ConfigError naming the file that cannot be used."""
    kafka = settings.kafka
    if not kafka.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    except OSError as exc:
        raise ConfigError(f"kafka.ssl_cafile = {kafka.ssl_cafile} cannot be used: {exc}") from exc
    context.check_hostname = kafka.ssl_check_hostname
    if kafka.ssl_certfile:
        password = kafka.ssl_password.get_secret_value() if kafka.ssl_password else ""
        try:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password)
        except OSError as exc:
            raise ConfigError(
                f"kafka.ssl_certfile = {kafka.ssl_certfile}, with kafka.ssl_keyfile and kafka.ssl_password, "
                f"cannot be used: {exc}"
            ) from exc
    return context


def connection(settings: Settings) -> dict[str, Any]:
    """Options of every client of aiokafka: where the brokers are, and how to log in.

    Raises ConfigError when the login would be sent unencrypted, or a file of the certificates cannot be used.
    """
    mend_clients()
    kafka = settings.kafka
    if kafka.security_protocol == "SASL_PLAINTEXT" and not kafka.allow_plaintext_credentials:
        raise ConfigError(
            "kafka.security_protocol = SASL_PLAINTEXT would send the login, and everything else, unencrypted: use "
            "SASL_SSL, or set kafka.allow_plaintext_credentials = true"
        )
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "ssl_context": tls(settings),
    }
    if kafka.sasl_password:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options


def passes(exc: BaseException) -> bool:
    """Whether the same request may succeed later, by itself."""
    return isinstance(exc, AWAY) or bool(getattr(exc, "retriable", False))


@contextmanager
def translated(servers: str) -> Iterator[None]:
    """Whatever the client raises inside, or a time-out, is an error of our own outside."""
    try:
        yield
    except (KafkaError, TimeoutError) as exc:
        raise unreachable(servers, exc) from exc


def unreachable(servers: str, exc: BaseException, found: Sequence[Found] = ()) -> PenstockError:
    """One line about a broker that does not answer, or refuses; AwayError when it may answer later.

    `found`: what answers there. ConfigError where no server is a Kafka; where one takes connections, a closed one is
    for the login or the certificates.
    """
    if isinstance(exc, REFUSALS):
        return PenstockError(
            f"Kafka at {servers} refuses access ({exc}): the login lacks an ACL; the runbook's section on secrets "
            "lists those that are needed"
        )
    foreign = [f"{each.server} answers {each.says}" for each in found if each.says]
    if found and len(foreign) == len(found):
        return ConfigError(f"kafka.bootstrap_servers = {servers}: no Kafka is there; {'; '.join(foreign)}")
    silent = [f"{each.server} takes connections and says nothing" for each in found if each.silent]
    closed = isinstance(exc, KafkaConnectionError) and any(each.listens and not each.says for each in found)
    away = isinstance(exc, TimeoutError) or (passes(exc) and not closed)
    return (AwayError if away else PenstockError)(
        f"Kafka at {servers} cannot be reached ({'; '.join([_reason(exc, found), *foreign, *silent])}): "
        "is it up, and are kafka.bootstrap_servers, kafka.security_protocol and the login right?"
    )


def _reason(exc: BaseException, found: Sequence[Found]) -> str:
    """The client's own words, but where these are Python's for a list of addresses."""
    if UNCONNECTED not in str(exc):
        return str(exc) or type(exc).__name__
    closed = any(each.listens and not each.says and not each.silent for each in found)
    return "connections are closed at once" if closed else "no connection"
