"""Before a worker consumes: settings → model files → provider → warm-up → topics → index contract."""

import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from agents.claims import Claim, changelog_topic, read_claims, too_many_rejected
from agents.contract import contract_of
from agents.elastic import connect, index_gone
from agents.identity import IndexIdentity
from agents.index import Index
from agents.kafka import LogReader, log_reader
from agents.settings import Settings, cache_dir
from models.embedder import Embedder, load_embedder
from models.manifest import read_manifest
from models.verdict import Wanted
from streams.errors import RefusedError
from streams.generations import Generation
from streams.shapes import START, Shapes
from streams.share import Share

CHANGELOG_CONFIG = {"cleanup.policy": "compact", "segment.ms": "3600000"}
logger = logging.getLogger(__name__)

DEAD_LETTER_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "max.message.bytes": str(16 * 1024**2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks found."""

    embedder: Embedder
    partitions: int
    identity: IndexIdentity


def wanted_setup(settings: Settings) -> Wanted:
    """How the model should be run."""
    model = settings.model
    return Wanted(provider=model.provider, precision=model.precision, threads=model.threads, cache=cache_dir())


def load_model(settings: Settings) -> Embedder:
    """The configured model, verified and warm. Blocks for about a second, the first time on a machine for twenty."""
    batch = settings.batch
    return load_embedder(
        settings.model_folder,
        wanted=wanted_setup(settings),
        shapes=Shapes(longest_run_s=batch.linger_ms / 1000, most=batch.max_tokens)
        if batch.adaptive
        else Shapes(fixed=batch.max_tokens or START),
        say=logger.info,
    )


async def check(settings: Settings) -> Checked:
    """All checks, in order; makes the changelog and dead-letter topics when they are missing.

    Raises PenstockError or RefusedError for the first that fails; nothing was consumed then.
    """
    embedder = load_model(settings)
    try:
        return await check_servers(settings, embedder)
    except BaseException:
        embedder.close()
        raise


async def check_servers(settings: Settings, embedder: Embedder) -> Checked:
    """The checks that need Kafka and Elasticsearch. Raises AwayError while one of them does not answer."""
    async with log_reader(settings) as reader:
        partitions = await ensure_topics(reader, settings)
        await reader.group_members(settings.source.group)  # refused now: joining it would be tried for ever
        claims = await read_claims(reader, settings)
    async with connect(settings.elasticsearch) as client:
        contract = contract_of(settings, embedder.manifest, partitions)
        index = Index(client, settings)
        if claims and not await index.generations():
            raise index_gone(f"the index behind {settings.elasticsearch.alias}")
        identity = await index.identify(contract)
    _require_few_rejected(settings, [claim for claim in claims.values() if claim.sink == identity.sink])
    return Checked(embedder=embedder, partitions=partitions, identity=identity)


async def create_index(settings: Settings, *, load: bool = False, beside: bool = False) -> tuple[Generation, bool]:
    """Make the index for the configured model and topic. Returns it, and whether it was made now.

    `load`: in load mode, see `agents.load_mode`. `beside`: a further one when there is one with another contract.
    """
    manifest = read_manifest(settings.model_folder)
    async with log_reader(settings) as reader:
        partitions = await reader.require_partitions(settings.source.topic)
    async with connect(settings.elasticsearch) as client:
        contract = contract_of(settings, manifest, partitions)
        return await Index(client, settings).create(contract, load=load, beside=beside)


def _require_few_rejected(settings: Settings, claims: Iterable[Claim]) -> None:
    """Refuse where the last worker stopped because of its dead letters."""
    total = functools.reduce(Share.plus, (claim.share for claim in claims), Share())
    if total.exceeds(settings.dead_letters.max_ratio):
        raise too_many_rejected(total, settings.dead_letters.max_ratio)


async def ensure_topics(reader: LogReader, settings: Settings) -> int:
    """Make the changelog and dead-letter topics when they are missing. Returns the source topic's partitions."""
    partitions = await reader.require_partitions(settings.source.topic)
    changelog = changelog_topic(settings)
    found = await reader.partitions(changelog)
    if found is None:
        await reader.create_topic(changelog, partitions, CHANGELOG_CONFIG)
    elif found != partitions:
        raise RefusedError(
            f"the changelog topic {changelog} has {found} partitions, {settings.source.topic} has {partitions}: "
            "stop the workers, then begin a new epoch with `penstock index epoch bump --why …`"
        )
    if await reader.partitions(settings.dead_letter_topic) is None:
        await reader.create_topic(settings.dead_letter_topic, 1, DEAD_LETTER_CONFIG)
    return partitions
