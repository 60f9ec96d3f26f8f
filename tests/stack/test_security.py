"""TLS and logins on the real servers: SASL_SSL with SCRAM, mTLS, https, and the least privileges."""

import hashlib
import json
import os
import re
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.local import ELASTICSEARCH_VERSION, stack
from agents.local.security import secured
from agents.local.servers import free_port, java_home
from agents.settings import cache_dir
from tests.conftest import alone
from tests.harness import PENSTOCK

ROLES = Path(__file__).parents[2] / "ops" / "elasticsearch"


@pytest.fixture(scope="module")
def secure() -> Iterator[Path]:
    """What `penstock local up --secure` makes, with a user for each of the roles in ops/elasticsearch."""
    with tempfile.TemporaryDirectory(prefix="penstock-secure-") as name:
        folder = Path(name)
        up = [str(PENSTOCK), "local", "up", "--secure", "--dir", name]
        try:
            with alone():
                done = subprocess.run(
                    [*up, "--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port())],
                    capture_output=True,
                    text=True,
                    check=False,
                )
            assert done.returncode == 0, done.stderr
            _users(folder / "secure")
            yield folder / "secure"
        finally:
            stack.down(folder)


def _users(folder: Path) -> None:
    """Users of the file realm: this distribution of Elasticsearch cannot store API keys, which take the same roles."""
    config = folder.parent / "elasticsearch" / "config"
    roles = {path.stem: json.loads(path.read_text()) for path in ROLES.glob("*.json")}
    (config / "roles.yml").write_text("\n".join(f"{name}: {json.dumps(role)}" for name, role in roles.items()))
    program = cache_dir() / f"elasticsearch-{ELASTICSEARCH_VERSION}" / "bin" / "elasticsearch-users"
    environment = {**os.environ, "ES_JAVA_HOME": str(java_home()), "ES_PATH_CONF": str(config)}
    for name in roles:
        subprocess.run([program, "useradd", name, "-p", f"secret-{name}", "-r", name], env=environment, check=True)
        _settings(folder, name)
    for role in roles:
        deadline = time.monotonic() + 30  # the server looks at both files every 5 s
        while "401" in penstock(folder, role, "index", "list").stderr:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def _settings(folder: Path, user: str, base: str = "penstock.toml") -> Path:
    """Settings of another user of Elasticsearch."""
    text = (folder / base).read_text()
    text = re.sub(r"^username.*$", f'username = "{user}"', text, flags=re.MULTILINE)
    made = folder / f"{user}.toml"
    made.write_text(re.sub(r"^password.*$", f'password = "secret-{user}"', text, flags=re.MULTILINE))
    return made


def penstock(
    folder: Path, settings: str, *arguments: str, extra: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    cache = {"PENSTOCK_CACHE_DIR": os.environ["PENSTOCK_CACHE_DIR"]} if "PENSTOCK_CACHE_DIR" in os.environ else {}
    return subprocess.run(
        [PENSTOCK, *arguments, "--config", str(folder / f"{settings}.toml")],
        env={**usual, **cache, "PENSTOCK_ADMIN__PORT": "0", **(extra or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def worked_off(folder: Path, settings: str, extra: dict[str, str] | None = None) -> str:
    """Run a worker until the lag is 0; its log."""
    log = folder / f"{settings}.log"
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_") or "CACHE" in name}
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [PENSTOCK, "worker", "--config", str(folder / f"{settings}.toml")],
            env={**usual, "PENSTOCK_ADMIN__PORT": "0", **(extra or {})},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 90
        while json.loads(penstock(folder, settings, "status", "--json", extra=extra).stdout)["lag"]:
            assert worker.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        time.sleep(7)  # load mode is looked at every 5 s
        worker.terminate()
        assert worker.wait(45) == 0, log.read_text()[-3000:]
    finally:
        worker.kill()
        worker.wait()
    return log.read_text()


def test_each_role_can_do_its_work_and_no_more_over_sasl_ssl_and_mtls(secure: Path, model_folder: Path) -> None:
    """A worker over SASL_SSL, one over mTLS; the operator makes the index, the reader searches; no secret is told."""
    documents = secure / "documents.jsonl"
    documents.write_text("\n".join(json.dumps({"id": f"d-{n}", "text": f"water {n}"}) for n in range(20)))
    assert penstock(secure, "operator", "ingest", "files", str(documents)).returncode == 0
    made = penstock(secure, "operator", "index", "create", "--load")
    assert (made.returncode, "created" in made.stdout) == (0, True), made.stderr
    other = {"PENSTOCK_SPLIT__MAX_CHARS": "99"}
    refused = penstock(secure, "worker", "index", "create", "--model", model_folder.name, extra=other)
    assert (refused.returncode, "403" in refused.stderr) == (1, True), refused.stderr

    log = worked_off(secure, "worker")  # binds the index to its group, and ends load mode
    assert "load mode ended" in log
    documents.write_text(json.dumps({"id": "late", "text": "over mTLS"}))
    (secure / "mtls.toml").write_text(_settings(secure, "worker", "penstock-mtls.toml").read_text())
    _settings(secure, "worker")
    assert penstock(secure, "mtls", "ingest", "files", str(documents)).returncode == 0
    log += worked_off(secure, "mtls")

    found = penstock(secure, "reader", "search", "over mTLS", "--json")
    assert json.loads(found.stdout)[0]["metadata"]["doc_id"] == "late", found.stderr
    listed = json.loads(penstock(secure, "operator", "index", "list", "--json").stdout)
    assert [(row["documents"], row["group"]) for row in listed] == [(21, "penstock")]
    verified = penstock(secure, "worker", "index", "verify")
    assert verified.returncode == 0, (verified.stdout, verified.stderr)
    nothing = penstock(secure, "reader", "index", "verify")
    assert (nothing.returncode, "403" in nothing.stderr) == (1, True), nothing.stderr

    shown = penstock(secure, "worker", "config", "show")
    assert f"file {secure / 'worker.toml'}" in shown.stdout
    for secret in ("secret-worker", secured(secure.parent).password):
        assert secret not in log + shown.stdout + shown.stderr


def test_wrong_logins_and_certificates_are_clear_errors(secure: Path, tmp_path: Path) -> None:
    text = (secure / "penstock.toml").read_text()

    def told(changed: str, code: int, *words: str, extra: dict[str, str] | None = None) -> None:
        (tmp_path / "x.toml").write_text(changed)
        done = penstock(tmp_path, "x", "index", "create", extra=extra)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert all(word in done.stderr for word in words), done.stderr
        assert "Traceback" not in done.stderr
        assert secured(secure.parent).password not in done.stdout + done.stderr

    told(text.replace('sasl_password = "', 'sasl_password = "x'), 1, "Kafka at", "the login right?")
    told(re.sub(r"^ssl_cafile.*\n", "", text, flags=re.MULTILINE), 1, "Kafka at")  # nobody whom the system trusts
    told(text.replace("ca.pem", "absent.pem", 1), 2, "kafka.ssl_cafile", "absent.pem")
    told(text.replace("SASL_SSL", "SASL_PLAINTEXT").replace("ssl_cafile", "# "), 2, "kafka.allow_plaintext_credentials")
    plain = re.sub(r"^ca_certs.*\n", "", text, flags=re.MULTILINE).replace("https://", "http://")
    told(plain, 2, "elasticsearch.allow_plaintext_credentials")
    told(re.sub(r"^password.*$", 'password = "wrong"', text, flags=re.MULTILINE), 1, "answered 401")
    told(re.sub(r"^ca_certs.*\n", "", text, flags=re.MULTILINE), 1, "Elasticsearch at https")
    mtls = (secure / "penstock-mtls.toml").read_text()
    told(re.sub(r"^ssl_(cert|key)file.*\n", "", mtls, flags=re.MULTILINE), 1, "Kafka at")
    told(mtls.replace("client.key", "server.key"), 2, "kafka.ssl_certfile")
    told(re.sub(r"^ssl_certfile.*\n", "", mtls, flags=re.MULTILINE), 2, "kafka.ssl_keyfile is the key of")


def test_a_fingerprint_and_secrets_from_files(secure: Path, tmp_path: Path) -> None:
    """Instead of the authority's certificate; and passwords as an orchestrator mounts them."""
    security = secured(secure.parent)
    certificate = ssl.PEM_cert_to_DER_cert(security.pair("server")[0].read_text())
    fingerprint = hashlib.sha256(certificate).hexdigest()
    text = re.sub(r'^(sasl_)?password = ".*"\n', "", (secure / "penstock.toml").read_text(), flags=re.MULTILINE)
    text = re.sub(r"^ca_certs.*$", f'ssl_fingerprint = "{fingerprint}"', text, flags=re.MULTILINE)
    (tmp_path / "x.toml").write_text(text)
    files = {
        "PENSTOCK_KAFKA__SASL_PASSWORD_FILE": str(security.folder / "password"),
        "PENSTOCK_ELASTICSEARCH__PASSWORD_FILE": str(security.folder / "password"),
    }
    listed = penstock(tmp_path, "x", "index", "list", "--json", extra=files)
    assert listed.returncode == 0, listed.stderr
    (tmp_path / "x.toml").write_text(text.replace(fingerprint, fingerprint[::-1]))
    wrong = penstock(tmp_path, "x", "index", "list", "--json", extra=files)
    assert (wrong.returncode, "Elasticsearch at https" in wrong.stderr) == (1, True), wrong.stderr
