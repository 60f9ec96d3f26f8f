"""TLS and logins on the real servers: SASL_SSL with SCRAM, mTLS, https, API keys, ACLs, and the least privileges."""

import hashlib
import json
import os
import re
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from agents.settings.environment import cache_dir
from agents.settings.loading import load_settings
from tests.kit.api_keys import cache_with_api_keys
from tests.kit.harness import PATIENCE_S
from tests.kit.kafka_tools import kafka_script, password_of
from tests.kit.secure import SecureStack
from tests.kit.shared import alone


@pytest.fixture(scope="module")
def secure(model_folder: Path) -> Iterator[SecureStack]:
    """Settings of a worker, an operator and a reader, each with an API key and the ACLs that the runbook lists."""
    with tempfile.TemporaryDirectory(prefix="penstock-secure-") as name:
        made = SecureStack(Path(name) / "stack")
        try:
            with alone("servers"):
                made.start(cache_with_api_keys(cache_dir(), Path(name) / "cache"))
            allow, letters = made.kafka.allow, "documents.dlq"
            made.kafka.user("worker")
            allow("worker", "Read", topics=["documents"], groups=["penstock"])
            allow("worker", "Read Write Create", topics=[letters, "penstock-claims-changelog"])
            made.kafka.user("operator")
            allow("operator", "Read Write Create", topics=["documents", "documents.sources"])
            allow("operator", "Write", transactions=["penstock-ingest-"], prefix=True)
            allow("operator", "Read Write Create Delete", topics=[letters])
            allow("operator", "Read Write Create Alter", topics=["penstock"], prefix=True)
            allow("operator", "Read", groups=["penstock"], prefix=True)
            for role in ("worker", "operator"):
                made.settings(role, role, user=role)
            made.settings("mtls", "worker", base="penstock-mtls.toml")
            made.settings("reader", "reader")
            yield made
        finally:
            made.close()


def ingest(secure: SecureStack, settings: str, *documents: dict[str, str]) -> None:
    path = secure.folder / "documents.jsonl"
    path.write_text("\n".join(map(json.dumps, documents)))
    secure.done(settings, "ingest", "files", str(path))


def first_hit(secure: SecureStack, question: str) -> str:
    """Id of the document that the reader finds first."""
    found = secure.done("reader", "search", question, "--json")
    return str(found[0]["metadata"]["doc_id"])


def test_each_role_can_do_its_work_and_no_more_over_sasl_ssl_and_mtls(secure: SecureStack, model_folder: Path) -> None:
    """A worker over SASL_SSL, one over mTLS; the operator makes the index, the reader searches; no secret is told.

    Nor a document's text, though both log at debug.
    """
    for name in ("worker", "mtls"):
        with (secure.folder / f"{name}.toml").open("a") as file:
            file.write('\n[log]\nlevel = "debug"\n')
    ingest(secure, "operator", *({"id": f"d-{n}", "text": f"water {n}"} for n in range(20)))
    assert "created" in secure.done("operator", "index", "create", "--load")
    other = {"PENSTOCK_SPLIT__MAX_CHARS": "300"}
    refused = secure.penstock("worker", "index", "create", "--model", model_folder.name, extra=other)
    assert (refused.returncode, "403" in refused.stderr) == (1, True), refused.stderr
    assert "ops/elasticsearch" in refused.stderr

    log = secure.work_off("worker", says="load mode ended")  # binds the index to its group, too
    ingest(secure, "mtls", {"id": "late", "text": "over mTLS"})
    log += secure.work_off("mtls")
    assert "Join group response" in log
    assert all(text not in log for text in ("water 1", "over mTLS"))

    assert first_hit(secure, "over mTLS") == "late"
    listed = secure.done("operator", "index", "list", "--json")
    assert [(row["documents"], row["group"]) for row in listed] == [(21, "penstock")]
    secure.done("worker", "index", "verify")
    other = {"PENSTOCK_ELASTICSEARCH__ALIAS": "others"}
    for nothing in (
        secure.penstock("reader", "index", "verify"),
        secure.penstock("reader", "search", "x", extra=other),
    ):
        assert (nothing.returncode, "403" in nothing.stderr) == (1, True), nothing.stderr

    shown = secure.penstock("worker", "config", "show")
    assert f"file {secure.folder / 'worker.toml'}" in shown.stdout
    own = load_settings(secure.folder / "worker.toml")
    assert own.elasticsearch.api_key
    assert own.kafka.sasl_password
    for secret in (own.elasticsearch.api_key, own.kafka.sasl_password):
        assert secret.get_secret_value() not in log + shown.stdout + shown.stderr
    assert secure.security.password not in log + shown.stdout + shown.stderr


