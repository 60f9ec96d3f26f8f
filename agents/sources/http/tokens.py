"""Who may publish which ids: a file of tokens, of which it has the hashes only.

    [[token]]
    name = "crm"                 # in metrics and logs
    sha256 = "9f86d081…"         # of the token
    prefixes = ["crm/", "mail/"] # of ids; [""]: every id, []: none, for whoever reads /metrics

A token is 256 random bits, so that its hash needs neither salt nor stretching: there is nothing to guess.
"""

import hashlib
import hmac
import logging
import re
import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.sources.http.problems import ProblemError
from streams.errors import ConfigError

PREFIX = "penstock_"
"""By which a token is known for what it is, to whoever looks for secrets in what was published by mistake."""
_SHA256 = re.compile("[0-9a-f]{64}")
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELDS = {"name", "sha256", "prefixes"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One that is known. `sha256`: in hex."""

    name: str
    sha256: str
    prefixes: tuple[str, ...]

    def allows(self, doc_id: str) -> bool:
        """Whether it may publish and delete this document."""
        return doc_id.startswith(self.prefixes)


def new_token() -> tuple[str, str]:
    """A token, and its hash as the file has it."""
    token = PREFIX + secrets.token_urlsafe(32)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path) -> list[Token]:
    """Those of a file. Raises ConfigError with what is wrong in it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"--tokens {path} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"--tokens {path} is not TOML: {exc}") from exc
    rows = raw.get("token")
    if raw.keys() - {"token"} or not isinstance(rows, list) or not rows:
        raise ConfigError(
            f"--tokens {path} has no [[token]], or more than that: `penstock ingest token NAME` makes one"
        )
    found = [_token(row, f"--tokens {path}: token {number}") for number, row in enumerate(rows, 1)]
    for what, values in (("name", [one.name for one in found]), ("sha256", [one.sha256 for one in found])):
        if twice := {value for value in values if values.count(value) > 1}:
            raise ConfigError(f"--tokens {path}: the {what} {min(twice)} is there twice: which one counts?")
    return found


def _token(row: Any, where: str) -> Token:
    if not isinstance(row, dict) or row.keys() != _FIELDS:
        raise ConfigError(f"{where} needs name, sha256 and prefixes, and nothing else")
    name, digest, prefixes = row["name"], row["sha256"], row["prefixes"]
    require_name(name, f"{where}: name")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
        raise ConfigError(
            f"{where}: sha256: 64 hex digits are needed, the hash of the token and never the token itself"
        )
    if not isinstance(prefixes, list) or not all(isinstance(one, str) for one in prefixes):
        raise ConfigError(f'{where}: prefixes: a list of strings is needed, such as ["crm/"]')
    return Token(name=name, sha256=digest.lower(), prefixes=tuple(prefixes))


def require_name(name: Any, where: str) -> None:
    """Raises ConfigError for one that cannot be told apart in metrics."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: letters, digits, . _ and - only, a letter or digit first, and 64 at most")


class Tokens:
    """Those of a file as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError as `read_tokens`."""
        self._path = path
        self._seen = self._state()
        self._tokens = read_tokens(path)

    def look(self, *, again: bool = False) -> None:
        """Read it again where it changed, or at once. A broken file changes nothing, and the log says why."""
        seen = self._state()
        if seen == self._seen and not again:
            return
        self._seen = seen
        try:
            self._tokens = read_tokens(self._path)
        except ConfigError as exc:
            logger.error("the tokens are those from before", extra={"reason": str(exc)})
        else:
            logger.info("tokens were read", extra={"tokens": len(self._tokens)})

    def _state(self) -> Sequence[int]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def of(self, authorization: str | None) -> Token:
        """Whose header it is. Raises ProblemError (401). All tokens are compared, each in constant time."""
        scheme, _, told = (authorization or "").partition(" ")
        digest = hash_of(told.strip()) if scheme.lower() == "bearer" else ""
        found = [one for one in self._tokens if hmac.compare_digest(one.sha256, digest)]
        if not found:
            why = "the token is not known here" if digest else "a token is needed: `Authorization: Bearer TOKEN`"
            raise ProblemError(401, why, headers={"WWW-Authenticate": 'Bearer realm="penstock"'})
        return found[0]
