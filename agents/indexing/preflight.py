"""Before a worker consumes: settings → model files → provider → warm-up → topics → index contract."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agents.configured import contract_of, manifests_of
from agents.elastic.client import connect
from agents.elastic.errors import index_gone
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index
from agents.indexing.embedders import close_models, load_models
from agents.indexing.indexed_log import require_indexed_log
from agents.kafka.claims import read_claims, too_many_rejected
from agents.kafka.dead_letters import BROKERS_TIME, DEAD_LETTER_CONFIG, LEAST_BYTES, make_dead_letter_topic
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from models.embedder import Model
from streams.claim import Claim, history_known
from streams.contract import Described
from streams.dead_letter import Home
from streams.epochs import History, begin_epoch, to_contract
from streams.errors import AwayError, PenstockError, RefusedError
from streams.generations import Generation
from streams.share import Share

CHANGELOG_CONFIG = {"cleanup.policy": "compact", "segment.ms": "3600000", **BROKERS_TIME}
logger = logging.getLogger(__name__)

SIZE = "max.message.bytes"
BROKERS_BYTES = "1048588"
"""Kafka's own limit, where none is set."""
KEEPING = ("cleanup.policy", "retention.ms")
"""Settings by which a topic loses records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks found."""

    models: tuple[Model, ...]
    """All that are in use, the default one first."""
    topic: Described
    identity: IndexIdentity
    unverified: bool = False
    """Chunks may be missing that the registry has as written, see `Index.watch_shards`."""
    indexed: Mapping[int, int] = field(default_factory=dict)
    """The offset after the newest record of this log that the registry knows of, by partition."""

    @property
    def embedder(self) -> Model:
        """The default one."""
        return self.models[0]

    def close(self) -> None:
        """Let the models go."""
        close_models(self.models)

    @property
    def partitions(self) -> int:
        """Of the source topic."""
        return self.topic.partitions

    @property
    def history(self) -> History:
        """Of the log, for claims."""
        cuts = to_contract(self.identity.epochs.of_this_log)
        return History(log=self.topic.log, partitions=self.partitions, cuts=cuts)

    def home(self, settings: Settings) -> Home:
        """What dead letters of these settings are about. The log is known now, if not yet in the contract."""
        return replace(self.identity.home(settings.source.group), log=self.topic.log)


async def check(
    settings: Settings, *, any_log: bool = False, load: Callable[[Settings], tuple[Model, ...]] = load_models
) -> Checked:
    """All checks, in order; makes the changelog and dead-letter topics when they are missing.

    `any_log`: also where the index holds another log than the topic that is there now, or workers stopped for their
    dead letters; for who only looks. `load`: who makes the models.
    Raises PenstockError or RefusedError for the first that fails; nothing was consumed then.
    """
    models = load(settings)
    try:
        return await check_servers(settings, models, any_log=any_log)
    except BaseException:
        close_models(models)
        raise


async def prove_all(models: Iterable[Model]) -> None:
    """Those that were not proved when they were loaded: services. Raises as `Embedder.prove`."""
    for model in models:
        if not model.proved:
            await model.prove()


async def check_servers(settings: Settings, models: tuple[Model, ...], *, any_log: bool = False) -> Checked:
    """The checks that need Kafka, Elasticsearch and the embedding services, if there are any.

    Raises AwayError while one of them does not answer.
    """
    await prove_all(models)
    async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
        topic = await reader.require_topic(settings.source.topic)
        claims, index = await read_claims(reader, settings), Index(client, settings)
        if not any_log:  # before whatever advises to begin an epoch
            await require_own_group(reader, index, settings.source.topic, topic.log)
        mine = await index.mine()
        if claims and mine is None:  # before the topics: nothing can be said of a new epoch without it
            raise index_gone(f"the index behind {settings.elasticsearch.alias}")
        if mine and not any_log:
            index.require_remembered(mine, history_known(claims.values(), topic.log))
        await ensure_topics(reader, settings, topic)
        await reader.group_members(settings.source.group)  # refused now: joining it would be tried for ever
        contract = contract_of(settings, [model.manifest for model in models], topic)
        identity = await index.identify(contract, any_log=any_log)
        newest: Mapping[int, int] = {}
        if not any_log:
            newest = await require_indexed_log(reader, client, settings, identity, claims, topic.partitions)
        try:
            await index.require_served(identity.index)
        except PenstockError as exc:
            logger.warning(str(exc))
    if not any_log:
        require_few_rejected(settings, claims.values(), identity.sink)
    return Checked(models=models, topic=topic, identity=identity, indexed=identity.epochs.known_up_to(newest))


