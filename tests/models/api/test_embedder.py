"""A service over HTTP, as workers and commands have it; and what `penstock model add` finds out about one."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.api import embedder as module
from models.api.add import add_service
from models.api.asking import Terms
from models.api.embedder import ServiceEmbedder, ServiceOptions, load_service
from models.api.pace import Limits
from models.manifest import GOLDEN, MANIFEST, ServiceManifest, manifest_of, read_manifest, sha256_file, write_manifest
from streams.contract import differences
from streams.errors import AwayError, ConfigError, PenstockError, RefusedError
from tests.kit import ports
from tests.kit.service import DIMS, Fault, Quota, Service, added, cut_short, mixed_up, serving, shuffled, vector_of


@pytest.fixture
def served() -> Iterator[Service]:
    with serving() as made:
        yield made


@contextmanager
def loaded(folder: Path, options: ServiceOptions | None = None) -> Iterator[ServiceEmbedder]:
    with closing(load_service(folder, options or ServiceOptions())) as embedder:
        yield embedder


def test_it_keeps_what_is_said_of_the_port(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path, document_prefix="passage: ")
    with loaded(tmp_path / "served") as embedder:
        made = asyncio.run(embedder.embed(embedder.encode(["a"])))
        assert np.allclose(made.vectors[0], vector_of("passage: a"), atol=1e-6)

        def swap() -> None:
            served.vectors = lambda texts: np.stack([vector_of(text, model="another") for text in texts])

        asyncio.run(ports.holds_for_embedder(embedder, 0.9999, swap))
    assert all(text.startswith("passage: ") for text in served.paid)


def test_it_goes_on_from_one_event_loop_to_the_next_and_is_closed_once(served: Service, tmp_path: Path) -> None:
    """As a worker's does: its start has a loop of its own."""
    added(served, tmp_path)
    before = {thread.name for thread in threading.enumerate()}
    embedder = load_service(tmp_path / "served", ServiceOptions())
    for _ in range(2):
        asyncio.run(embedder.prove())
    assert "penstock-service" in {thread.name for thread in threading.enumerate()}
    embedder.close()
    embedder.close()
    assert {thread.name for thread in threading.enumerate()} <= before | {"penstock-tokenize_0"}


def test_it_can_be_stopped_while_it_waits(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path)
    served.rule = lambda _: Fault(status=503)
    with loaded(tmp_path / "served") as embedder:

        async def stop() -> None:
            embedding = asyncio.create_task(embedder.embed(embedder.encode(["a"])))
            while embedder.waits is None:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.01)
            embedding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await embedding

        asyncio.run(stop())
        served.rule = lambda _: None
        assert asyncio.run(embedder.embed(embedder.encode(["a"]))).failed == {}


def test_questions_have_a_prefix_and_a_limit_of_their_own(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path, query_prefix="query: ", document_prefix="passage: ")
    with loaded(tmp_path / "served") as embedder:
        found = asyncio.run(embedder.embed_query("a"))
        assert np.allclose(found, vector_of("query: a"), atol=1e-6)
        assert set(served.paid) == {"query: a", "passage: Hello, world."}
        with pytest.raises(ValueError, match="2015 tokens, the model takes 2000"):
            asyncio.run(embedder.embed_query("a" * 2000))
        served.vectors = lambda texts: np.stack([vector_of(text, model="another") for text in texts])
        with pytest.raises(RefusedError, match="another model"):
            asyncio.run(embedder.embed_query("a"))


def test_a_key_comes_from_a_file_and_is_read_again_when_it_is_refused(served: Service, tmp_path: Path) -> None:
    served.key = "k3y-one"
    key = tmp_path / "key"
    key.write_text("k3y-one\n")
    options = ServiceOptions(key_file=key)
    for header in ("Authorization", "api-key"):
        served.key_header = header
        added(served, tmp_path, options=options, key_header=header)
        files = b"".join(path.read_bytes() for path in (tmp_path / "served").iterdir())
        assert b"k3y" not in files
        with loaded(tmp_path / "served", options) as embedder:
            asyncio.run(embedder.prove())
            served.key = "k3y-two"
            with pytest.raises(PenstockError, match="service.key_file") as caught:
                asyncio.run(embedder.prove())
            assert "k3y" not in str(caught.value)
            key.write_text("k3y-two")
            asyncio.run(embedder.prove())
        served.key = "k3y-one"
        key.write_text("k3y-one")


@pytest.mark.parametrize(
    ("content", "part"), [(None, "cannot be read"), ("", "is empty"), ("a\nb", "in one line"), ("ü", "ASCII")]
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(content: str | None, part: str, tmp_path: Path) -> None:
    with serving() as served:
        added(served, tmp_path)
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigError, match=part) as caught:
        load_service(tmp_path / "served", ServiceOptions(key_file=tmp_path / "key"))
    assert str(tmp_path / "key") in str(caught.value)


