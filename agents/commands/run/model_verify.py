"""`penstock model verify`."""

from contextlib import closing

from agents.commands.common import say
from agents.indexing.embedders import load_exported, service_options
from agents.settings import Settings, with_model
from agents.stopping import finish
from models.api.embedder import load_service
from models.manifest import GOLDEN, ServiceManifest, manifest_of


def verify(settings: Settings, name: str) -> None:
    """Files, then vectors."""
    chosen = with_model(settings, name)
    if isinstance(manifest_of(chosen.model_folder), ServiceManifest):
        how, least = finish(_verify_service(chosen))
    else:
        from models.onnx.embedder import golden_cosine

        with closing(load_exported(chosen, say=lambda line: say(line, err=True))) as embedder:
            how, least = embedder.told().how, golden_cosine(embedder, chosen.model_folder / GOLDEN)
    say(f"ok: {name} on {how}, files unchanged, least golden cosine {least:.6f}")


async def _verify_service(settings: Settings) -> tuple[str, float]:
    with closing(load_service(settings.model_folder, service_options(settings))) as embedder:
        return embedder.told().how, await embedder.golden_cosine()