async def create_index(
    settings: Settings, *, load: bool = False, beside: bool = False, snapshots: bool = False
) -> tuple[Generation, bool]:
    """Make the index for the configured model and topic. Returns it, and whether it was made now.

    `load`: in load mode, see `agents.worker.load_mode`. `beside`: a further one when there is one with another
    contract. `snapshots`: with room for these, too.
    """
    manifests = manifests_of(settings)
    async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
        topic, index = await reader.require_topic(settings.source.topic), Index(client, settings)
        await require_own_group(reader, index, settings.source.topic, topic.log)
        claims = await read_claims(reader, settings)
        contract, history = contract_of(settings, manifests, topic), history_known(claims.values(), topic.log)
        return await index.create(contract, load=load, beside=beside, history=history, snapshots=snapshots)


async def require_own_group(reader: LogReader, index: Index, topic: str, log: str) -> None:
    """Raises RefusedError where the group feeds an index from another topic, or under another alias, too.

    As far as this login sees them.

    Nobody feeds one whose topic is gone.
    """
    mine = await index.mine()
    other = mine.contract["source"]["topic"] if mine and mine.group == index.group else topic
    if mine and other != topic and not await reader.is_gone(other):
        raise RefusedError(
            f"{mine.index}, behind the alias that elasticsearch.alias names, is made of the topic {other}, and "
            f"source.topic is {topic}: choose another elasticsearch.alias for that, and another source.group"
        )
    try:
        found = await index.fed_beside(topic, log)
    except AwayError:
        raise
    except PenstockError:  # a login for its own indices alone
        return
    for one in found:
        name, other = one.index, one.contract["source"]["topic"]
        if await reader.is_gone(other):
            continue
        feeds = f"feeds {name} from the topic {other}, and source.topic is {topic}"
        if other == topic:
            feeds = f"feeds {name}, of another alias, from {topic}, too"
        raise RefusedError(
            f"the consumer group {index.group} {feeds}: a group's claims have room for one index, and each would void "
            f"the other's. Choose another source.group for one of them; or, where nobody needs {name} any more, delete "
            f"it and {name}-registry"
        )


def require_few_rejected(settings: Settings, claims: Iterable[Claim], sink: str) -> None:
    """Refuse where the last worker stopped because of its dead letters. Claims about another sink say nothing."""
    total = Share.of_all(claim.share for claim in claims if claim.sink == sink)
    if total.stopped and total.exceeds(settings.dead_letters.max_ratio):
        raise too_many_rejected(total, settings.dead_letters.max_ratio)


async def ensure_topics(reader: LogReader, settings: Settings, topic: Described) -> None:
    """Make the changelog and dead-letter topics when they are missing. `topic`: the source topic as it is now."""
    changelog = settings.changelog_topic
    found = await reader.partitions(changelog)
    if found is None:
        await reader.create_topic(changelog, topic.partitions, CHANGELOG_CONFIG)
    elif found != topic.partitions:
        raise RefusedError(
            f"{settings.source.topic} has {topic.partitions} partitions, and its changelog topic {changelog} {found}: "
            "some were added, so that keys have moved, or the topic was made anew. "
            f"{begin_epoch(None, settings.source.group)}"
        )
    else:
        await _warn_of(reader, settings, changelog, CHANGELOG_CONFIG, "the claims of partitions that are idle")
    letters = settings.dead_letter_topic
    if await make_dead_letter_topic(reader, settings):
        return
    if await reader.is_compacted(letters):
        raise RefusedError(
            f"the dead-letter topic {letters} is compacted, and so takes no dead letter without a key: "
            f"{_altered(settings, letters, {'cleanup.policy': 'delete'})}; or choose another dead_letters.topic"
        )
    await _warn_of(reader, settings, letters, DEAD_LETTER_CONFIG, "dead letters that are still open")


async def _warn_of(reader: LogReader, settings: Settings, topic: str, wanted: Mapping[str, str], what: str) -> None:
    """Of a topic that somebody else made, or the broker by itself: what it loses by its settings.

    Raises RefusedError where it takes nothing.
    """
    found = await reader.configs(topic)
    if int(found.get(SIZE, LEAST_BYTES)) < LEAST_BYTES:
        raise RefusedError(
            f"{topic} takes no record of more than {found[SIZE]} bytes, too little for what is written there: give it "
            f"more, {_altered(settings, topic, {SIZE: wanted.get(SIZE, BROKERS_BYTES)})}"
        )
    wrong = {name: wanted[name] for name in KEEPING if name in wanted and found.get(name, wanted[name]) != wanted[name]}
    if wrong:
        has = ", ".join(f"{name} = {found[name]}" for name in wrong)
        logger.warning(f"{topic} has {has}, by which {what} are lost after a while: {_altered(settings, topic, wrong)}")


def _altered(settings: Settings, topic: str, wanted: Mapping[str, str]) -> str:
    """The command that gives a topic these settings."""
    change = ",".join(f"{name}={value}" for name, value in wanted.items())
    return (
        f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {change} "
        f"--bootstrap-server {settings.kafka.bootstrap_servers}`"
    )