def test_a_worker_whose_key_is_revoked_ends_and_loses_nothing(secure: SecureStack) -> None:
    secure.done("operator", "index", "create")
    secure.settings("revoked", "worker", user="worker")
    with secure.worker("revoked") as worker:
        deadline = time.monotonic() + PATIENCE_S
        while not secure.done("operator", "status", "--json")["workers"]:
            assert (worker.poll(), time.monotonic() < deadline) == (None, True)
            time.sleep(0.5)
        secure.revoke_keys("worker")
        ingest(secure, "operator", {"id": "after", "text": "published after the key was revoked"})
        assert worker.wait(PATIENCE_S) == 1
    log = secure.log("revoked").read_text()
    assert "answered 401" in log
    assert "elasticsearch.api_key" in log
    assert "Traceback" not in log
    secure.settings("worker", "worker", user="worker")
    secure.work_off("worker")
    assert first_hit(secure, "revoked key") == "after"


def test_an_operator_has_the_acls_for_what_the_runbook_asks_of_one(secure: SecureStack) -> None:
    """Dead letters, a rebuild in a group of its own, and a new epoch when partitions were added."""
    ingest(secure, "operator", {"id": "one", "text": "one"})
    secure.done("operator", "index", "create")
    secure.publish("documents", b"poison", b"no JSON")
    secure.work_off("worker")
    assert secure.done("operator", "dlq", "list", "--json")
    secure.done("operator", "dlq", "purge", "--yes")
    assert "promote" in secure.done("operator", "index", "rebuild")
    secure.kafka.partitions("documents", 16)
    secure.done("operator", "index", "epoch", "bump", "--why", "twice the partitions")
    secure.work_off("worker")


def test_documents_over_http_need_an_operators_login_and_no_more(secure: SecureStack) -> None:
    """To publish, and to see how far the workers are; nobody works, so that it is not searchable."""
    with secure.serving("operator") as address:  # which makes the topic
        secure.done("operator", "index", "create")
        asking = HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)
        path, kind = "/documents/over-http?wait=searchable&timeout=1", {"Content-Type": "application/json"}
        asking.request("PUT", path, b'{"text": "over HTTP"}', kind)
        answer = asking.getresponse()
        told = json.loads(answer.read())
        asking.close()
    assert (answer.status, told["id"], told["detail"]) == (202, "over-http", "the workers have not settled it yet")
    secure.work_off("worker")