def test_a_key_is_never_sent_in_the_clear(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path)
    (tmp_path / "key").write_text("k")
    manifest = manifest_of(tmp_path / "served")
    assert isinstance(manifest, ServiceManifest)
    write_manifest(tmp_path / "served", replace(manifest, url="http://example.org/v1/embeddings"))
    with pytest.raises(ConfigError, match="unencrypted"):
        load_service(tmp_path / "served", ServiceOptions(key_file=tmp_path / "key"))
    write_manifest(tmp_path / "served", replace(manifest, url="https://example.org/v1/embeddings"))
    with pytest.raises(ConfigError, match=r"service\.ca_certs = .*none cannot be used"):
        load_service(tmp_path / "served", ServiceOptions(ca_certs=tmp_path / "none"))


def test_faults_on_the_way_are_asked_again(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path)
    faults = [
        Fault(cut=True),
        Fault(unanswered=True),
        Fault(change=cut_short),
        Fault(change=shuffled),
        Fault(status=500),
    ]
    served.rule = lambda texts: faults.pop() if faults and len(texts) > 1 else None
    texts = [f"text {number}" for number in range(100)]
    with loaded(tmp_path / "served", ServiceOptions(terms=Terms(max_texts=16))) as embedder:
        made = asyncio.run(embedder.embed(embedder.encode(texts)))
    assert made.failed == {}
    assert np.allclose(made.vectors, [vector_of(text) for text in texts], atol=1e-6)
    assert not faults


def test_one_that_takes_too_long_is_left_alone_for_a_while(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path)
    left = [Fault(delay_s=30)]
    served.rule = lambda _: left.pop() if left else None
    with loaded(tmp_path / "served", ServiceOptions(timeout_s=0.2)) as embedder:
        told = set[str | None]()

        async def embed() -> None:
            embedding = asyncio.create_task(embedder.embed(embedder.encode(["a"])))
            while not embedding.done():
                told.add(embedder.waits)
                await asyncio.sleep(0.01)
            assert (await embedding).failed == {}

        asyncio.run(embed())
        assert any(reason and reason.endswith("does not answer") for reason in told)


