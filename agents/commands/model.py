"""`penstock model export|list|verify`."""

from dataclasses import asdict

import click
from rich.table import Table

from agents.commands.common import console, json_option, print_json, say, settings_option
from agents.preflight import wanted_setup
from agents.settings import Settings, cache_dir
from agents.sources.pydocs import real_texts
from models.embedder import golden_cosine, load_embedder
from models.export import PrecisionName, export_model
from models.manifest import GOLDEN, MANIFEST, read_manifest
from streams.errors import ConfigError


@click.group()
def model() -> None:
    """Export, list and verify embedding models."""


@model.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the exported model; model.name chooses it.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True)
@settings_option
def export(source: str, name: str, precision: PrecisionName, settings: Settings) -> None:
    """Export SOURCE, a sentence-transformers folder or hub id, to ONNX, and prove it against the original.

    The first export makes an environment of its own with torch and optimum (about 3 GB of downloads). fp16 is for
    GPUs. int8 is made for the installed runtime, and may not share an index with the others. Both are compared with
    fp32 on real texts; `penstock model list` shows the figures.

    \b
    Example: penstock model export sentence-transformers/all-MiniLM-L6-v2 --name all-MiniLM-L6-v2
    Example: penstock model export ./my-model --name my-model-int8 --precision int8
    """
    if "/" in name or name.startswith("."):
        raise ConfigError(f"--name {name}: a name without slashes that does not begin with a dot is needed")
    embedder = export_model(
        source,
        name=name,
        models=settings.model.dir,
        cache=cache_dir(),
        say=_say,
        precision=precision,
        texts=() if precision == "fp32" else real_texts(),
    )
    manifest = embedder.manifest
    embedder.close()
    say(f"exported {name}: {manifest.dims} dims, {manifest.max_tokens} tokens, in {settings.model.dir / name}")


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
    table = Table("name", "dims", "max tokens", "precision", "least cosine", "top-10 overlap", "exported", box=None)
    for m in manifests:
        least = (f"{name} {min(q['cosine_min'], q['cosine_min_alone']):.3f}" for name, q in m.quality.items())
        overlap = (f"{name} {q['overlap_top10']:.3f}" for name, q in m.quality.items())
        figures = (", ".join(least), ", ".join(overlap))
        table.add_row(m.name, str(m.dims), str(m.max_tokens), m.precision, *figures, m.exported_at)
    console().print(table if manifests else f"no models in {settings.model.dir}")


@model.command()
@click.argument("name")
@settings_option
def verify(name: str, settings: Settings) -> None:
    """Compare every file with its sha256, and the vectors of the golden texts with the stored ones.

    Says how close to fp32 the runs of every width were when they were proved on this machine.

    \b
    Example: penstock model verify all-MiniLM-L6-v2
    """
    folder = settings.model.dir / name
    embedder = load_embedder(folder, wanted=wanted_setup(settings), say=_say)
    least = golden_cosine(embedder, folder / GOLDEN)
    embedder.close()
    say(f"ok: {name} on {embedder.session.setup}, files unchanged, least golden cosine {least:.6f}")


def _say(line: str) -> None:
    say(line, err=True)
