"""`penstock cost`."""

from typing import Any

from rich.console import Group
from rich.table import Table

from agents.commands.run.output import console, print_json
from agents.operations.cost import read_cost
from agents.settings import Settings
from agents.stopping import finish


def cost(settings: Settings, by: str, *, as_json: bool) -> None:
    """Once."""
    data = finish(read_cost(settings, by))
    if as_json:
        print_json(data)
    else:
        console().print(_render(data, settings))


def _render(data: dict[str, Any], settings: Settings) -> Group:
    currency, today, budget = data["currency"], data["today"], data["budget"]
    head = f"{today['day']}: {_amount(today['cost'])} {currency} so far, {_amount(today['forecast'])} at this rate"
    if budget:
        head += f"; {budget['used_ratio']:.0%} of the day's budget of {_amount(budget['per_day'])} ({budget['then']})"
    if not data["rows"]:
        why = "no worker has claimed anything yet that it embedded"
        if not settings.counts_costs:
            why = "nothing has a price: set [cost.models.NAME] with million_tokens, request, core_hour or gpu_hour"
        return Group(head, f"nothing was counted: {why}")
    names = [name for name in ("day", data["by"]) if name in data["rows"][0]]
    table = Table(*dict.fromkeys(names), box=None)
    for name in (currency, "tokens", "documents", "a document"):
        table.add_column(name, justify="right")
    for row in data["rows"]:
        each = row["cost_a_document"]
        table.add_row(
            *(row[name] for name in dict.fromkeys(names)),
            _amount(row["cost"]),
            f"{row['tokens']:,}",
            f"{row['documents']:,}",
            "" if each is None else _amount(each),
        )
    return Group(head, table)


def _amount(units: float) -> str:
    """Small ones with enough digits to tell them from nothing."""
    if units >= 100:
        return f"{units:,.2f}"
    told = f"{units:.6g}"
    return f"{units:.9f}".rstrip("0").rstrip(".") if "e" in told else told
