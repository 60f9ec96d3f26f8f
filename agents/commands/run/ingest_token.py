"""`penstock ingest token`."""

from collections.abc import Sequence

import orjson

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.sources.http.tokens import new_token, require_name


def token(name: str, prefixes: Sequence[str], *, as_json: bool) -> None:
    """Print a new one, and on stdout its entry. Raises ConfigError for a name that it cannot have."""
    require_name(name, "NAME")
    made, digest = new_token()
    if as_json:
        print_json({"token": made, "name": name, "sha256": digest, "prefixes": list(prefixes)})
        return
    say(f"For the client, who sends it as `Authorization: Bearer …`; it is shown this once:\n\n{made}\n", err=True)
    say("For the file of --tokens, which a running server reads again at once; the token is not in it:", err=True)
    say(f"\n[[token]]\nname = {_quoted(name)}\nsha256 = {_quoted(digest)}")
    say(f"prefixes = [{', '.join(map(_quoted, prefixes))}]")
    if not prefixes:
        told = 'It may publish nothing so far: put beginnings of ids into `prefixes`, or `""` for every id.'
        say(f"\n{told}", err=True)


def _quoted(text: str) -> str:
    """As TOML, whose strings JSON's are."""
    return orjson.dumps(text).decode()
