"""`penstock dlq replay`."""

import sys
from contextlib import closing
from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar
from agents.indexing.preflight import check
from agents.operations.letters import Filter
from agents.operations.redrive import Replayed
from agents.operations.redrive import replay as replay_letters
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_line

TOLD = {
    "dead_lettered": "dead-lettered again",
    "given_up": "given up (--max-attempts)",
    "letter_gone": "gone from the dead letters meanwhile",
    "to_ingest": "not replayed, but to be ingested again",
    "value_gone": "without a value, which the source topic lost",
}
"""For people, by the name in JSON, where that is no word."""


def replay(settings: Settings, *, max_attempts: int, dry_run: bool, as_json: bool, **filters: Any) -> None:
    """Process them; ends the process with 1 when letters stay open."""
    result = finish(_replay(settings, Filter(**filters), max_attempts, dry_run))
    if as_json:
        print_json({"dry_run": dry_run, "outcomes": dict(result.outcomes), "problems": result.problems})
    else:
        for problem in result.problems[:20]:
            say(in_line(problem))
        if len(result.problems) > 20:
            say(f"… and {len(result.problems) - 20} more: `penstock dlq list`")
        told = ", ".join(f"{count} {TOLD.get(outcome, outcome)}" for outcome, count in sorted(result.outcomes.items()))
        say(f"{'would be ' if dry_run and told else ''}{told or 'no open dead letters that match'}")
    sys.exit(1 if result.problems else 0)


async def _replay(settings: Settings, wanted: Filter, max_attempts: int, dry_run: bool) -> Replayed:
    checked = await check(settings)
    with closing(checked), progress_bar() as bar:
        task = bar.add_task("replaying dead letters", total=None)
        return await replay_letters(
            settings,
            checked,
            wanted,
            max_attempts=max_attempts,
            dry_run=dry_run,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
