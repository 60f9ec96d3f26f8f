"""`penstock model export|list|verify`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings
    from models.export.exporter import PrecisionName


@click.group(cls=Group)
def model() -> None:
    """Export, list and verify embedding models.

    \b
    Example: penstock model verify all-MiniLM-L6-v2
    """


@model.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the exported model; model.name chooses it.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True)
@settings_option
def export(source: str, name: str, precision: "PrecisionName", settings: "Settings") -> None:
    """Export SOURCE, a sentence-transformers folder or hub id, to ONNX, and prove it against the original.

    The first export makes an environment of its own with torch and optimum (about 3 GB of downloads). fp16 is for
    GPUs. int8 is made for the installed runtime, and may not share an index with the others. Both are compared with
    fp32 on real texts; `penstock model list` shows the figures.

    \b
    Example: penstock model export sentence-transformers/all-MiniLM-L6-v2 --name all-MiniLM-L6-v2
    Example: penstock model export ./my-model --name my-model-int8 --precision int8
    """
    from agents.commands.run.model_export import export as run

    run(settings, source, name, precision)


@model.command("list")
@settings_option
@json_option
def list_command(settings: "Settings", as_json: bool) -> None:
    """List the exported models.

    \b
    Example: penstock model list
    """
    from agents.commands.run.model_list import list_models

    list_models(settings, as_json=as_json)


@model.command()
@click.argument("name")
@settings_option
def verify(name: str, settings: "Settings") -> None:
    """Compare every file with its sha256, and the vectors of the golden texts with the stored ones.

    Says how close to fp32 the runs of every width were when they were proved on this machine.

    \b
    Example: penstock model verify all-MiniLM-L6-v2
    """
    from agents.commands.run.model_verify import verify as run

    run(settings, name)
