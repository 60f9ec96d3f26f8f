"""Generations of an index: each with its own contract, fed by one consumer group; readers see one of them.

    documents ──alias──► documents-a-000001   fed by group `penstock`        serving
                         documents-b-000002   fed by group `penstock-b`      filled, looked at, then promoted

A generation is bound to the group that last started a worker on it (or that it was made for), because that group's
claims are about it. A group feeds one generation only: its claims have room for one. Two groups on one generation do no
harm: what they write commutes.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.contract import differences, same_cluster, this_very_log
from streams.epochs import Epochs, History, from_contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One index of an alias. `group`: the consumer group that feeds it, None before the first.

    `before`: the index that served until this one was promoted. `aliases`: all but those for writing.
    """

    index: str
    number: int
    contract: dict[str, Any]
    group: str | None
    serving: bool
    before: str | None
    aliases: tuple[str, ...]
    rebuild: dict[str, Any] | None
    """What a rebuild that has not ended noted down for itself."""


def forgotten(generation: Generation, history: History | None) -> Epochs | None:
    """All its cuts, where claims remember more of its log than it knows itself: it was restored from before them.

    None where it lacks none, as far as is known.
    """
    if history is None or not this_very_log(generation.contract["source"].get("log"), history.log):
        return None
    own, known = from_contract(generation.contract["cuts"]), from_contract(history.cuts).cuts
    mine = own.of_this_log.cuts
    if len(known) <= len(mine) or known[: len(mine)] != mine:
        return None
    return Epochs((*own.cuts[: len(own.cuts) - len(mine)], *known))


def name_of(alias: str, model: str, number: int) -> str:
    """`<alias>-<model name, lower case>-<000001>`."""
    return f"{alias}-{model.lower()}-{number:06}"


def number_of(alias: str, name: str, contract: dict[str, Any]) -> int | None:
    """The number in a generation's name; None when it is not one of this alias (`docs-en-…` is not one of `docs`)."""
    number = name.rpartition("-")[2]
    if number.isdecimal() and name == name_of(alias, contract["model"]["name"], int(number)):
        return int(number)
    return None


def next_number(found: Iterable[Generation]) -> int:
    """Numbers grow along all generations of an alias, whatever their model."""
    return 1 + max((generation.number for generation in found), default=0)


def serving_one(found: Iterable[Generation]) -> Generation | None:
    """The one that readers see."""
    return next((one for one in found if one.serving), None)


def fed_by(found: Sequence[Generation], group: str, contract: dict[str, Any] | None) -> Generation | None:
    """The generation that a worker of this group writes into; None when there is none for it.

    1. the one bound to the group, whatever its contract (the caller compares)
    2. among those made with this contract: the newest without a group, else the one that serves, else the newest
    Without a contract, for tools, any will do. Where no index serves, what another group fills is that group's, and
    for tools what nobody fills is nobody's: a new one is to be made.
    """
    bound = [generation for generation in found if generation.group == group]
    if bound:
        return bound[-1]
    fitting = [one for one in found if contract is None or alike(one.contract, contract)]
    if serving_one(found) is None:
        fitting = [one for one in fitting if one.group is None and contract is not None]
    return max(fitting, key=lambda one: (one.group is None, one.serving, one.number), default=None)


def fed_beside(found: Iterable[Generation], group: str, topic: str, log: str, own: Container[str]) -> list[Generation]:
    """What this group feeds beside its alias's own indices: from other topics of the cluster, or this very log.

    Both would keep their claims under the same keys, and each rebalance void those of the other. On another cluster a
    group of the same name is another group; and nobody feeds a copy.
    """
    others = [one for one in found if one.group == group and one.index not in own]
    return [
        one
        for one in others
        if same_cluster(one.contract["source"].get("log"), log)
        and (one.contract["source"]["topic"] != topic or (one.number and one.contract["source"]["log"] == log))
    ]


def alike(index: dict[str, Any], worker: dict[str, Any]) -> bool:
    """Whether the contracts differ in nothing but the number of partitions, which begins a new epoch."""
    return all(row.startswith("source.partitions") for row in differences(index, worker))