def test_the_job_of_the_manifests_makes_the_topic_with_an_operators_login(secure: SecureStack, tmp_path: Path) -> None:
    """Its script, with a pod's paths put elsewhere and one replica; twice, as a Job may be tried again."""
    manifests = Path(__file__).parents[2] / "ops" / "kubernetes"
    job = yaml.safe_load((manifests / "index.yaml").read_text())["spec"]["template"]["spec"]["initContainers"][0]
    variables = dict(line.split("=", 1) for line in (manifests / "settings.env").read_text().splitlines())
    login = load_settings(secure.folder / "operator.toml").kafka
    (tmp_path / "kafka-password").write_text(password_of("operator"))
    kafka_script(tmp_path / "kafka-topics.sh", "TopicCommand")
    script = job["args"][0]
    for three, one in (("--replication-factor 3", "--replication-factor 1"), ("replicas=2", "replicas=1")):
        assert three in script
        script = script.replace(three, one)  # there is one broker here
    for there in ("/tmp/client", "/opt/kafka/bin/kafka", "/run/secrets/operator/kafka"):  # noqa: S108
        assert there in script
        script = script.replace(there, str(tmp_path / Path(there).name))
    variables |= {
        "PATH": os.environ["PATH"],
        "PENSTOCK_KAFKA__SASL_USERNAME": "operator",
        "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": login.bootstrap_servers,
        "PENSTOCK_KAFKA__SSL_CAFILE": str(login.ssl_cafile),
    }
    assert variables["PENSTOCK_SOURCE__TOPIC"] == "documents"
    for _ in range(2):
        done = subprocess.run([*job["command"], script], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "topic documents does not exist" not in secure.penstock("operator", "status").stderr


def test_wrong_logins_and_certificates_are_clear_errors(secure: SecureStack) -> None:
    text = (secure.folder / "penstock.toml").read_text()

    def told(changed: str, code: int, *words: str) -> None:
        (secure.folder / "x.toml").write_text(changed)
        done = secure.penstock("x", "index", "create")
        assert done.returncode == code, (done.stdout, done.stderr)
        assert all(word in done.stderr for word in words), done.stderr
        assert "Traceback" not in done.stderr
        assert secure.security.password not in done.stdout + done.stderr

    told(text.replace('sasl_password = "', 'sasl_password = "x'), 1, "Kafka at", "the login right?")
    told(re.sub(r"^ssl_cafile.*\n", "", text, flags=re.MULTILINE), 1, "Kafka at")  # nobody whom the system trusts
    told(text.replace("ca.pem", "absent.pem", 1), 2, "kafka.ssl_cafile", "absent.pem")
    told(text.replace("SASL_SSL", "SASL_PLAINTEXT").replace("ssl_cafile", "# "), 2, "kafka.allow_plaintext_credentials")
    plain = re.sub(r"^ca_certs.*\n", "", text, flags=re.MULTILINE).replace("https://", "http://")
    told(plain, 2, "elasticsearch.allow_plaintext_credentials")
    told(re.sub(r"^password.*$", 'password = "wrong"', text, flags=re.MULTILINE), 1, "answered 401")
    told(re.sub(r"^ca_certs.*\n", "", text, flags=re.MULTILINE), 1, "Elasticsearch at https")
    mtls = (secure.folder / "penstock-mtls.toml").read_text()
    told(re.sub(r"^ssl_(cert|key)file.*\n", "", mtls, flags=re.MULTILINE), 1, "Kafka at")
    told(mtls.replace("client.key", "server.key"), 2, "kafka.ssl_certfile")
    told(re.sub(r"^ssl_certfile.*\n", "", mtls, flags=re.MULTILINE), 2, "kafka.ssl_keyfile is the key of")


def test_a_login_without_acls_is_told_what_it_lacks(secure: SecureStack) -> None:
    """Before the worker joins a group: it would try to for ever."""
    ingest(secure, "penstock", {"id": "one", "text": "one"})
    secure.done("penstock", "index", "create")
    secure.kafka.user("nobody")
    secure.settings("nobody", user="nobody")
    blind = secure.penstock("nobody", "worker")
    assert (blind.returncode, "may not see it" in blind.stderr) == (1, True), blind.stderr
    topics = ["documents", "documents.dlq", "penstock-claims-changelog"]
    secure.kafka.allow("nobody", "Read Write Create", topics=topics)
    alone = secure.penstock("nobody", "worker")
    assert (alone.returncode, "refuses access" in alone.stderr) == (1, True), alone.stderr
    assert "Traceback" not in blind.stderr + alone.stderr


def test_a_fingerprint_and_secrets_from_files(secure: SecureStack) -> None:
    """Instead of the authority's certificate; and passwords as an orchestrator mounts them."""
    certificate = ssl.PEM_cert_to_DER_cert(secure.security.pair("server")[0].read_text())
    fingerprint = hashlib.sha256(certificate).hexdigest()
    text = re.sub(r'^(sasl_)?password = ".*"\n', "", (secure.folder / "penstock.toml").read_text(), flags=re.MULTILINE)
    text = re.sub(r"^ca_certs.*$", f'ssl_fingerprint = "{fingerprint}"', text, flags=re.MULTILINE)
    (secure.folder / "x.toml").write_text(text)
    files = {
        "PENSTOCK_KAFKA__SASL_PASSWORD_FILE": str(secure.folder / "password"),
        "PENSTOCK_ELASTICSEARCH__PASSWORD_FILE": str(secure.folder / "password"),
    }
    listed = secure.penstock("x", "index", "list", "--json", extra=files)
    assert listed.returncode == 0, listed.stderr
    (secure.folder / "x.toml").write_text(text.replace(fingerprint, fingerprint[::-1]))
    wrong = secure.penstock("x", "index", "list", "--json", extra=files)
    assert (wrong.returncode, "Elasticsearch at https" in wrong.stderr) == (1, True), wrong.stderr
