"""`penstock model verify`."""

from agents.commands.common import say
from agents.indexing.preflight import wanted_setup
from agents.settings import Settings
from models.onnx.embedder import golden_cosine, load_embedder


def verify(settings: Settings, name: str) -> None:
    """Files, then vectors."""
    folder = settings.model.dir / name
    embedder = load_embedder(folder, wanted=wanted_setup(settings), say=lambda line: say(line, err=True))
    least = golden_cosine(embedder)
    embedder.close()
    say(f"ok: {name} on {embedder.session.setup}, files unchanged, least golden cosine {least:.6f}")
