"""A group whose commands are imported when they are asked for: a list of them, and completion, need names only."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet. `where`: `module:attribute`; `help`: the first sentence of its help."""

    where: str
    help: str

    def short_help(self, limit: int = 45) -> str:
        """What a list of commands says about it, cut as click does."""
        return click.Command(None, help=self.help).get_short_help_str(limit)


class Group(click.Group):
    """A group that names the command that somebody may have meant, as click does for options."""

    group_class = type
    """Its groups are such groups."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does. Raises UsageError for a command that there is not."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            if near := difflib.get_close_matches(args[0], self.list_commands(ctx), n=1):
                exc.message += f" Did you mean {near[0]!r}?"
            raise


class LazyGroup(Group):
    """Commands by name in `lazy`. One that runs, or whose own help is asked for, is imported; the others are not."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported; None when there is no such."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].where.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, without the commands."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name].short_help(limit)) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, without the commands."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.lazy[name].short_help()) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)
