"""The bridge with a stream and transactions in memory: splits, merges, kills, refusals and retention at random."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources.kinesis import Checkpoint, MadeAnewError, Missed, Place, Shard, Summary, TrimmedError
from agents.sources.kinesis.bridge import Bridge, Options
from agents.sources.kinesis.documents import SEQUENCE, SHARD, SUB_SEQUENCE, Naming
from agents.sources.kinesis.memory import remembered, shard_row
from agents.sources.kinesis.pace import Pace
from agents.sources.kinesis.reader import TRIES
from agents.sources.kinesis.shards import UNSEEN
from agents.sources.publish import Change, Passed
from agents.sources.state import Row, State
from streams.dead_letter import Failed
from streams.errors import AwayError, ConfigError
from tests.agents.sources.kinesis.stream import RETENTION_MS, MemoryStream
from tests.kit.aggregate import aggregate

FAST = Pace(between_s=0, idle_s=0, list_s=0.01, backoff_s=0, longest_s=0)
KEYS = "abcdefgh"


class KilledError(Exception):
    """The process, here."""


class Topic:
    """What stays between runs: records by key and headers, and the rows of the state."""

    def __init__(self, many: int = 3) -> None:
        self.many = many
        self.log_id = "log"
        self.log: list[tuple[str, bytes, dict[str, str]]] = []
        self.rows: list[Row] = []
        self.left = -1
        self.after = False

    async def publish(
        self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed] = ()
    ) -> None:
        """All at once; or killed before, or after."""
        assert len(changes) <= self.many
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KilledError
        await asyncio.sleep(0)
        for change in changes:
            out = change.outgoing
            self.log.append((out.key.decode(), out.value or b"", {name: text.decode() for name, text in out.headers}))
        self.rows += rows
        if self.left == 0:
            raise KilledError

    def bridge(
        self, stream: MemoryStream, options: Options | None = None, left: int = -1, *, after: bool = False
    ) -> Summary:
        """One run, up to now, or killed at the transaction before which so many are left."""
        summary = Summary()
        self.left, self.after = left, after
        with State(self.log_id) as state:
            state.take(self.rows)
            bridge = Bridge(stream, self, state, options or Options(once=True), summary, FAST)
            asyncio.run(bridge.run())
        return summary

    @property
    def places(self) -> list[tuple[str, str, str | None]]:
        """Shard, sequence and sub-sequence of each record."""
        return [(one[SHARD], one[SEQUENCE], one.get(SUB_SEQUENCE)) for _, _, one in self.log]

    def missed(self) -> list[Missed]:
        """What is remembered as missed."""
        with State(self.log_id) as state:
            state.take(self.rows)
            return list(remembered(state.stream_rows("arn:memory"), self.log_id).missed.values())


def body(key: str, number: int) -> bytes:
    return b'{"id": "%s", "text": "%d"}' % (key.encode(), number)


def put(stream: MemoryStream, key: str, number: int, made: dict[str, list[bytes]]) -> None:
    """One record; every fifth has two documents in it."""
    documents = [body(key, number)] if number % 5 else [body(key, number), body(key, -number)]
    stream.put(key, documents[0] if len(documents) == 1 else aggregate([(key, one) for one in documents]))
    made.setdefault(key, []).extend(documents)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=12)),
        st.tuples(st.sampled_from(["split", "merge"]), st.integers(0, 7)),
        st.tuples(st.sampled_from(["kill before", "kill after"]), st.integers(1, 5)),
        st.tuples(st.just("read"), st.none()),
    ),
    max_size=12,
)


@given(steps, st.integers(1, 4), st.integers(0, 3), st.integers(0, TRIES - 1), st.integers(0, 2**16))
def test_nothing_is_lost_or_repeated_and_keys_keep_their_order(
    steps: list[tuple[str, object]], many: int, refuses: int, lies: int, seed: int
) -> None:
    stream, topic, made, number = MemoryStream(2, seed, refuses, lies), Topic(many), dict[str, list[bytes]](), 0
    parents = {shard.id: shard.parents for shard in asyncio.run(stream.shards())}
    for kind, what in [*steps, ("read", None)]:
        match kind, what:
            case "put", list():
                for key in what:
                    put(stream, key, number := number + 1, made)
            case "split", int():
                stream.split(what)
            case "merge", int():
                stream.merge(what)
            case _, int():
                try:
                    topic.bridge(stream, left=what, after=kind == "kill after")
                except KilledError:
                    continue
            case _:
                topic.bridge(stream)
        parents |= {shard.id: shard.parents for shard in asyncio.run(stream.shards())}
    found: dict[str, list[bytes]] = {}
    for key, value, _ in topic.log:
        found.setdefault(key, []).append(value)
    assert found == made
    assert len(topic.places) == len(set(topic.places))
    for shard, before in parents.items():
        first = next((n for n, place in enumerate(topic.places) if place[0] == shard), len(topic.places))
        assert not [place for place in topic.places[first:] if place[0] in before], "a child before its parents' end"
    assert not topic.missed()


@given(steps, st.integers(0, 2**16), st.lists(st.booleans(), min_size=12, max_size=12))
def test_what_retention_takes_is_told_once_with_its_place(
    steps: list[tuple[str, object]], seed: int, passes: list[bool]
) -> None:
    """Every record is published, or in a stretch that is told."""
    stream, topic, number = MemoryStream(2, seed), Topic(), 0
    put_at: dict[tuple[str, str], int] = {}
    topic.bridge(stream)
    for (kind, what), expires in zip(steps, passes, strict=False):
        match kind, what:
            case "put", list():
                for key in what:
                    stream.now_ms += 200_000
                    place = stream.put(key, body(key, number := number + 1))
                    put_at[place] = stream.now_ms
            case "split", int():
                stream.split(what)
            case "merge", int():
                stream.merge(what)
            case "kill before" | "kill after", int():
                try:
                    topic.bridge(stream, left=what, after=kind == "kill after")
                except KilledError:
                    continue
            case _:
                topic.bridge(stream)
        if expires:
            stream.pass_retention()
    topic.bridge(stream)
    assert len(topic.places) == len(set(topic.places))
    published = {(shard, sequence) for shard, sequence, _ in topic.places}
    stretches = topic.missed()
    for (shard, sequence), at_ms in put_at.items():
        inside = [one for one in stretches if covers(one, shard, sequence, at_ms)]
        assert (shard, sequence) in published or inside, (shard, sequence, stretches)
    assert topic.bridge(stream).published == 0
    assert topic.missed() == stretches
    topic.bridge(stream, Options(once=True, forget=True))
    assert topic.missed() == []


def covers(missed: Missed, shard: str, sequence: str, at_ms: int) -> bool:
    """Whether a record is in a stretch, or in a shard of which nobody has heard."""
    if missed.reason == UNSEEN:
        return (missed.after_ms or 0) < at_ms <= (missed.before_ms or 0)
    if missed.shard != shard:
        return False
    after = missed.after is None or int(sequence) > int(missed.after)
    before = int(sequence) < int(missed.before) if missed.before else at_ms <= (missed.before_ms or 0)
    return after and before


def test_an_idle_shard_is_no_gap() -> None:
    """It is seen to its end now and then, and what is not there cannot be lost."""
    stream, topic = MemoryStream(1), Topic()
    stream.put("a", body("a", 1))
    for _ in range(4):
        topic.bridge(stream)
        stream.pass_retention(RETENTION_MS * 2 // 3)
    stream.put("a", body("a", 2))
    assert topic.bridge(stream).published == 1
    assert topic.missed() == []


def test_a_record_that_is_too_large_is_listed_and_the_others_go_on() -> None:
    stream, topic = MemoryStream(1), Topic()
    stream.put("a", body("a", 1))
    stream.put("b", b'{"id": "b", "text": "%s"}' % (b"x" * 2000))
    stream.put("c", body("c", 1))
    summary = topic.bridge(stream, Options(once=True, naming=Naming(limit=1000)))
    assert ([key for key, _, _ in topic.log], summary.published) == (["a", "c"], 2)
    (missed,) = topic.missed()
    assert (missed.sequence, "raise its max.message.bytes (1000)" in missed.reason) == ("2", True)
    assert topic.bridge(stream).missed == [missed], "it stays listed"


def test_another_topic_is_published_to_from_the_beginning() -> None:
    stream, topic = MemoryStream(2), Topic()
    for number in range(9):
        stream.put(KEYS[number % 8], body("a", number))
    topic.bridge(stream)
    topic.log_id, topic.log = "another", []
    assert topic.bridge(stream, Options(once=True, start="latest")).published == 9
    assert topic.bridge(stream).published == 0


def test_a_stream_made_anew_is_read_from_its_beginning_and_its_rest_is_told() -> None:
    topic, old, new = Topic(), MemoryStream(1), MemoryStream(1)
    old.put("a", body("a", 1))
    topic.bridge(old)
    new.made_ms = old.now_ms + 1000
    new.put("a", body("a", 2))
    assert topic.bridge(new).published == 1
    (missed,) = topic.missed()
    assert (missed.after, missed.before_ms) == ("1", new.made_ms)


@pytest.mark.parametrize(("start", "expected"), [("trim-horizon", 4), ("latest", 1), ("time", 2)])
def test_where_a_stream_is_begun_with(start: str, expected: int) -> None:
    stream, topic = MemoryStream(1), Topic()
    for number in range(2):
        stream.put("a", body("a", number))
    stream.now_ms += 10_000
    at_ms = stream.now_ms
    stream.put("a", body("a", 2))
    stream.now_ms += 10_000
    options = Options(once=True, start=at_ms if start == "time" else start)  # type: ignore[arg-type]
    topic.bridge(stream, options)
    stream.put("a", body("a", 3))
    topic.bridge(stream, options)
    assert len(topic.log) == expected


def test_shards_that_are_gone_are_forgotten() -> None:
    stream, topic = MemoryStream(1), Topic()
    stream.put("a", body("a", 1))
    stream.split(0)
    topic.bridge(stream)
    for _ in range(3):
        stream.pass_retention(RETENTION_MS * 2 // 3)
        topic.bridge(stream)
    with State("log") as state:
        state.take(topic.rows)
        told = remembered(state.stream_rows("arn:memory"), "log")
    assert set(told.checkpoints) == set(stream.shards_by_id)
    assert topic.missed() == []


def test_a_bridge_that_runs_on_notices_new_shards() -> None:
    async def scenario() -> None:
        stream, topic, summary = MemoryStream(1), Topic(), Summary()
        with State("log") as state:
            running = asyncio.create_task(Bridge(stream, topic, state, Options(), summary, FAST).run())
            for number in range(40):
                stream.put(KEYS[number % 8], body(KEYS[number % 8], number))
                if number % 10 == 5:
                    stream.split(number)
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                while summary.published < 40:  # noqa: ASYNC110 - it waits for memory alone
                    await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert len(set(topic.places)) == 40

    asyncio.run(scenario())


def test_a_client_that_cancels_an_answer_is_away() -> None:
    """And no end that anybody asked for."""

    class Breaking(Topic):
        async def publish(
            self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed] = ()
        ) -> None:
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer

    stream = MemoryStream(1)
    stream.put("a", body("a", 1))
    for options in (Options(), Options(once=True)):
        with pytest.raises(AwayError, match="a connection was given up"):
            Breaking().bridge(stream, options)


def test_the_shard_of_a_listing_has_its_parents() -> None:
    stream = MemoryStream(2)
    stream.merge(0)
    (child,) = (shard for shard in asyncio.run(stream.shards()) if shard.parents)
    assert child == Shard(id=child.id, parents=("shard-0", "shard-1"))


def test_a_shard_that_is_listed_is_not_gone_whatever_its_pages_say() -> None:
    stream, topic = MemoryStream(1, lies=1000), Topic()
    for number in range(4):
        stream.put("a", body("a", number))
    with pytest.raises(AwayError, match="shard-0 is listed, but the server does not find it"):
        topic.bridge(stream)
    stream.lies = 1
    topic.bridge(stream)
    assert (len(topic.log), topic.missed()) == (4, [])


def test_an_open_shard_that_is_remembered_as_read_to_its_end_is_gone_on_with() -> None:
    stream, topic = MemoryStream(1), Topic()
    _, sequence = stream.put("a", body("a", 1))
    topic.bridge(stream)
    ended = Checkpoint(sequence=sequence, arrived_ms=stream.now_ms, seen_ms=stream.now_ms, ended=True)
    topic.rows.append(shard_row("arn:memory", "shard-0", ended, topic.log_id))
    stream.put("a", body("a", 2))
    assert topic.bridge(stream).published == 1
    assert (len(topic.log), topic.missed()) == (2, [])


@pytest.mark.parametrize("forgets", [True, False])
def test_a_stream_made_anew_under_a_bridge_is_begun_with_anew(*, forgets: bool) -> None:
    """Whether its server forgets what it gave of the old one, or not."""

    async def scenario() -> None:
        stream, topic, summary = MemoryStream(1), Topic(), Summary()
        stream.put("a", body("a", 1))
        with State("log") as state:
            running = asyncio.create_task(Bridge(stream, topic, state, Options(), summary, FAST).run())
            async with asyncio.timeout(60):
                while summary.published < 1:  # noqa: ASYNC110 - it waits for memory alone
                    await asyncio.sleep(0)
            stream.made_ms = stream.now_ms = stream.now_ms + 1000
            stream.shards_by_id["shard-0"].records.clear()
            stream.lies = int(forgets)
            with pytest.raises(MadeAnewError, match="it begins anew"):
                await running
        stream.put("a", body("a", 2))
        after = await asyncio.to_thread(topic.bridge, stream)
        assert (after.published, [one.after for one in topic.missed()]) == (1, ["1"])

    asyncio.run(scenario())


def test_a_moment_to_come_is_refused_and_nothing_is_published_before_one_that_is_not_taken() -> None:

    class Late(MemoryStream):
        """The clock of its shards is behind the one by which it answers."""

        left = 3

        async def iterator(self, shard: str, place: Place) -> str:
            """Not of a moment, at first."""
            if place.at_ms is not None and self.left:
                self.left -= 1
                raise TrimmedError
            return await super().iterator(shard, place)

    stream, topic = Late(1), Topic()
    stream.put("a", body("a", 1))
    with pytest.raises(ConfigError, match="--from is a moment to come: choose"):
        topic.bridge(stream, Options(once=True, start=stream.now_ms + 1))
    stream.put("a", body("a", 2))
    assert topic.bridge(stream, Options(once=True, start=stream.now_ms)).published == 1
    stream.left = TRIES
    with pytest.raises(AwayError, match="the moment of --from"):
        Topic().bridge(stream, Options(once=True, start=stream.now_ms))
