"""The command line as a user meets it: what works, and wrong inputs with a clear message and the right exit code."""

import asyncio
import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import create_index
from agents.kafka.reader import log_reader
from agents.local.servers import free_port
from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.proxy import forwarded

NOTHING = "127.0.0.1:1"
MODEL_SPEED = "fast"


def create(world: World) -> None:
    asyncio.run(world.create())


def test_a_strangers_own_documents(world: World, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "whales.md").write_text("# Whales\n\nThe blue whale is the largest animal that ever lived.")
    (notes / "corpus.jsonl").write_text('{"id": "t", "text": "A turbine turns the power of water into rotation."}\n')
    done = world.command("ingest", "files", str(notes), "--partitions", "2")
    assert (done.returncode, done.stdout) == (
        0,
        f"2 documents of 2 new or changed files published to the topic {world.name}; 0 files unchanged, "
        "0 documents deleted\n",
    ), done.stderr
    done = world.command("index", "create")
    assert f"created {world.name}-all-minilm-l6-v2-000001" in done.stdout
    assert "exists already, with the same contract" in world.command("index", "create").stdout
    checked = world.command("config", "check")
    assert checked.returncode == 0
    assert "ok:" in checked.stdout
    worker = world.start_worker()
    asyncio.run(world.settled(worker=worker))
    assert len(asyncio.run(world.chunks())) == 2  # searchable from here on: it refreshes
    hits = json.loads(world.command("search", "huge sea mammals", "-k", "1", "--json").stdout)
    assert hits[0]["metadata"]["title"] == "Whales"
    assert hits[0]["metadata"]["source"].endswith("whales.md")
    assert "Whales" in world.command("search", "huge sea mammals").stdout
    status = json.loads(world.command("status", "--json").stdout)
    assert status["lag"] == 0
    assert len(status["workers"]) == 1
    assert set(status["partitions"][0]) == {
        *("topic", "partition", "end_offset", "settled_offset", "lag", "held_back", "lost", "oldest_unsettled_age_s")
    }
    assert "lag 0" in world.command("status").stdout
    (row,) = json.loads(world.command("index", "list", "--json").stdout)
    assert (row["documents"], row["chunks"], row["serving"]) == (2, 2, True)
    source = json.loads(world.command("index", "status", "--json").stdout)["contract"]["source"]
    assert re.fullmatch(r"\S+/\S+", source.pop("log"))  # the cluster's id and the topic's
    assert source == {"topic": world.name, "partitions": 2}
    assert "worker exits" not in worker.log.read_text()
    assert worker.terminate() == 0


def test_no_broker(world: World) -> None:
    for command in (["status"], ["config", "check"], ["index", "create"]):
        done = world.command(*command, extra={"PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": NOTHING})
        assert_message(done, 1, f"Kafka at {NOTHING} cannot be reached")


def test_no_elasticsearch(world: World) -> None:
    create(world)
    for command in (["index", "list"], ["search", "x"], ["config", "check"]):
        done = world.command(*command, extra={"PENSTOCK_ELASTICSEARCH__URL": f"http://{NOTHING}"})
        assert_message(done, 1, "cannot be reached")
    done = world.command("status", extra={"PENSTOCK_ELASTICSEARCH__URL": f"http://{NOTHING}"})
    assert done.returncode == 1, "what could not be looked at is not well"
    assert "lag 0" in done.stdout, "which needs no Elasticsearch"
    assert "cannot be reached" in done.stdout.replace("\n", " ")


def test_a_worker_waits_for_servers_that_are_away_and_answers_probes(world: World) -> None:
    """A restart would change nothing. What is wrong for good still ends it (the tests around this one)."""
    kafka, elasticsearch = free_port(), free_port()

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"doc", {"text": "published while nobody was there"})])
        worker = world.start_worker(
            {
                "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka}",
                "PENSTOCK_ELASTICSEARCH__URL": f"http://127.0.0.1:{elasticsearch}",
            }
        )

        async def waits_for(server: str) -> None:
            async def check() -> bool:
                assert worker.process.poll() is None, worker.log.read_text()
                code, body = await asyncio.to_thread(worker.get, "/readyz")
                return code == 503 and server in str(body["reasons"])

            await until(check, 90)
            assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200

        await waits_for(f"Kafka at 127.0.0.1:{kafka} cannot be reached")
        async with forwarded(kafka, world.servers.kafka_port):
            await waits_for(f"Elasticsearch at http://127.0.0.1:{elasticsearch}/ cannot be reached")
            async with forwarded(elasticsearch, world.servers.elasticsearch_port):
                await world.ready(worker, 90)
                await world.settled(worker=worker)
                assert await asyncio.to_thread(worker.terminate) == 0
        assert len(await world.chunks()) == 1

    asyncio.run(scenario())


def test_missing_topic_and_missing_index(world: World) -> None:
    assert_message(world.command("worker"), 1, f"the topic {world.name} does not exist")
    assert_message(world.command("status"), 1, "create it")
    assert world.command("ingest", "files", str(Path(__file__).parents[2] / "README.md")).returncode == 0
    assert_message(world.command("worker"), 1, "create it with `penstock index create`")
    assert_message(world.command("search", "x"), 1, "penstock index create")


