"""`penstock demo`."""

import click


@click.command()
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave the servers up and the index in place.")
def demo(keep: bool) -> None:
    """Index the Python documentation on real servers and answer three questions; leaves nothing behind.

    What an earlier --keep left is used, and left as it was.

    \b
    Example: penstock demo --keep
    """
    from agents.commands.run.demo import demo as run

    run(keep=keep)
