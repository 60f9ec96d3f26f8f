"""Make agents/local/artifacts.json anew: what the local servers consist of, with sha256 and size.

    uv run --group local python ops/lock_artifacts.py

Trusts what Maven Central answers now; `penstock local` compares every later download with it.
"""

import hashlib
import json
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import jgo
from jgo.maven import MavenContext

KAFKA = ("4.1.1",)
ELASTICSEARCH = ("9.2.4", "8.19.3")
LOGGER = "org.slf4j:slf4j-simple:1.7.36:jar"  # the broker's jars come without one: its log would be empty
LOCK = Path(__file__).parent.parent / "agents" / "local" / "artifacts.json"


def main() -> None:
    """Resolve, fetch, hash, write."""
    with TemporaryDirectory() as scratch:
        context = MavenContext()
        kafka = {version: sorted([*resolve_kafka(version, Path(scratch)), LOGGER]) for version in KAFKA}
        lock = {
            "kafka": {version: [entry(context, c) for c in coordinates] for version, coordinates in kafka.items()},
            "elasticsearch": {
                version: [entry(context, f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip")]
                for version in ELASTICSEARCH
            },
        }
    LOCK.write_text(json.dumps(lock, indent=1) + "\n")


def resolve_kafka(version: str, cache: Path) -> list[str]:
    """Coordinates of the broker, its tools and all that they need."""
    endpoint = f"org.apache.kafka:kafka_2.13:{version}+org.apache.kafka:kafka-tools:{version}"
    jgo.build(endpoint, cache_dir=cache)
    (file,) = cache.rglob("jgo.lock.toml")
    return [
        ":".join(filter(None, (d["groupId"], d["artifactId"], d["version"], d["packaging"], d.get("classifier"))))
        for d in tomllib.loads(file.read_text())["dependencies"]
    ]


def entry(context: MavenContext, coordinate: str) -> dict[str, object]:
    """One locked artifact."""
    group, artifact, version, packaging, *classifier = coordinate.split(":")
    component = context.project(group, artifact).at_version(version)
    content = component.artifact(classifier="".join(classifier), packaging=packaging).resolve().read_bytes()
    return {"coordinate": coordinate, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


if __name__ == "__main__":
    main()
