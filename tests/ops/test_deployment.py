"""Image and manifests: valid by their schemas, and in agreement with the settings and with each other."""

import base64
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION
from agents.metrics import Metrics
from agents.settings import Settings
from agents.settings.environment import CACHE_VARIABLE, cache_dir
from agents.settings.loading import load_settings
from agents.settings.sections import LifecycleSettings
from tests.agents.commands.test_refusals import problem

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
MANIFESTS = OPS / "kubernetes"
COMPOSE = yaml.safe_load((OPS / "compose.yml").read_text())
KUSTOMIZATION = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (found["kind"], found["metadata"]["name"]): found
    for file in sorted(MANIFESTS.glob("*.yaml"))
    if file.stem != "kustomization"
    for found in yaml.safe_load_all(file.read_text())
}
CUSTOM = ("ScaledObject", "PodMonitor")
"""Kinds of other projects' operators: not in Kubernetes' own schemas."""
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RUNBOOK = (ROOT / "runbook.md").read_text()
CLOSING_S = 10
DEPLOYMENT = OBJECTS["Deployment", "penstock"]
JOB = OBJECTS["Job", "penstock-index"]
SCALED = OBJECTS["ScaledObject", "penstock"]["spec"]


def pod(of: dict[str, Any] = DEPLOYMENT) -> dict[str, Any]:
    found: dict[str, Any] = of["spec"]["template"]["spec"]
    return found


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each with its pod; Penstock's own are those that run its image."""
    for spec in (pod(), pod(JOB)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield spec, container


def settings_env() -> dict[str, str]:
    """As kustomize reads them."""
    lines = (MANIFESTS / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def image(extra: str = "auto") -> dict[str, str]:
    """What the image sets, made for an extra."""
    stages = dict(re.findall(r"^FROM (?:\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    return dict(re.findall(r"(PENSTOCK_\w+)=(\S+)", stages["runtime"] + stages[f"runtime-{extra}"]))


def environments() -> dict[str, dict[str, str]]:
    """Of the image, and of what runs it."""
    found = {f"image {extra}": image(extra) for extra in ("auto", "cpu", "openvino", "gpu")}
    for _, container in containers():
        if container["image"] == "penstock":
            own = {row["name"]: row["value"] for row in container["env"]}
            found[container["name"]] = image() | settings_env() | own
    services = {name: service.get("environment", {}) for name, service in COMPOSE["services"].items()}
    return found | {name: image() | rows for name, rows in services.items() if "PENSTOCK_MODEL__NAME" in rows}


@pytest.mark.parametrize("name", environments())
def test_every_variable_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    for variable, value in environments()[name].items():
        monkeypatch.setenv(variable, str(key) if variable.endswith("_FILE") else value)
    assert load_settings().model.dir == Path("/models")


@pytest.mark.parametrize("key", [key for key in OBJECTS if key[0] not in CUSTOM], ids="/".join)
def test_manifests_are_valid(key: tuple[str, str]) -> None:
    kubernetes_validate.validate(OBJECTS[key], "1.33", strict=True)


def test_the_compose_file_is_valid() -> None:
    text = re.sub(r"\$\{PENSTOCK_MODEL__DIR:-\$\{HOME\}", "/home/me", (OPS / "compose.yml").read_text()).replace(
        "models}", "models"
    )
    compose = PyCompose.from_yaml(text)  # which does not fill in variables, as compose does first
    compose.validate()
    assert compose.to_spec().services


def test_what_kustomize_takes_is_there() -> None:
    files = {file.name for file in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml", "loader.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    assert KUSTOMIZATION["namespace"] in {name for kind, name in OBJECTS if kind == "Namespace"}
    (generated,) = KUSTOMIZATION["configMapGenerator"]  # with a hash in its name: a change of it is a rollout
    assert [(MANIFESTS / file).exists() for file in generated["envs"]] == [True]
    assert "disableNameSuffixHash" not in str(KUSTOMIZATION)
    for spec, container in containers():
        assert container["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
        assert spec["enableServiceLinks"] is False  # a Service's PENSTOCK_PORT is no setting
    (picture,) = KUSTOMIZATION["images"]
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert picture["newTag"] == tomllib.load(file)["project"]["version"]
    assert {container["image"] for _, container in containers()} == {picture["name"], f"apache/kafka:{KAFKA_VERSION}"}


def test_what_pods_mount_is_there_and_can_be_used() -> None:
    claims = {name: found["spec"] for (kind, name), found in OBJECTS.items() if kind == "PersistentVolumeClaim"}
    used = set()
    for spec, container in containers():
        volumes = {row["name"]: row for row in spec["volumes"]}
        mounts = {row["mountPath"]: row for row in container["volumeMounts"]}
        for row in mounts.values():
            volume = volumes[row["name"]]
            if "persistentVolumeClaim" in volume:
                used.add(volume["persistentVolumeClaim"]["claimName"])
                assert volume["persistentVolumeClaim"].get("readOnly", False) == row.get("readOnly", False)
        for value in [row["value"] for row in container["env"]] + list(settings_env().values()):
            if value.startswith("/run/secrets/"):
                assert container["image"] != "penstock" or str(Path(value).parent) in mounts, value
        assert mounts["/tmp"]["name"] in volumes  # noqa: S108 - Faust's scratch folder, on a read-only root
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsUser"]
    assert used == claims.keys()
    assert all(claim["accessModes"] == ["ReadWriteMany"] for claim in claims.values())


def test_models_get_into_their_claim_where_pods_are_restricted() -> None:
    loader = OBJECTS["Pod", "penstock-loader"]
    (namespace,) = (found["metadata"] for (kind, _), found in OBJECTS.items() if kind == "Namespace")
    assert loader["metadata"]["namespace"] == namespace["name"]  # kustomize does not see it, nor its image
    (container,) = loader["spec"]["containers"]
    (picture,) = KUSTOMIZATION["images"]
    assert container["image"] == f"{picture['newName']}:{picture['newTag']}"
    workers = pod()["securityContext"]
    assert loader["spec"]["securityContext"] == {name: workers[name] for name in loader["spec"]["securityContext"]}
    assert loader["spec"]["securityContext"].keys() >= {"runAsNonRoot", "runAsUser", "fsGroup", "seccompProfile"}
    assert container["securityContext"] == pod()["containers"][0]["securityContext"]
    models = image()["PENSTOCK_MODEL__DIR"]
    assert container["volumeMounts"] == [{"name": "models", "mountPath": models}]
    assert loader["spec"]["volumes"] == [{"name": "models", "persistentVolumeClaim": {"claimName": "penstock-models"}}]


def test_the_way_to_a_deployment_names_what_is_there() -> None:
    lines = re.findall(r"^# +(?:\d\. )?(kubectl .*)$", (MANIFESTS / "kustomization.yaml").read_text(), re.MULTILINE)
    applied = [ROOT / line.split()[3] for line in lines if line.startswith("kubectl apply ")]
    assert applied == [MANIFESTS / "namespace.yaml", MANIFESTS, MANIFESTS / "loader.yaml"]
    loader = OBJECTS["Pod", "penstock-loader"]["metadata"]
    others = [line for line in lines if not line.startswith("kubectl apply ")]
    assert len(others) == 3  # wait, copy, delete
    assert all(line.startswith(f"kubectl -n {loader['namespace']} ") and loader["name"] in line for line in others)
    assert f"{settings_env()['PENSTOCK_MODEL__NAME']} {loader['name']}:{image()['PENSTOCK_MODEL__DIR']}/" in others[1]


def test_what_compose_is_told_to_run_are_commands_of_a_service_that_has_all_they_need() -> None:
    lines = re.findall(
        r"^# +docker compose -f ops/compose.yml run (.*)$", (OPS / "compose.yml").read_text(), re.MULTILINE
    )
    ran = []
    for line in lines:
        words = shlex.split(line)
        at = words.index("worker")
        assert problem(words[at + 1 :]) is None
        folders = [words[number + 1].split(":")[1] for number, word in enumerate(words[:at]) if word == "-v"]
        assert [word for word in words[at + 1 :] if word.startswith("/")] == folders
        ran.append(words[at + 1])
    assert ran == ["ingest", "search"]
    assert COMPOSE["services"]["worker"]["environment"] == COMPOSE["services"]["index"]["environment"]


def test_what_is_found_out_about_a_machine_is_kept_for_all_pods() -> None:
    """The model's folder is read-only, so it is kept in the cache; that has to outlive the container."""
    (container,) = pod()["containers"]
    mounts = {row["mountPath"]: row for row in container["volumeMounts"]}
    assert mounts["/models"]["readOnly"]
    cache = image()[CACHE_VARIABLE]
    assert not mounts[cache].get("readOnly")
    (volume,) = (row for row in pod()["volumes"] if row["name"] == mounts[cache]["name"])
    assert "persistentVolumeClaim" in volume
    assert f"cache:{cache}" in COMPOSE["services"]["worker"]["volumes"]
    assert re.search(rf"install --directory --owner=(\d+) {cache}", DOCKERFILE)[1] == str(user())  # type: ignore[index]


def user() -> int:
    """That the image runs as."""
    (found,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    return int(found)


def test_the_broker_of_compose_writes_where_its_volume_is() -> None:
    """Else `down` and `up` would lose topic and claims, and keep the index."""
    kafka = COMPOSE["services"]["kafka"]
    (volume,) = kafka["volumes"]
    name, target = volume.split(":")
    assert name in COMPOSE["volumes"]
    assert kafka["environment"]["KAFKA_LOG_DIRS"] == target == "/var/lib/kafka/data"  # the image's own user owns it
    assert len(base64.urlsafe_b64decode(kafka["environment"]["CLUSTER_ID"] + "==")) == 16


def test_compose_finds_the_models_where_the_export_puts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for service in ("index", "worker"):
        (mount,) = (row for row in COMPOSE["services"][service]["volumes"] if isinstance(row, dict))
        assert mount["target"] == image()["PENSTOCK_MODEL__DIR"]
        assert mount["read_only"]
        assert mount["bind"] == {"create_host_path": False}
        default = re.fullmatch(r"\$\{PENSTOCK_MODEL__DIR:-\$\{HOME\}(/.*)\}", mount["source"])
        assert default
        for variable in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert Path(f"{tmp_path}{default[1]}") == cache_dir() / "models" == Settings().model.dir


def test_nothing_of_compose_listens_beyond_the_machine() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_stop_has_the_time_that_it_takes() -> None:
    drain_s = float(settings_env()["PENSTOCK_LIFECYCLE__DRAIN_S"])
    assert pod()["terminationGracePeriodSeconds"] == drain_s + CLOSING_S
    assert COMPOSE["services"]["worker"]["stop_grace_period"] == f"{LifecycleSettings().drain_s + CLOSING_S:.0f}s"


def test_ports_paths_and_users_are_the_same_everywhere() -> None:
    (container,) = pod()["containers"]
    port = Settings().admin.port
    (opened,) = container["ports"]
    assert opened["containerPort"] == port
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f"127.0.0.1:{port}/livez" in DOCKERFILE
    for file in ("prometheus.yml", "compose.yml"):
        assert str(port) in (OPS / "prometheus" / file).read_text()
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    served = (ROOT / "agents" / "worker" / "health.py").read_text()
    for probe in probes:
        assert f'"{probe["path"]}"' in served
        assert probe["port"] == opened["name"]
    for spec, _ in containers():
        assert spec["securityContext"]["runAsUser"] == user()


def test_probes_wait_longer_than_a_busy_worker_takes() -> None:
    (container,) = pod()["containers"]
    live = container["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] >= 60
    assert live["timeoutSeconds"] >= 5
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 120  # an image's imports on a starved node
    assert "initialDelaySeconds" not in str(container)


def test_only_workers_are_monitored_counted_and_spread() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["spec"]["selector"],
        OBJECTS["PodDisruptionBudget", "penstock"]["spec"]["selector"],
        OBJECTS["PodMonitor", "penstock"]["spec"]["selector"],
        *(row["labelSelector"] for row in pod()["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector == {"matchLabels": labels}
    assert JOB["spec"]["template"]["metadata"]["labels"] != labels
    assert OBJECTS["PodDisruptionBudget", "penstock"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    (endpoint,) = OBJECTS["PodMonitor", "penstock"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in pod()["containers"][0]["ports"]}
    assert "prometheus.io/" not in str(DEPLOYMENT)  # the operator ignores them


def test_the_operator_gets_the_rules_that_are_tested() -> None:
    made = subprocess.run(["sh", MANIFESTS / "rules.sh"], capture_output=True, text=True, check=True).stdout
    rule = yaml.safe_load(made)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load((OPS / "prometheus" / "rules.yml").read_text())


def test_versions_are_those_that_are_tested() -> None:
    assert COMPOSE["services"]["kafka"]["image"].endswith(f":{KAFKA_VERSION}")
    assert COMPOSE["services"]["elasticsearch"]["image"].endswith(f":{ELASTICSEARCH_VERSION}")


def test_no_more_workers_than_partitions() -> None:
    assert SCALED["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    made = [COMPOSE["services"]["topic"]["command"], pod(JOB)["initContainers"][0]["args"][0]]
    partitions = {int(number) for text in made for number in re.findall(r"--partitions (\d+)", text)}
    assert partitions == {SCALED["maxReplicaCount"]}
    assert "replicas" not in DEPLOYMENT["spec"]


def test_the_runbook_leads_from_each_alert_to_its_section() -> None:
    rules = (ROOT / "ops/prometheus/rules.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    sections = re.findall(r"runbook_url: .*(#[\w-]+)'", rules)
    assert len(alerts) == len(sections) > 0
    table = {
        name: row.rsplit("(", 1)[1].split(")")[0]
        for row in re.findall(r"^\| Penstock.*$", RUNBOOK, re.MULTILINE)
        for name in re.findall(r"Penstock\w+", row.split("|")[1])
    }
    assert table == dict(zip(alerts, sections, strict=True))


def test_the_topic_is_as_the_runbook_asks() -> None:
    (section,) = re.findall(r"^## A broker is lost\n(.*?)(?=^## )", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert "with three replicas and\n`min.insync.replicas = 2`" in section
    assert "--replication-factor 3 --config min.insync.replicas=2\n" in pod(JOB)["initContainers"][0]["args"][0]
    command = COMPOSE["services"]["topic"]["command"]  # one broker
    assert command.endswith("--replication-factor 1 --config min.insync.replicas=1")


def test_scaling_goes_by_metrics_that_there_are_of_its_own_group() -> None:
    known = {family.name + "_total" * (family.type == "counter") for family in Metrics().registry.collect()}
    settings = settings_env()
    for trigger in SCALED["triggers"]:
        query = trigger["metadata"]["query"]
        assert set(re.findall(r"penstock_\w+", query)) <= known
        assert f'penstock_worker_info{{group="{settings["PENSTOCK_SOURCE__GROUP"]}"}}' in query
        assert f'topic="{settings["PENSTOCK_SOURCE__TOPIC"]}"' in query or "topic" not in query
        host = re.fullmatch(r"http://([\w.-]+):\d+", trigger["metadata"]["serverAddress"])
        assert host
        assert host[1].endswith(".svc.cluster.local")  # KEDA looks it up in its own namespace
        assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert SCALED["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert SCALED["minReplicaCount"] <= SCALED["fallback"]["replicas"] <= SCALED["maxReplicaCount"]


def test_workers_are_stopped_in_a_way_that_keda_does_not_undo() -> None:
    commands = re.findall(r"^kubectl .*$", RUNBOOK, re.MULTILINE)
    paused = [line for line in commands if "autoscaling.keda.sh/paused-replicas" in line]
    assert len(paused) == 2  # and back
    assert all("scaledobject penstock" in line and "-n penstock" in line for line in paused)
    assert "kubectl scale" not in RUNBOOK


def test_the_job_logs_in_as_an_operator() -> None:
    own = {row["name"]: row["value"] for row in pod(JOB)["containers"][0]["env"]}
    assert own["PENSTOCK_ELASTICSEARCH__API_KEY_FILE"].startswith("/run/secrets/operator/")
    assert own["PENSTOCK_KAFKA__SASL_PASSWORD_FILE"].startswith("/run/secrets/operator/")
    assert own["PENSTOCK_KAFKA__SASL_USERNAME"] != settings_env()["PENSTOCK_KAFKA__SASL_USERNAME"]


def test_the_image_for_a_gpu_has_its_libraries_and_uses_no_other_provider() -> None:
    assert image("gpu")["PENSTOCK_MODEL__PROVIDER"] == "cuda"
    assert "PENSTOCK_MODEL__PROVIDER" not in image("openvino")
    overlay = (OPS / "kubernetes-gpu" / "kustomization.yaml").read_text()
    (patch,) = (yaml.safe_load(row["patch"]) for row in yaml.safe_load(overlay)["patches"])
    (container,) = pod(patch)["containers"]
    assert {"name": "PENSTOCK_MODEL__PROVIDER", "value": "cuda"} in container["env"]
    assert container["name"] == pod()["containers"][0]["name"]
    assert (patch["metadata"]["name"], patch["kind"]) == ("penstock", "Deployment")


@pytest.mark.parametrize("extra", ["cpu", "openvino", "gpu"])
def test_only_the_extra_for_a_gpu_brings_cuda_and_cudnn(extra: str) -> None:
    names = installed_with(extra)
    runtimes = {name for name in names if name.startswith("onnxruntime")}
    assert runtimes == {{"cpu": "onnxruntime", "openvino": "onnxruntime-openvino", "gpu": "onnxruntime-gpu"}[extra]}
    cuda = {name for name in names if name.startswith("nvidia-")}
    if extra == "gpu":
        for library in ("cublas", "cudnn", "cuda-runtime", "cufft", "curand"):
            assert any(name.startswith(f"nvidia-{library}") for name in cuda), library
    else:
        assert not cuda


def installed_with(extra: str) -> set[str]:
    """Names of the packages that the lock has for one of our extras, on Linux."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        packages.setdefault(package["name"], []).append(package)
    found: set[str] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [("penstock", (extra,))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for package in packages[name]:
            rows = list(package.get("dependencies", []))
            for one in extras:
                rows += package.get("optional-dependencies", {}).get(one, [])
            waiting += [(row["name"], tuple(row.get("extra", []))) for row in rows]
    return found - {"penstock"}
