"""`penstock model verify`."""

from contextlib import closing

from agents.commands.common import say
from agents.indexing.embedders import load_exported, load_model
from agents.settings import Settings, with_model
from agents.stopping import finish
from models.embedder import Model
from models.manifest import ServiceManifest, manifest_of


def verify(settings: Settings, name: str) -> None:
    """Files, then vectors."""
    chosen = with_model(settings, name)
    served = isinstance(manifest_of(chosen.model_folder), ServiceManifest)
    with closing(load_model(chosen) if served else load_exported(chosen, lambda line: say(line, err=True))) as embedder:
        how, least = finish(_proved(embedder))
    say(f"ok: {name} on {how}, files unchanged, least golden cosine {least:.6f}")


async def _proved(embedder: Model) -> tuple[str, float]:
    return embedder.told().how, await embedder.prove()
