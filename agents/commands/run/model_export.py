"""`penstock model export`."""

from agents.commands.common import say
from agents.settings import Settings
from agents.settings.environment import cache_dir
from agents.sources.pydocs import real_texts
from agents.stopping import begin
from models.export.exporter import PrecisionName, export_model
from streams.errors import ConfigError


def export(settings: Settings, source: str, name: str, precision: PrecisionName) -> None:
    """Make it, and say what it is."""
    if "/" in name or name.startswith("."):
        raise ConfigError(f"--name {name}: a name without slashes that does not begin with a dot is needed")
    begin()
    embedder = export_model(
        source,
        name=name,
        models=settings.model.dir,
        cache=cache_dir(),
        say=lambda line: say(line, err=True),
        precision=precision,
        texts=() if precision == "fp32" else real_texts(),
    )
    manifest = embedder.manifest
    embedder.close()
    say(f"exported {name}: {manifest.dims} dims, {manifest.max_tokens} tokens, in {settings.model.dir / name}")
