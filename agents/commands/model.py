"""`penstock model export|list|verify`."""

from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from agents.commands.common import json_option, print_json, settings_option
from agents.settings import Settings, cache_dir
from models.embedder import golden_cosine, load_embedder
from models.export import export_model
from models.manifest import GOLDEN, MANIFEST, read_manifest
from streams.errors import ConfigError


@click.group()
def model() -> None:
    """Export, list and verify embedding models."""


@model.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the exported model; model.name chooses it.")
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True)
@settings_option
def export(source: str, name: str, precision: str, settings: Settings) -> None:
    """Export SOURCE, a sentence-transformers folder or hub id, to ONNX, and prove it against the original.

    The first export makes an environment of its own with torch and optimum (about 3 GB of downloads).

    \b
    Example: penstock model export sentence-transformers/all-MiniLM-L6-v2 --name all-MiniLM-L6-v2
    """
    del precision  # one choice so far
    if "/" in name or name.startswith("."):
        raise ConfigError(f"--name {name}: a name without slashes that does not begin with a dot is needed")
    embedder = export_model(source, name=name, models=settings.model.dir, cache=cache_dir(), say=_say)
    manifest = embedder.manifest
    embedder.close()
    click.echo(f"exported {name}: {manifest.dims} dims, {manifest.max_tokens} tokens, in {settings.model.dir / name}")


@model.command("list")
@settings_option
@json_option
def list_command(settings: Settings, as_json: bool) -> None:
    """List the exported models.

    \b
    Example: penstock model list
    """
    manifests = [read_manifest(path.parent) for path in sorted(settings.model.dir.glob(f"*/{MANIFEST}"))]
    if as_json:
        print_json([asdict(manifest) for manifest in manifests])
        return
    table = Table("name", "dims", "max tokens", "precision", "pooling", "exported", box=None)
    for m in manifests:
        table.add_row(m.name, str(m.dims), str(m.max_tokens), m.precision, m.pooling, m.exported_at)
    Console().print(table if manifests else f"no models in {settings.model.dir}")


@model.command()
@click.argument("name")
@settings_option
def verify(name: str, settings: Settings) -> None:
    """Compare every file with its sha256, and the vectors of the golden texts with the stored ones.

    \b
    Example: penstock model verify all-MiniLM-L6-v2
    """
    folder = settings.model.dir / name
    embedder = load_embedder(folder, provider=settings.model.provider, threads=settings.model.threads)
    least = golden_cosine(embedder, folder / GOLDEN)
    embedder.close()
    click.echo(f"ok: {name} on {embedder.session.provider}, files unchanged, least golden cosine {least:.6f}")


def _say(line: str) -> None:
    click.echo(line, err=True)
