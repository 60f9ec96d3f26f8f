"""`penstock model export|add|list|verify`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings
    from models.export.exporter import PrecisionName


@click.group(cls=Group)
def model() -> None:
    """Export, add, list and verify embedding models.

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


@model.command()
@click.argument("name")
@click.option("--url", required=True, help="Of the service's API: https://api.openai.com/v1, or of its embeddings.")
@click.option("--model", "model_name", required=True, help="What the service calls it.")
@click.option("--dims", required=True, type=click.IntRange(1, 4096), help="Length of its vectors.")
@click.option(
    "--max-tokens",
    required=True,
    type=click.IntRange(16, 10**6),
    help="That it takes of a text; longer ones are split.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its tokenizer.json; without, a text counts as many tokens as it has bytes.",
)
@click.option("--document-prefix", default="", help='Put before each document\'s text, such as "passage: ".')
@click.option("--query-prefix", default="", help='Put before each search text, such as "query: ".')
@click.option(
    "--key-header",
    default="Authorization",
    show_default=True,
    help="Header that the key in service.key_file is sent in: Azure's is api-key.",
)
@settings_option
@json_option
def add(
    name: str,
    url: str,
    model_name: str,
    dims: int,
    max_tokens: int,
    tokenizer: Path | None,
    document_prefix: str,
    query_prefix: str,
    key_header: str,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Add a model behind an HTTP service that speaks OpenAI's wire format for embeddings.

    OpenAI, Azure, text-embeddings-inference, vLLM, Ollama, Infinity, LiteLLM and others do. The service is asked for
    some texts, whose vectors are kept: it is held to them from now on. The key comes from the file that
    service.key_file names. Adding a model again replaces it.

    \b
    Example: penstock model add small --url https://api.openai.com/v1 --model text-embedding-3-small
             --dims 1536 --max-tokens 8191
    Example: penstock model add e5 --url http://127.0.0.1:8080/v1 --model intfloat/multilingual-e5-small --dims 384
             --max-tokens 512 --tokenizer tokenizer.json --document-prefix "passage: " --query-prefix "query: "
    """
    from agents.commands.run.model_add import add as run
    from models.api.add import Wanted

    wanted = Wanted(
        name=name,
        url=url,
        model=model_name,
        dims=dims,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        document_prefix=document_prefix,
        query_prefix=query_prefix,
        key_header=key_header,
    )
    run(settings, wanted, as_json=as_json)


@model.command("list")
@settings_option
@json_option
def list_command(settings: "Settings", as_json: bool) -> None:
    """List the models that were exported or added.

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

    Of an exported model, says how close to fp32 the runs of every width were when they were proved on this machine. A
    service is asked for the golden texts.

    \b
    Example: penstock model verify all-MiniLM-L6-v2
    """
    from agents.commands.run.model_verify import verify as run

    run(settings, name)