def test_wrong_dims_and_other_splitter(world: World, model_folder: Path, tmp_path: Path) -> None:
    """Fault 11: refused with the differing fields, exit code 3, before anything is consumed."""
    create(world)
    narrow = Path(shutil.copytree(model_folder, tmp_path / "models" / model_folder.name))
    manifest = json.loads((narrow / "manifest.json").read_text())
    manifest["dims"] = 128
    (narrow / "manifest.json").write_text(json.dumps(manifest))
    extra = {"PENSTOCK_MODEL__DIR": str(narrow.parent)}
    assert_message(world.command("index", "create", extra=extra), 3, "model.dims: index 384, worker 128")
    manifest["dims"], manifest["shares"]["model.onnx"] = 384, "0" * 64
    (narrow / "manifest.json").write_text(json.dumps(manifest))
    assert_message(world.command("index", "create", extra=extra), 3, "model.onnx_sha256: index", "worker 000000000000")
    other = world.command("worker", extra={"PENSTOCK_SPLIT__MAX_CHARS": "500", "PENSTOCK_SPLIT__OVERLAP_CHARS": "0"})
    assert_message(other, 3, "split.max_chars: index 1000, worker 500", "split.overlap_chars: index 100, worker 0")
    asyncio.run(_other_similarity(world))
    assert_message(world.command("worker"), 3, "similarity: index dot_product, worker cosine")


def test_a_group_that_feeds_another_topics_index_is_refused_with_a_way_on(world: World) -> None:
    """A second team sets its topic and alias, not the group: both would keep their claims in one place."""
    second = f"{world.name}b"
    theirs = {"PENSTOCK_SOURCE__TOPIC": second, "PENSTOCK_ELASTICSEARCH__ALIAS": second}
    mended = {**theirs, "PENSTOCK_SOURCE__GROUP": second}
    told = (f"the consumer group {world.name} feeds ", f"from the topic {world.name}, and source.topic is {second}")
    create(world)
    asyncio.run(_fed_by_its_group(world, second))
    assert_message(world.command("index", "create", extra=theirs), 3, *told, "Choose another source.group")
    renamed = {"PENSTOCK_ELASTICSEARCH__ALIAS": second}
    of_both = (f"the consumer group {world.name} feeds {world.name}-", f"of another alias, from {world.name}, too")
    assert_message(world.command("index", "create", extra=renamed), 3, *of_both, "Choose another source.group")
    alone = {"PENSTOCK_SOURCE__TOPIC": second}  # neither group nor alias
    for command in (["worker"], ["index", "epoch", "bump", "--why", "as told"]):
        done = world.command(*command, extra=alone)
        assert_message(
            done, 3, f"is made of the topic {world.name}, and source.topic is {second}", "another source.group"
        )
    assert world.command("index", "create", extra=mended).returncode == 0
    for command in (["worker"], ["index", "epoch", "bump", "--why", "as told"]):
        assert_message(world.command(*command, extra=theirs), 3, *told)
    beside = {**mended, "PENSTOCK_ELASTICSEARCH__ALIAS": world.name}
    made = world.command("index", "create", extra=beside)
    assert "another corpus needs an elasticsearch.alias of its own" in made.stderr, made.stderr
    listed = json.loads(world.command("index", "list", "--json").stdout)
    assert [(row["lag"], row["problem"]) for row in listed] == [(0, None), (0, None)], listed  # each of its own topic
    assert world.command("index", "drop", listed[1]["index"], "--yes").returncode == 0
    for extra in (mended, {}):
        checked = world.command("config", "check", extra=extra)
        assert checked.returncode == 0, checked.stderr
    asyncio.run(world.delete_topic(world.name))  # nobody feeds that index any more: the group can move
    assert_message(world.command("config", "check", extra=theirs), 3, "changelog topic", "`penstock index epoch bump")
    for command in (["index", "epoch", "bump", "--why", "the group moved"], ["config", "check"]):
        done = world.command(*command, extra=theirs)
        assert done.returncode == 0, done.stderr


async def _fed_by_its_group(world: World, other_topic: str) -> None:
    """As a worker leaves the index, which ended since; and there is another topic."""
    async with log_reader(world.settings) as reader, connect(world.settings.elasticsearch) as client:
        await reader.create_topic(other_topic, 2, {})
        topic, index = await reader.require_topic(world.name), Index(client, world.settings)
        await index.bind((await index.generation()).index, topic.log)


async def _other_similarity(world: World) -> None:
    """The index made anew by hand, with the contract copied and another similarity."""
    name = f"{world.name}-{world.settings.model.name.lower()}-000001"
    async with connect(world.settings.elasticsearch) as client:
        mappings = (await client.indices.get_mapping(index=name))[name]["mappings"]
        mappings["properties"]["vector"]["similarity"] = "dot_product"
        await client.indices.delete(index=name)
        await client.indices.create(
            index=name, mappings=mappings, settings={"number_of_replicas": 0}, aliases={world.name: {}}
        )


