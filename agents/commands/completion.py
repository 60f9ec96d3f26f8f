"""`penstock completion`."""

import click
from click.shell_completion import get_completion_class

from agents.commands.common import say

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands and options.

    \b
    Example: penstock completion bash > ~/.local/share/bash-completion/completions/penstock
    Example: penstock completion zsh > ~/.zfunc/_penstock   (with fpath+=~/.zfunc before compinit in ~/.zshrc)
    Example: penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all of SHELLS
    say(made(context.find_root().command, {}, "penstock", "_PENSTOCK_COMPLETE").source())
