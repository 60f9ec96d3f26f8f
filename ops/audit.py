"""What the worker is made of, and whether any of it was withdrawn or has a known hole: `make audit`.

1. a bill of materials of the worker's environment (CycloneDX), as locked      dist/sbom.cdx.json
2. releases that their authors have withdrawn since (PEP 592), of all that is locked
3. known vulnerabilities (OSV), of all that is locked

Exit code: 1 when something was found; else 3 when something could not be looked up, which is no finding and no clean
bill either; 0 when all was looked up, or with `--offline-ok`: it is said all the same, but is not the code's fault.
"""

import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INDEX = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 30


def main(uv: str, extra: str, *flags: str) -> int:
    """Exit code, as above. `flags`: `--offline-ok`, or none."""
    bill = ROOT / "dist" / "sbom.cdx.json"
    bill.parent.mkdir(exist_ok=True)
    options = ["--quiet", "--preview", "--locked", "--no-dev", "--extra", extra, "--format", "cyclonedx1.5"]
    subprocess.run(
        [uv, "export", *options, "--output-file", str(bill)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    components = json.loads(bill.read_text())["components"]
    print(f"bill of materials: {len(components)} packages in {bill.relative_to(ROOT)}")
    return verdict([_withdrawn(), _vulnerable(uv)], offline_ok=flags == ("--offline-ok",))


@dataclass(frozen=True)
class Looked:
    """What came of one look: findings, and what it could not look up."""

    found: list[str]
    unknown: str = ""


def verdict(looks: list[Looked], *, offline_ok: bool) -> int:
    """Prints all, and returns the exit code."""
    found = [line for look in looks for line in look.found]
    unknown = [look.unknown for look in looks if look.unknown]
    for line in found:
        print(line)
    for line in unknown:
        print(f"NOT LOOKED UP: {line}")
    if found:
        return 1
    if unknown and not offline_ok:
        print("audit: not complete; where that cannot be had: make audit OFFLINE_OK=1")
        return 3
    print("audit: nothing found" + " in what could be looked up" * bool(unknown))
    return 0


def _withdrawn() -> Looked:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    wanted = [(row["name"], row["version"]) for row in locked if "registry" in row["source"]]
    with ThreadPoolExecutor(8) as pool:
        reasons = dict(zip(wanted, pool.map(reason_of, wanted), strict=True))
    unknown = [f"{name} {version}" for (name, version), reason in reasons.items() if reason is None]
    print(f"withdrawn releases: {len(wanted) - len(unknown)} of {len(wanted)} looked up")
    told = f"whether {len(unknown)} releases were withdrawn: {', '.join(unknown[:5])}" + ", …" * (len(unknown) > 5)
    return Looked(
        [f"withdrawn: {name} {version}: {reason}" for (name, version), reason in reasons.items() if reason],
        told if unknown else "",
    )


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


def _vulnerable(uv: str) -> Looked:
    done = subprocess.run([uv, "audit", "--preview", "--locked"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "error sending request" in done.stderr:
        return Looked([], "known vulnerabilities: the database cannot be reached from here")
    told = (done.stdout + done.stderr).strip()
    if done.returncode:
        return Looked([told])
    print(told)
    return Looked([])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
