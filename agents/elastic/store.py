"""Documents of an index by id, as the adapters of registry and chunks see them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from streams.plan import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line pair of a bulk body. `meta`: everything beside the action, `_id` included. A delete has no source."""

    action: Literal["index", "create", "delete"]
    meta: dict[str, Any]
    source: dict[str, Any] = field(default_factory=dict)


class Store(Protocol):
    """Many documents at once. Both may take as long as the server is away, and raise PenstockError for what waiting
    does not mend: the index or alias is gone, access is refused, `delivery.max_retries` is used up."""

    async def get(self, index: str, ids: Sequence[str], fields: str | None = None) -> list[Any]:
        """Rows as they are now, in the order of `ids`: `found`, `_source` with these fields, `_version`, `_seq_no`."""

    async def send(self, index: str, operations: Iterable[Operation], *, require_alias: bool = False) -> list[Outcome]:
        """Outcomes in the order of `operations`, which are drawn as the server takes them.

        Each may happen twice: send versioned or compare-and-swap writes only.
        """
