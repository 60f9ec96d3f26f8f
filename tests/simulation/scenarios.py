"""Small worlds that are explored, and mutations of the product that must be found in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from agents.elastic.chunks import ChunkIndex
from agents.elastic.entries import Registry
from agents.elastic.store import Operation
from agents.indexing import stages
from agents.kafka import claims
from agents.operations import repair
from agents.operations.filling import Filling
from agents.worker import assignment
from agents.worker.assignment import Assignment, Partition
from agents.worker.pipeline import Batch
from agents.worker.spending import Spending
from models.api import asking
from models.api.asking import Asking
from models.embedder import Embedding, Failure
from models.memory import MemoryEmbedder
from streams import contract, plan, protocol, registry, snapshot
from streams.claim import Claim
from streams.cost import NOTHING_SPENT, day_of
from streams.document_vector import document_vector
from streams.epochs import Epochs
from streams.ledger import Admission, Ledger
from streams.memory import MemoryLog
from streams.ports import Next
from streams.registry import Entry, Stored
from tests.simulation.elastic import REFUSED
from tests.simulation.service import AT_FAULT
from tests.simulation.world import Scenario, SimulatedEmbedder, SimulatedStore, World

FAULTS = {"crash": 2, "gap": 1, "lost": 2, "late": 2, "order": 2, "rebalance": 1, "reopen": 1}
WINDOWS = (1, 2, 3)

LIFE = Scenario(
    records=(
        ("a", ("x", "y")),
        ("b", ("q",)),
        ("a", ("z",)),
        ("a", None),
        ("b", ("q", "r")),
        ("a", ("bad",)),
        ("a", ("x",)),
    ),
    windows=WINDOWS,
    workers=3,
    faults=FAULTS,
)
"""Two documents that grow, shrink, go and come back, with a record that is not the wire format."""

REFUSALS = Scenario(
    records=(
        ("a", ("x", "y")),
        ("b", ("q",)),
        ("a", ("x", REFUSED)),
        ("a", ("k", REFUSED, "m")),
        ("b", (REFUSED,)),
    ),
    windows=WINDOWS,
    workers=3,
    faults=FAULTS,
)
"""The server takes some chunks of a record and refuses another."""

SERVED = Scenario(
    records=(
        ("a", ("a1", "a2", "a3")),
        ("b", ("b1",)),
        ("c", (AT_FAULT,)),
        ("d", ("d1", "d2")),
        ("a", ("a4", "a5")),
        ("e", ("e1", "e2", "e3", "e4")),
        ("b", None),
    ),
    windows=WINDOWS,
    workers=3,
    batch_chunks=3,
    zombies=False,
    service=True,
    costs=True,
    faults={"crash": 2, "lost": 1, "order": 1, "busy": 2, "unanswered": 1, "wrong": 2},
)
"""Vectors come from a service that refuses one of the texts, is busy, loses answers, and gives wrong ones."""

PAID = Scenario(
    records=(
        ("a", ("a1", "a02", "a0003")),
        ("b", ("b1",)),
        ("a", ("a004", "a5")),
        ("c", ("c1", "c02")),
        ("b", None),
        ("d", ("d1", "d002", "d3", "d4")),
        ("b", ("b0002",)),
    ),
    windows=WINDOWS,
    workers=3,
    zombies=False,
    costs=True,
    faults={"crash": 2, "gap": 1, "lost": 1, "order": 1, "rebalance": 1},
)
"""It is counted what embedding costs."""

RANDOM = {
    "life of two documents": LIFE,
    "two models": replace(LIFE, routed=True),
    "chunks refused halfway": REFUSALS,
    "refused, then the mapping is mended": replace(REFUSALS, zombies=False, faults={**FAULTS, "mend": 1}),
    "a bad record is redriven": replace(LIFE, faults={**FAULTS, "redrive": 2}),
    "refused, mended, redriven": replace(REFUSALS, zombies=False, faults={**FAULTS, "mend": 1, "redrive": 2}),
    "vacuumed and set back": replace(LIFE, zombies=False, faults={**FAULTS, "vacuum": 2, "rewind": 1}),
    "a backfill beside workers": replace(
        LIFE, zombies=False, faults={"crash": 2, "lost": 1, "late": 1, "order": 1, "backfill": 2}
    ),
    "a backfill, and what is vacuumed": Scenario(
        records=(("a", ("x",)), ("b", ("q",)), ("b", ("r",)), ("a", None)),
        windows=(1,),
        workers=1,
        zombies=False,
        faults={"crash": 1, "backfill": 1, "vacuum": 1},
    ),
    "snapshots beside the stream": Scenario(
        records=(("a", ("x",)), ("b", ("q", "r")), ("a", None)),
        snapshots=(
            (("a", ("k",)), ("c", ("l", "m")), ("d", ("n",))),
            (("c", ("l",)), ("b", ("o",)), ("e", ("s", "t")), ("e", ("u", "v"))),
        ),
        windows=(1, 2),
        workers=2,
        faults={"crash": 2, "lost": 1, "late": 1, "order": 1, "snapshot": 3},
    ),
    "damaged and repaired": replace(LIFE, faults={**FAULTS, "damage": 2, "repair": 2}),
    "damaged, known to be, and published again": replace(
        LIFE,
        records=(("a", ("x", "y")), ("b", ("q",)), ("a", ("x", "y")), ("b", ("q",)), ("a", ("x", "y"))),
        faults={**FAULTS, "damage": 2},
        unverified=True,
    ),
    "restored, and the records are gone": Scenario(
        records=(
            ("a", ("x", "y")),
            ("a", ("z", "x", "k")),
            ("b", ("q",)),
            ("a", ("z",)),
            ("a", ("k", "x")),
            ("b", None),
            ("a", ("y",)),
        ),
        windows=(1, 2),
        # nobody slept through the restore, and writes then what its snapshot has not
        zombies=False,
        faults={"crash": 1, "lost": 1, "restore": 2, "repair": 2},
        unverified=True,
    ),
    "the topic is made anew": replace(
        LIFE, anew=(("a", ("n",)), ("b", None), ("a", ("n", "m")), ("c", ("q",))), faults={**FAULTS, "anew": 1}
    ),
    "the same content comes again": replace(
        LIFE,
        records=(
            ("a", ("x", "y")),
            ("b", ("q",)),
            ("a", ("x", "y")),
            ("a", ("x", "y")),
            ("a", ("z",)),
            ("b", ("q",)),
            ("a", ("z",)),
        ),
        anew=(("b", ("q",)), ("a", ("x",)), ("a", ("x",))),
        faults={**FAULTS, "anew": 1},
    ),
    "topic and claims are replaced, and nobody says so": replace(
        LIFE,
        anew=(
            ("a", ("n",)),
            ("b", None),
            ("a", ("n", "m")),
            ("c", ("q",)),
            ("a", ("bad",)),
            ("b", ("x",)),
            ("a", None),
        ),
        faults={**FAULTS, "replaced": 1, "redrive": 1},
    ),
    "a shorter log, and no topic ids": replace(
        LIFE, anew=(("a", ("n",)), ("b", None)), topic_ids=False, zombies=False, faults={"replaced": 1}
    ),
    "letters of an index that was made anew": Scenario(
        records=(("a", ("bad",)), ("b", ("bad",)), ("a", ("n",))),
        epoch=1,
        windows=WINDOWS,
        workers=4,
        zombies=False,
        faults={"crash": 1, "renew": 1, "redrive": 2},
    ),
    "holes in the log": replace(LIFE, holes=frozenset({0, 3, 6})),
    "retention overtakes": replace(LIFE, holes=frozenset({3}), faults={**FAULTS, "retention": 2}),
    "the model is swapped": replace(LIFE, faults={"crash": 1, "lost": 1, "order": 1, "rebalance": 1, "swap": 2}),
    "the chunk index is made anew": replace(LIFE, faults={**FAULTS, "replace": 1}),
    "a service that fails": SERVED,
    "what is spent is in the claims": PAID,
    "a budget of a third": replace(PAID, per_day=12, faults={"crash": 1, "rebalance": 1, "gap": 1, "day": 2}),
    "another model once the budget is used up": replace(
        PAID,
        routed=True,
        refuge=True,
        per_day=8,
        batch_chunks=1,
        faults={"crash": 2, "rebalance": 1, "lost": 1, "day": 2},
    ),
    "one hot document": Scenario(
        records=tuple(("a", tuple(f"{n}/{i}" for i in range(n))) for n in (3, 1, 2, 0, 1, 3)),
        windows=(1, 2, 4),
        workers=3,
        faults=FAULTS,
    ),
}
"""Explored at random."""

EXHAUSTIVE = {
    "shrink, one worker, killed and rebalanced anywhere": Scenario(
        records=(("a", ("x", "y")), ("a", ("z",))),
        windows=(1, 2),
        workers=2,
        faults={"crash": 1},
    ),
    "shrink in one window, a zombie": Scenario(
        records=(("a", ("x", "y")), ("a", ("z",))), windows=(2,), batch_chunks=9, workers=2
    ),
    "one document, a lost answer and a late copy": Scenario(
        records=(("a", ("x",)),), windows=(1,), workers=2, faults={"lost": 1, "late": 1}
    ),
    "refused halfway, with a late copy": Scenario(
        records=(("a", ("x", REFUSED)),), windows=(1,), workers=2, faults={"late": 1, "order": 1}
    ),
    "one refused record, killed and redriven": Scenario(
        records=(("a", (REFUSED,)),), windows=(1,), zombies=False, faults={"crash": 1, "mend": 1, "redrive": 1}
    ),
    "tombstone, and the shards reopen": Scenario(
        records=(("a", ("x",)), ("a", None)), windows=(1,), workers=2, faults={"reopen": 1}
    ),
}
"""Explored whole, as far as the limit of runs goes."""


@dataclass(frozen=True)
class Mutation:
    """One rule taken out of the product, and the world in which that is found."""

    rule: str
    world: str
    apply: Callable[[pytest.MonkeyPatch], None]


def _no_intent(patch: pytest.MonkeyPatch) -> None:
    real = Registry.swap

    async def swap(self: Registry, changes: Any) -> list[Stored | None]:
        real_changes = [
            (entry, None if before and before.seq_no < 0 else before)
            for entry, before in changes
            if entry.state != "writing"
        ]
        results = iter(await real(self, real_changes))
        return [_unwritten(entry, before) if entry.state == "writing" else next(results) for entry, before in changes]

    def _unwritten(entry: Entry, before: Stored | None) -> Stored:
        return Stored(entry=entry, seq_no=before.seq_no if before else -1, primary_term=1)

    patch.setattr(Registry, "swap", swap)


def _operations(change: Callable[[dict[str, Any], dict[str, Any]], Operation]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change what is sent: `change` gets meta and source."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        real = SimulatedStore.apply

        def changed(self: SimulatedStore, alias: str, operation: Operation) -> tuple[Any, Any]:
            return real(self, alias, change(dict(operation.meta), operation.source))

        patch.setattr(SimulatedStore, "apply", changed)

    return apply


def _blind_swap(meta: dict[str, Any], source: dict[str, Any]) -> Operation:
    if "state" in source:
        meta = {"_id": meta["_id"]}
    return Operation(action="index", meta=meta, source=source)


def _no_version(meta: dict[str, Any], source: dict[str, Any]) -> Operation:
    if "state" not in source:
        meta = {"_id": meta["_id"]}
    return Operation(action="create" if "state" in source and len(meta) == 1 else "index", meta=meta, source=source)


def _equal_wins(meta: dict[str, Any], source: dict[str, Any]) -> Operation:
    if "version_type" in meta:
        meta["version_type"] = "external_gte"
    return Operation(action="create" if "state" in source and len(meta) == 1 else "index", meta=meta, source=source)


def _delete_for_stub(patch: pytest.MonkeyPatch) -> None:
    from tests.simulation import world

    real = world._stored
    patch.setattr(
        world,
        "_stored",
        lambda source: None if "penstock" in source and source["penstock"]["stub"] else real(source),
    )


def _admit_all(patch: pytest.MonkeyPatch) -> None:
    def offer(self: Ledger, offset: int, _: int) -> Admission:
        if offset < self._expected:
            return Admission.SKIP
        self._open.append(offset)
        self._expected = offset + 1
        return Admission.ENTER

    patch.setattr(Ledger, "offer", offer)


def _claim_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "claimable", property(lambda self: self._expected - 1))


def _ack_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Assignment.admit

    async def admit(self: Assignment, delivered: Any) -> Any:
        delivered = list(delivered)
        admitted = await real(self, delivered)
        entered = {record.offset for _, record in admitted}
        for record, _, event in delivered:
            if record.offset in entered:
                event.ack()
        return admitted

    patch.setattr(Assignment, "admit", admit)


def _claim_of_any_index(patch: pytest.MonkeyPatch) -> None:
    real = claims.start_offsets

    async def start(reader: Any, topic: str, found: Mapping[int, Any], sink: str) -> dict[int, int]:
        ours = {number: claim and replace(claim, sink=sink) for number, claim in found.items()}
        return await real(reader, topic, ours, sink)

    patch.setattr(assignment, "start_offsets", start)


def _out_of_range_is_the_end(patch: pytest.MonkeyPatch) -> None:
    real = MemoryLog.next_from

    async def next_from(self: MemoryLog, topic: str, partition: int, offset: int) -> Next:
        log = self.partitions[partition]
        if offset < log.begin:
            return Next(record=None, position=log.end, start=offset)
        return await real(self, topic, partition, offset)

    patch.setattr(MemoryLog, "next_from", next_from)


def _losses_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assignment, "_lose", lambda *_: None)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(World, "resolve", lambda self, alias: self.chunks if alias.startswith("chunks") else self.registry)


def _entries_of_any_index(patch: pytest.MonkeyPatch) -> None:
    real = registry.decide

    def decide(stored: Stored | None, wanted: Any, *, chunk_index_uuid: str, **about: Any) -> Any:
        uuid = stored.entry.chunk_index_uuid if stored else chunk_index_uuid
        return real(stored, wanted, chunk_index_uuid=uuid, **about)

    patch.setattr(protocol, "decide", decide)


def _forget_highest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "max", lambda _, n: n, raising=False)


def _rejected_left_half(patch: pytest.MonkeyPatch) -> None:
    real = protocol._stubs
    patch.setattr(protocol, "_stubs", lambda work, *about: [] if work.rejected else real(work, *about))


def _stubs_unseen(patch: pytest.MonkeyPatch) -> None:
    async def stubs(*_: Any) -> dict[str, int]:
        return {}

    patch.setattr(ChunkIndex, "stubs", stubs)


def _redrive_overwrites(patch: pytest.MonkeyPatch) -> None:
    real = registry.decide

    def decide(stored: Stored | None, wanted: Any, **about: Any) -> Any:
        return real(None if wanted.attempt > 1 else stored, wanted, **about)

    patch.setattr(protocol, "decide", decide)


def _repair_overwrites(patch: pytest.MonkeyPatch) -> None:
    real = registry.decide

    def decide(stored: Stored | None, wanted: Any, **about: Any) -> Any:
        return real(None if wanted.repair else stored, wanted, **about)

    patch.setattr(protocol, "decide", decide)


def _keep_overwrites(patch: pytest.MonkeyPatch) -> None:
    class Blind:
        def __init__(self, entries: Any) -> None:
            self.entries = entries

        async def swap(self, changes: Any) -> Any:
            now = await self.entries.read([entry.doc_id for entry, _ in changes])
            return await self.entries.swap([(entry, now.get(entry.doc_id)) for entry, _ in changes])

    real = repair.keep

    async def keep(left: Any, stored: Any, rows: Any, chunks: Any, entries: Any, topic: str) -> None:
        await real(left, stored, rows, chunks, Blind(entries), topic)  # type: ignore[arg-type]

    patch.setattr(repair, "keep", keep)


def _keep_leaves_the_rest(patch: pytest.MonkeyPatch) -> None:
    async def stub(*_: Any) -> None:
        return None

    patch.setattr(repair, "stub", stub)


def _one_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(protocol.Work, "version", property(lambda work: work.record.offset + 1))


def _redrive_loses_to_its_refusal(patch: pytest.MonkeyPatch) -> None:
    real = plan.content_writes
    patch.setattr(protocol, "content_writes", lambda *a, **options: real(*a, **{**options, "over_equal": False}))


def _redrive_comes_in_between(patch: pytest.MonkeyPatch) -> None:
    real = registry._again

    def again(entry: Entry, wanted: Any, intent: Entry) -> Any:
        return registry.Begin(replace(intent, attempt=2)) if wanted.attempt > 1 else real(entry, wanted, intent)

    patch.setattr(registry, "_again", again)


def _content_version_moves(patch: pytest.MonkeyPatch) -> None:
    real = registry.decide

    def decide(*arguments: Any, **about: Any) -> Any:
        decision = real(*arguments, **about)
        if not isinstance(decision, registry.Touch):
            return decision
        return registry.Touch(replace(decision.entry, content_version=decision.entry.version))

    patch.setattr(protocol, "decide", decide)


def _unverified_is_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(protocol, "Wanted", lambda **about: registry.Wanted(**{**about, "unverified": False}))


def _documents_overtake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Batch, "doc_ids", property(lambda _: set()))


def _any_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(contract, "same_log", lambda *_: True)


def _versions_beyond_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Epochs, "beyond", lambda *_: {})


def _letters_of_any_index(patch: pytest.MonkeyPatch) -> None:
    from tests.simulation import world

    patch.setattr(world, "placed", lambda letter, _: letter)


def _vectors_unproved(patch: pytest.MonkeyPatch) -> None:
    async def prove(_: Any) -> float:
        return 1.0

    patch.setattr(MemoryEmbedder, "prove", prove)


def _proved_beforehand(patch: pytest.MonkeyPatch) -> None:
    real = MemoryEmbedder.prove

    async def embed(self: SimulatedEmbedder, tokens: Any) -> Embedding:
        await self.process.step("canary", lambda: (None, None))
        cosine = await real(self)
        rows = [await self.one(bytes(ids).decode()) for ids in tokens]
        return Embedding(vectors=np.asarray(rows, dtype=np.float32), runs=[], canary=cosine)

    patch.setattr(SimulatedEmbedder, "embed", embed)


def _vectors_of_any_model(patch: pytest.MonkeyPatch) -> None:
    real = ChunkIndex.read

    async def read(self: ChunkIndex, ids: Any, _: str) -> dict[str, Any]:
        return {**await real(self, ids, "vector"), **await real(self, ids, "vector_s")}

    patch.setattr(ChunkIndex, "read", read)


def _a_replay_chooses_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "_is_for_another_model", lambda *_: False)


def _the_budget_is_never_used_up(patch: pytest.MonkeyPatch) -> None:
    async def affords(*_: Any) -> bool:
        return True

    patch.setattr(Spending, "affords", affords)


def _mean_of_the_first_chunk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "document_vector", lambda vectors, tokens: document_vector(vectors[:1], tokens[:1]))


def _batch_at_fault(patch: pytest.MonkeyPatch) -> None:
    async def divide(_: Asking, batch: Any, members: list[int], outcome: Any) -> int:
        for place in members:
            batch.made.failed[place] = Failure("RefusedByService", "")
        return len(members)

    patch.setattr(Asking, "_divide", divide)


def _control_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asking, "GOLDEN", {"service": -2.0})


def _nothing_is_read_back(patch: pytest.MonkeyPatch) -> None:
    async def read(*_: Any) -> dict[str, Any]:
        return {}

    patch.setattr(ChunkIndex, "read", read)


def _spend_begins_anew(patch: pytest.MonkeyPatch) -> None:
    real = Partition.__init__

    def begin(self: Partition, number: int, stored: Claim, now: float) -> None:
        real(self, number, replace(stored, spend=NOTHING_SPENT), now)

    patch.setattr(Partition, "__init__", begin)


def _spend_is_claimed_again(patch: pytest.MonkeyPatch) -> None:
    class Kept(dict[int, Any]):
        def pop(self, key: int, *_: Any) -> Any:
            return self[key]

    real = Partition.__init__

    def begin(self: Partition, number: int, stored: Claim, now: float) -> None:
        real(self, number, stored, now)
        self.spent = Kept()

    patch.setattr(Partition, "__init__", begin)


def _budget_of_claims_alone(patch: pytest.MonkeyPatch) -> None:
    def mine(self: Spending, now: float) -> int:
        return sum(spend.on(day_of(now)) for spend in self._assignment.spends().values())

    patch.setattr(Spending, "_mine", mine)


def _claimed_beforehand(patch: pytest.MonkeyPatch) -> None:
    real = Filling.run

    async def run(self: Filling, starts: Any, fill: Any) -> Any:
        async def late(ranges: Any) -> Any:
            await self._claim(ranges, {})
            return await fill(ranges)

        return await real(self, starts, late)

    patch.setattr(Filling, "run", run)


def _known_is_settled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stages, "is_settled", lambda stored, **_: stored is not None)


def _vacuum_at_any_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(World, "may_vacuum", lambda self: True)


def _snapshots_in_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshot, "EPOCH", 1)


def _rows_replace_each_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "SNAPSHOT", None)


MUTATIONS = [
    Mutation("intent", "life of two documents", _no_intent),
    Mutation("compare-and-swap", "life of two documents", _operations(_blind_swap)),
    Mutation("version", "life of two documents", _operations(_no_version)),
    Mutation("admission", "life of two documents", _admit_all),
    Mutation("claim order", "life of two documents", _claim_all),
    Mutation("ack order", "life of two documents", _ack_at_once),
    Mutation("stub (a delete instead)", "life of two documents", _delete_for_stub),
    Mutation("index uuid in the claim", "the chunk index is made anew", _claim_of_any_index),
    Mutation("index uuid in the entry", "the chunk index is made anew", _entries_of_any_index),
    Mutation("retention is no hole up to the log's end", "retention overtakes", _out_of_range_is_the_end),
    Mutation("what is lost is counted", "retention overtakes", _losses_untold),
    Mutation("write alias of this very index", "the chunk index is made anew", _no_fence),
    Mutation("highest chunk number in the entry", "life of two documents", _forget_highest),
    Mutation("stubs over a refused document", "chunks refused halfway", _rejected_left_half),
    Mutation("content never beats its own version", "chunks refused halfway", _operations(_equal_wins)),
    Mutation("a redrive gives way to newer records", "a bad record is redriven", _redrive_overwrites),
    Mutation("a redrive replaces its own refusal", "refused, mended, redriven", _redrive_loses_to_its_refusal),
    Mutation("a redrive waits for the stream", "one refused record, killed and redriven", _redrive_comes_in_between),
    Mutation("a repair gives way to newer records", "damaged and repaired", _repair_overwrites),
    Mutation("what is kept gives way to newer records", "restored, and the records are gone", _keep_overwrites),
    Mutation("what is kept is all that there is", "restored, and the records are gone", _keep_leaves_the_rest),
    Mutation("epoch in the version", "the topic is made anew", _one_epoch),
    Mutation("the content's own version in the entry", "the same content comes again", _content_version_moves),
    Mutation("unchanged is not untouched", "damaged, known to be, and published again", _unverified_is_verified),
    Mutation("the log's identity", "topic and claims are replaced, and nobody says so", _any_log),
    Mutation("versions beyond the log's end", "a shorter log, and no topic ids", _versions_beyond_the_log),
    Mutation("a letter belongs to an index", "letters of an index that was made anew", _letters_of_any_index),
    Mutation("vectors are proved", "the model is swapped", _vectors_unproved),
    Mutation("vectors are proved behind the last of them", "the model is swapped", _proved_beforehand),
    Mutation("vectors are taken from their model's field alone", "two models", _vectors_of_any_model),
    Mutation("a document's vector is of all its chunks", "life of two documents", _mean_of_the_first_chunk),
    Mutation("only the text at fault is refused", "a service that fails", _batch_at_fault),
    Mutation("a text whose vector is known rides along", "a service that fails", _control_unseen),
    Mutation("what is durable is not paid for again", "a service that fails", _nothing_is_read_back),
    Mutation("what was spent outlives its worker", "what is spent is in the claims", _spend_begins_anew),
    Mutation("what was spent is claimed once", "what is spent is in the claims", _spend_is_claimed_again),
    Mutation("what no claim has yet counts against the budget", "a budget of a third", _budget_of_claims_alone),
    Mutation("a record stays with its model", "another model once the budget is used up", _a_replay_chooses_again),
    Mutation(
        "what is used up goes elsewhere", "another model once the budget is used up", _the_budget_is_never_used_up
    ),
    Mutation("a backfill claims what is done", "a backfill beside workers", _claimed_beforehand),
    Mutation("what is known may be older", "a backfill beside workers", _known_is_settled),
    Mutation("vacuum waits for a backfill", "a backfill, and what is vacuumed", _vacuum_at_any_time),
    Mutation("snapshots are below the log", "snapshots beside the stream", _snapshots_in_the_log),
    Mutation("one row a document", "snapshots beside the stream", _rows_replace_each_other),
    Mutation("content that lost to a stub", "refused, then the mapping is mended", _stubs_unseen),
]
