"""What was found out about setups on this machine, kept: rates, and proofs.

<model's folder>/setups.json, or <cache>/setups/<model>.json where that folder is read-only
{machine: {setup: tokens a second, or why it cannot be had}, "proofs": {machine: {setup: proof}}}
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.onnx.proof import Proof

SETUPS = "setups.json"
PROOFS = "proofs"
"""Another name when `models.onnx.proof` asks for more: what was proved before is then proved again."""


class Kept:
    """Of one machine and model. `places`: files, the first that can be written is written; all are read."""

    def __init__(self, machine: str, *places: Path) -> None:
        self._machine = machine
        self._places = places

    def rates(self) -> dict[str, float | str]:
        """By setup."""
        return self._all(lambda content: content.get(self._machine, {}))

    def proofs(self) -> dict[str, Proof]:
        """By setup."""
        rows = self._all(lambda content: content.get(PROOFS, {}).get(self._machine, {}))
        return {setup: _proof(row) for setup, row in rows.items()}

    def add(self, *, rates: Mapping[str, float | str] | None = None, proofs: Mapping[str, Proof] | None = None) -> bool:
        """Keep these too. False where nothing can be written: then the next start finds out again."""
        return any(self._write(place, rates or {}, proofs or {}) for place in self._places)

    def __str__(self) -> str:
        return " nor ".join(map(str, self._places))

    def _all(self, part: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place in reversed(self._places):
            found |= part(_read(place))
        return found

    def _write(self, place: Path, rates: Mapping[str, float | str], proofs: Mapping[str, Proof]) -> bool:
        content = _read(place)
        content[self._machine] = content.get(self._machine, {}) | rates
        known = content.setdefault(PROOFS, {})
        known[self._machine] = known.get(self._machine, {}) | {setup: asdict(proof) for setup, proof in proofs.items()}
        try:
            if place != self._places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=f".{SETUPS}-", delete=False) as file:
                json.dump(content, file, indent=2)
            os.chmod(file.name, 0o644)
            os.replace(file.name, place)
        except OSError:
            return False
        return True


def _proof(row: dict[str, Any]) -> Proof:
    return Proof(**{**row, "refused": {int(bound): least for bound, least in row["refused"].items()}})


def _read(place: Path) -> dict[str, Any]:
    """Nothing where there is no such file, or not one of ours."""
    try:
        found = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
