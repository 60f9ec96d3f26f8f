"""Image and manifests: valid by their schemas, and in agreement with the settings and with each other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION
from agents.settings import LifecycleSettings, Settings, load_settings

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
COMPOSE = yaml.safe_load((OPS / "compose.yml").read_text())
KUBERNETES = {
    file.stem: yaml.safe_load(file.read_text())
    for file in sorted((OPS / "kubernetes").glob("*.yaml"))
    if file.stem != "kustomization"
}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CLOSING_S = 10


def pod() -> dict[str, Any]:
    found: dict[str, Any] = KUBERNETES["deployment"]["spec"]["template"]["spec"]
    return found


def environments() -> dict[str, dict[str, str]]:
    """Of the image, and of what runs it."""
    (container,) = pod()["containers"]
    image = dict(re.findall(r"(PENSTOCK_\w+)=(\S+)", DOCKERFILE))
    cluster = {**KUBERNETES["settings"]["data"], **{row["name"]: row["value"] for row in container["env"]}}
    services = {name: service.get("environment", {}) for name, service in COMPOSE["services"].items()}
    found = {"image": image, "kubernetes": image | cluster}
    return found | {name: image | rows for name, rows in services.items() if "PENSTOCK_MODEL__NAME" in rows}


@pytest.mark.parametrize("name", environments())
def test_every_variable_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    for variable, value in environments()[name].items():
        monkeypatch.setenv(variable, str(key) if variable.endswith("_FILE") else value)
    assert load_settings().model.dir == Path("/models")


@pytest.mark.parametrize("name", [name for name in KUBERNETES if name != "scaledobject"])
def test_manifests_are_valid(name: str) -> None:
    kubernetes_validate.validate(KUBERNETES[name], "1.33", strict=True)


def test_the_compose_file_is_valid() -> None:
    compose = PyCompose.from_yaml((OPS / "compose.yml").read_text())
    compose.validate()
    assert compose.to_spec().services


def test_what_kustomize_takes_is_there() -> None:
    listed = yaml.safe_load((OPS / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f"{name}.yaml" for name in KUBERNETES)


def test_a_stop_has_the_time_that_it_takes() -> None:
    drain_s = float(KUBERNETES["settings"]["data"]["PENSTOCK_LIFECYCLE__DRAIN_S"])
    assert pod()["terminationGracePeriodSeconds"] == drain_s + CLOSING_S
    assert COMPOSE["services"]["worker"]["stop_grace_period"] == f"{LifecycleSettings().drain_s + CLOSING_S:.0f}s"


def test_ports_paths_and_users_are_the_same_everywhere() -> None:
    (container,) = pod()["containers"]
    port = Settings().admin.port
    assert {row["containerPort"] for row in container["ports"]} == {port}
    assert KUBERNETES["deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f"127.0.0.1:{port}/livez" in DOCKERFILE
    for file in ("prometheus.yml", "compose.yml"):
        assert str(port) in (OPS / "prometheus" / file).read_text()
    probes = {container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    served = (ROOT / "agents" / "admin.py").read_text()
    assert all(f'"{path}"' in served for path in probes)
    assert f"USER {pod()['securityContext']['runAsUser']}\n" in DOCKERFILE


def test_versions_are_those_that_are_tested() -> None:
    assert COMPOSE["services"]["kafka"]["image"].endswith(f":{KAFKA_VERSION}")
    assert COMPOSE["services"]["elasticsearch"]["image"].endswith(f":{ELASTICSEARCH_VERSION}")


def test_no_more_workers_than_partitions() -> None:
    scaled = KUBERNETES["scaledobject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == KUBERNETES["deployment"]["metadata"]["name"]
    (partitions,) = re.findall(r"--partitions (\d+)", COMPOSE["services"]["topic"]["command"])
    assert scaled["maxReplicaCount"] == int(partitions)
    assert "replicas" not in KUBERNETES["deployment"]["spec"]
    metrics = set(re.findall(r"penstock_\w+", " ".join(t["metadata"]["query"] for t in scaled["triggers"])))
    assert metrics == {"penstock_consumer_lag", "penstock_chunks_embedded_total"}
