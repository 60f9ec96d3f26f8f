"""`penstock model add`."""

from dataclasses import asdict

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.indexing.embedders import service_options
from agents.settings import Settings
from agents.stopping import finish
from models.api.add import Wanted, add_service
from models.api.wire import shown_url
from streams.errors import ConfigError


def add(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """Make it, and say what it is."""
    if "/" in wanted.name or wanted.name.startswith("."):
        raise ConfigError(f"{wanted.name}: a name without slashes that does not begin with a dot is needed")
    if not wanted.key_header.replace("-", "").isalnum() or not wanted.key_header.isascii():
        raise ConfigError(f"--key-header {wanted.key_header}: letters, digits and - only, such as api-key")
    added = finish(add_service(wanted, service_options(settings), settings.model.dir))
    manifest = added.manifest
    if as_json:
        print_json({**asdict(manifest), "agreement": added.agreement})
        return
    counted = "its tokenizer counts" if wanted.tokenizer else "a token a byte is counted"
    say(
        f"added {manifest.name}: {manifest.model} at {shown_url(manifest.url)}, {manifest.dims} dims, "
        f"{manifest.max_tokens} tokens ({counted}), in {settings.model.dir / manifest.name}; a text alone and among "
        f"others has cosine {added.agreement:.5f} at least"
    )
