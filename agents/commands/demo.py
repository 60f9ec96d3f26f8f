"""`penstock demo`."""

from pathlib import Path

import click


@click.command()
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave the servers up and the index in place.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Your documents: PDF, HTML, office files, Markdown, text and more.",
)
@click.option("--ask", "questions", multiple=True, metavar="TEXT", help="A question; may be given several times.")
def demo(keep: bool, folder: Path | None, questions: tuple[str, ...]) -> None:
    """Index the Python documentation on real servers, answer three questions, take it down again.

    What an earlier --keep left is used, and left as it was. With --folder, without --ask, the questions are the titles
    of the first documents. Downloads and the model stay in PENSTOCK_CACHE_DIR, ~/.cache/penstock.

    \b
    Example: penstock demo --keep
    Example: penstock demo --folder ~/papers --ask "how is water held back"
    """
    from agents.commands.run.demo import demo as run

    run(keep=keep, documents=folder, questions=questions)
