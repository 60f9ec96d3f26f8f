"""What the worker is made of, and whether any of it was withdrawn or has a known hole: `make audit`.

1. a bill of materials of the worker's environment (CycloneDX), as locked      dist/sbom.cdx.json
2. releases that their authors have withdrawn since (PEP 592), of all that is locked: fails
3. known vulnerabilities (OSV), of all that is locked: fails; where no database can be reached, that is said
"""

import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INDEX = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 30


def main(uv: str, extra: str) -> int:
    """Exit code: 1 when something was found."""
    bill = ROOT / "dist" / "sbom.cdx.json"
    bill.parent.mkdir(exist_ok=True)
    options = ["--quiet", "--preview", "--locked", "--no-dev", "--extra", extra, "--format", "cyclonedx1.5"]
    subprocess.run(
        [uv, "export", *options, "--output-file", str(bill)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    components = json.loads(bill.read_text())["components"]
    print(f"bill of materials: {len(components)} packages in {bill.relative_to(ROOT)}")
    withdrawn = _withdrawn()
    for line in withdrawn:
        print(f"withdrawn: {line}")
    return int(bool(withdrawn) + _vulnerable(uv) > 0)


def _withdrawn() -> list[str]:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    wanted = [(row["name"], row["version"]) for row in locked if "registry" in row["source"]]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reason_of, wanted))
    unknown = sum(reason is None for reason in found)
    print(
        f"withdrawn releases: {len(wanted) - unknown} looked at" + (f", {unknown} unknown to the index" * bool(unknown))
    )
    return [f"{name} {version}: {reason}" for (name, version), reason in zip(wanted, found, strict=True) if reason]


def reason_of(package: tuple[str, str]) -> str | None:
    """Why a release was withdrawn; empty when it was not, None when the index does not say."""
    name, version = package
    request = urllib.request.Request(f"{INDEX.rstrip('/')}/{name}/", headers={"Accept": JSON})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            files: list[Any] = json.loads(answer.read())["files"]
    except (OSError, ValueError, KeyError):
        return None
    stem = name.replace("-", "_")
    own = [
        file
        for file in files
        if file["filename"].lower().replace("-", "_").startswith((f"{stem}_{version}_", f"{stem}_{version}.tar"))
    ]
    if not own:
        return None
    reasons = [file.get("yanked") for file in own]
    return "" if not all(reasons) else str(reasons[0] if isinstance(reasons[0], str) else "no reason given")


def _vulnerable(uv: str) -> bool:
    done = subprocess.run([uv, "audit", "--preview", "--locked"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "error sending request" in done.stderr:
        print("known vulnerabilities: not looked up, the database cannot be reached from here")
        return False
    print(done.stdout + done.stderr)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