def test_nobody_there_is_away_and_changed_files_are_refused(
    served: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    added(served, tmp_path)
    folder = tmp_path / "served"
    manifest = manifest_of(folder)
    assert isinstance(manifest, ServiceManifest)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    write_manifest(folder, replace(manifest, url=f"http://127.0.0.1:{port}/v1/embeddings"))
    with loaded(folder) as embedder, pytest.raises(AwayError, match="try again when it does"):
        asyncio.run(embedder.prove())
    (folder / GOLDEN).write_text("{}")
    with pytest.raises(RefusedError, match=r"golden.json is not the file that was added .*`penstock model add served`"):
        load_service(folder, ServiceOptions())
    (folder / MANIFEST).write_text(json.dumps({"kind": "service"}))
    with pytest.raises(RefusedError, match="lacks 'format': add it again with `penstock model add served`"):
        manifest_of(folder)


def test_what_needs_an_exported_model_says_so(served: Service, tmp_path: Path) -> None:
    added(served, tmp_path)
    with pytest.raises(ConfigError, match="choose another"):
        read_manifest(tmp_path / "served")


def test_a_worker_of_a_service_imports_no_onnxruntime() -> None:
    """It needs none of the extras for a runtime."""
    code = (
        "import sys; import agents.worker.app, agents.commands.run.search, agents.commands.run.index_create; "
        "assert 'tokenizers' in sys.modules; sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def add(served: Service, folder: Path, **more: Any) -> ServiceManifest:
    return added(served, folder, **more).manifest


def test_what_is_added_is_what_the_service_gives(served: Service, tmp_path: Path) -> None:
    made = added(served, tmp_path, model="text-embedding-3-small")
    assert made.agreement > 0.9999
    manifest = manifest_of(tmp_path / "served")
    assert manifest == made.manifest
    assert (made.manifest.url, made.manifest.encoding) == (f"{served.url}/embeddings", "base64")
    assert made.manifest.files == {GOLDEN: sha256_file(tmp_path / "served" / GOLDEN)}
    stored = json.loads((tmp_path / "served" / GOLDEN).read_text())
    assert np.allclose(stored["vectors"], [vector_of(text) for text in stored["texts"]], atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["served"], "nothing is left of the making"


def test_the_way_that_a_service_understands_is_found(served: Service, tmp_path: Path) -> None:
    served.reads_base64 = False
    assert add(served, tmp_path).encoding == "float"
    with loaded(tmp_path / "served") as embedder:
        asyncio.run(embedder.prove())
    served.reads_base64 = True
    manifest = add(served, tmp_path, dims=DIMS // 2)
    assert (manifest.asks_dims, manifest.dims) == (True, DIMS // 2)
    with loaded(tmp_path / "served") as embedder:
        asyncio.run(embedder.prove())
        assert embedder.dims == DIMS // 2


def test_dims_that_it_does_not_have_are_named(served: Service, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--dims {DIMS + 1}: m has {DIMS}"):
        add(served, tmp_path, dims=DIMS + 1)
    assert not (tmp_path / "served").exists()


def test_a_service_that_cuts_texts_off_is_found_out(served: Service, tmp_path: Path) -> None:
    """It takes them without a word."""
    served.vectors = lambda texts: np.stack([vector_of(text[:512]) for text in texts])
    with pytest.raises(ConfigError, match="--max-tokens 2000: the service cuts such texts off without a word"):
        add(served, tmp_path)
    assert add(served, tmp_path, max_tokens=512).max_tokens == 512
    served.rule = lambda texts: Fault(status=400, said="too long") if max(map(len, texts)) > 900 else None
    with pytest.raises(ConfigError, match="--max-tokens 1000: a text of so many is refused: .* 400: too long"):
        add(served, tmp_path, max_tokens=1000)
    manifest = manifest_of(tmp_path / "served")
    assert manifest.max_tokens == 512, "what was there stays"


def test_a_service_that_mixes_texts_up_is_found_out(served: Service, tmp_path: Path) -> None:
    served.rule = lambda texts: Fault(change=mixed_up)
    with pytest.raises(ConfigError, match="one vector alone and another among others"):
        add(served, tmp_path)


def test_an_export_is_not_replaced(served: Service, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / MANIFEST).write_bytes((model_folder / MANIFEST).read_bytes())
    with pytest.raises(RefusedError, match="choose another name"):
        add(served, tmp_path)


def test_what_is_no_model_is_not_deleted(served: Service, tmp_path: Path) -> None:
    """`model.dir` may be a folder that others use, too; a service's model is replaced however damaged."""
    (tmp_path / "served").mkdir()
    (mine := tmp_path / "served" / "thesis.txt").write_text("years")
    with pytest.raises(RefusedError, match="is no model: choose another name"):
        added(served, tmp_path)
    assert mine.read_text() == "years"
    mine.unlink()
    added(served, tmp_path)
    (tmp_path / "served" / GOLDEN).unlink()
    added(served, tmp_path)
    assert (tmp_path / "served" / GOLDEN).exists()


def test_a_model_is_added_at_a_service_with_a_small_quota(served: Service, tmp_path: Path) -> None:
    """Whether the limit is known or not."""
    served.quota = Quota(requests=4, window_s=1)
    added(served, tmp_path)
    served.quota = Quota(requests=7, window_s=1)
    made = added(served, tmp_path, options=ServiceOptions(limits=Limits(requests_per_minute=360)))
    assert made.agreement > 0.99
    assert served.statuses[429] == 0


def test_a_tokenizer_counts_exactly_and_what_is_none_is_refused(
    served: Service, model_folder: Path, tmp_path: Path
) -> None:
    add(served, tmp_path, tokenizer=model_folder / "tokenizer.json", max_tokens=128)
    with loaded(tmp_path / "served") as embedder:
        assert [len(text) for text in embedder.encode(["Hello, world."])] == [6]
    (tmp_path / "no.json").write_text("{}")
    for path, part in ((tmp_path / "no.json", "is no tokenizer.json"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigError, match=part):
            add(served, tmp_path, tokenizer=path)


def test_two_that_add_a_model_may_share_an_index_and_another_model_may_not(served: Service, tmp_path: Path) -> None:
    """What they were given differs by noise, and so do name and address."""

    noise = np.random.default_rng(1)

    def noisy(texts: list[str]) -> Any:
        return np.stack([vector_of(text) for text in texts]) + noise.standard_normal((len(texts), DIMS)) * 0.008

    served.vectors = noisy
    one = add(served, tmp_path, name="one").contract()
    other = add(served, tmp_path, name="two", url=f"{served.url}/embeddings?api-version=2", model="n").contract()
    assert one["control"] != other["control"]
    assert differences({"model": one}, {"model": other}) == []
    served.vectors = lambda texts: np.stack([vector_of(text, model="another") for text in texts])
    another = add(served, tmp_path, name="two").contract()
    (row,) = differences({"model": one}, {"model": another})
    assert row.startswith("model.control: one text has another vector (cosine ")
    narrow = add(served, tmp_path, name="two", dims=DIMS // 2).contract()
    assert {row.partition(":")[0] for row in differences({"model": one}, {"model": narrow})} == {
        "model.control",
        "model.dims",
    }


def test_whoever_adds_is_told_when_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.api import add as add_module

    monkeypatch.setattr(add_module, "PATIENCE_S", 0.2)
    wanted = add_module.Wanted(name="x", url="http://127.0.0.1:1/v1", model="m", dims=3, max_tokens=100)
    begun = time.monotonic()
    with pytest.raises(AwayError, match="127.0.0.1:1"):
        asyncio.run(add_service(wanted, ServiceOptions(timeout_s=0.2), tmp_path))
    assert time.monotonic() - begun < 60
    assert list(tmp_path.iterdir()) == []
