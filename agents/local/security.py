"""`penstock local up --secure`: an authority of its own, certificates, a login, and settings that use them.

DIR/secure/ca.pem               the authority; its key is not kept
DIR/secure/server.pem, .key     of both servers, for 127.0.0.1 and localhost
DIR/secure/client.pem, .key     for Kafka's mTLS listener
DIR/secure/penstock.toml        SASL_SSL (SCRAM-SHA-512) and https
DIR/secure/penstock-mtls.toml   mTLS and https
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from streams.errors import PenstockError

USER = "penstock"
BROKER = "broker"
ADMIN = "superuser"
FOLDER = "secure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What the servers need. `password`: of the user `penstock` on both."""

    folder: Path
    password: str

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, both PEM, of `server` or `client`."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def secured(stack: Path) -> Security:
    """Certificates and password of a stack; made the first time. Raises PenstockError when the package is missing."""
    folder = stack / FOLDER
    password = folder / "password"
    if not password.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder)
        _private(password, secrets.token_hex(16).encode())  # last: what is there before it is made anew
    return Security(folder=folder, password=password.read_text())


def write_settings(security: Security, *, kafka: int, mtls: int, elasticsearch: int) -> list[Path]:
    """Two files for `--config`: one for SASL_SSL, one for mTLS."""
    certificate, key = security.pair("client")
    scram = f"""\
bootstrap_servers = "127.0.0.1:{kafka}"
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "{USER}"
sasl_password = "{security.password}"
ssl_cafile = "{security.ca}"
"""
    client = f"""\
bootstrap_servers = "127.0.0.1:{mtls}"
security_protocol = "SSL"
ssl_cafile = "{security.ca}"
ssl_certfile = "{certificate}"
ssl_keyfile = "{key}"
"""
    index = f"""\
url = "https://127.0.0.1:{elasticsearch}"
username = "{USER}"
password = "{security.password}"
ca_certs = "{security.ca}"
replicas = 0
"""
    made = []
    for name, broker in (("penstock.toml", scram), ("penstock-mtls.toml", client)):
        _private(security.folder / name, f"[kafka]\n{broker}\n[elasticsearch]\n{index}".encode())
        made.append(security.folder / name)
    return made


def _make(folder: Path) -> None:
    try:
        import trustme
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise PenstockError("--secure needs the package trustme: `pip install trustme`") from None
    authority = trustme.CA(organization_name="penstock local")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, made in (
        ("server", authority.issue_cert("127.0.0.1", "localhost", common_name=BROKER)),
        ("client", authority.issue_cert(f"{USER}.localhost", common_name=USER)),
    ):
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
        _private(
            folder / f"{name}.key",
            key.private_bytes(  # Kafka reads PKCS #8 only
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        (folder / f"{name}.pem").write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))


def _private(path: Path, content: bytes) -> None:
    """Written for its owner only."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