def test_the_index_is_made_by_several_at_once(world: World) -> None:
    """As by the jobs of two deployments; whoever comes second finds it."""

    async def scenario() -> set[str]:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        await asyncio.gather(*(create_index(world.settings) for _ in range(4)))
        async with connect(world.settings.elasticsearch) as client:
            return {one.index for one in await Index(client, world.settings).generations()}

    assert len(asyncio.run(scenario())) == 1


def test_a_group_that_takes_over_an_index_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """As by a mistyped `source.group`, beside the workers of the other one."""

    async def scenario() -> None:
        await world.create()
        async with log_reader(world.settings) as reader, connect(world.settings.elasticsearch) as client:
            topic, index = await reader.require_topic(world.name), Index(client, world.settings)
            name = (await index.generation()).index
            await index.bind(name, topic.log)
            await index.bind(name, topic.log)
            assert not caplog.messages
            source = world.settings.source.model_copy(update={"group": "mistyped"})
            await Index(client, world.settings.model_copy(update={"source": source})).bind(name, topic.log)

    asyncio.run(scenario())
    assert f"was fed by the group {world.settings.source.group}, and is fed by mistyped" in caplog.text


def test_unknown_setting(world_names: World, tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text("[kafka]\nbootstrap_server = 'x'\n")
    for command in (["worker"], ["config", "show"], ["status"]):
        done = world_names.command(*command, "--config", str(path))
        assert_message(done, 2, "did you mean kafka.bootstrap_servers?")
    done = world_names.command("config", "show", extra={"PENSTOCK_BATCH__LINGER": "1"})
    assert_message(done, 2, "did you mean PENSTOCK_BATCH__LINGER_MS?")
    assert world_names.command("wroker").returncode == 2


def test_truncated_model_file(world: World, model_folder: Path, tmp_path: Path) -> None:
    create(world)
    damaged = Path(shutil.copytree(model_folder, tmp_path / "models" / model_folder.name))
    with (damaged / "model.onnx").open("r+b") as file:
        file.truncate(1000)
    extra = {"PENSTOCK_MODEL__DIR": str(damaged.parent)}
    assert_message(
        world.command("worker", extra=extra), 3, "model.onnx is not the file that was exported", "1000 bytes"
    )
    assert_message(world.command("model", "verify", model_folder.name, extra=extra), 3, "truncated or changed")
    assert_message(
        world.command("model", "verify", "absent", extra=extra), 1, "penstock model export SOURCE --name absent"
    )


def test_admin_port_in_use(world: World) -> None:
    create(world)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = world.command("worker", extra={"PENSTOCK_ADMIN__PORT": str(port)})
    assert_message(done, 1, f"admin port {port} on 127.0.0.1 cannot be used")


def test_local_port_in_use_and_too_little_disk(world_names: World, tmp_path: Path) -> None:
    port = world_names.servers.kafka_port
    done = world_names.command("local", "up", "--dir", str(tmp_path / "s"), "--kafka-port", str(port))
    assert_message(done, 1, f"port {port} on 127.0.0.1 is in use", "--kafka-port")
    status = ("local", "status", "--dir", str(tmp_path / "s"))
    assert world_names.command(*status).stdout.startswith("nothing runs")
    (tmp_path / "s").mkdir()
    ended = {"name": "kafka", "version": "4.1.1", "port": port, "pid": 2**22, "started_at": 1.0, "log": "/x/server.log"}
    (tmp_path / "s" / "state.json").write_text(json.dumps([ended]))
    done = world_names.command(*status)
    assert (done.returncode, "has ended by itself (log /x/server.log)" in done.stdout) == (1, True)


def assert_message(done: "object", code: int, *parts: str) -> None:
    """Exit code, message, and no traceback."""
    stderr, returncode = done.stderr, done.returncode  # type: ignore[attr-defined]
    assert returncode == code, stderr
    for part in parts:
        assert part in stderr, stderr
    assert "Traceback" not in stderr


@pytest.fixture
def world_names(world: World) -> World:
    """A world whose topic and index are never made."""
    return world


def test_ingest_waits_while_the_lag_is_above_the_limit(world: World, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": f"d{i}", "text": f"Line {i}."}) + "\n" for i in range(300))
    (tmp_path / "many.jsonl").write_text(lines)
    create(world)
    output, errors = tmp_path / "output", tmp_path / "errors"
    command = ("ingest", "files", str(tmp_path / "many.jsonl"), "--max-lag", "100")
    process = world.start(*command, output=output, errors=errors)

    async def scenario() -> None:
        await until(lambda: _lag_is_above(world, 100))
        await asyncio.sleep(1.5)
        assert 100 < await world.lag() <= 110
        assert "no worker of the group" in await asyncio.to_thread(errors.read_text)
        worker = world.start_worker()
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        await world.settled(worker=worker)

    try:
        asyncio.run(scenario())
    finally:
        process.kill()
    assert output.read_text().startswith(
        f"300 documents of 1 new or changed file published to the topic {world.name}; 0 files unchanged"
    )


async def _lag_is_above(world: World, limit: int) -> bool:
    return await world.lag() > limit
