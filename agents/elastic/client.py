"""The client. Its transport retries three times without backoff: that is off, see `agents.elastic.requests`."""

from typing import Any

from elasticsearch import AsyncElasticsearch, OrjsonSerializer

from agents.settings import ElasticsearchSettings
from streams.errors import ConfigError

REQUEST_TIMEOUT_S = 60.0

Client = AsyncElasticsearch
"""What `connect` gives, by a name for those who hand it on."""


def connect(settings: ElasticsearchSettings) -> AsyncElasticsearch:
    """A client without retries of its own. Opens no connection yet.

    Raises ConfigError when the credentials would be sent unencrypted, or the file of the authorities cannot be used.
    """
    login = settings.api_key or settings.password
    if login and settings.url.scheme == "http" and not settings.allow_plaintext_credentials:
        raise ConfigError(
            "elasticsearch.url is http: the credentials, and everything else, would be sent unencrypted; use https, or "
            "set elasticsearch.allow_plaintext_credentials = true"
        )
    options: dict[str, Any] = {}
    if settings.api_key:
        options["api_key"] = settings.api_key.get_secret_value()
    if settings.username and settings.password:
        options["basic_auth"] = settings.username, settings.password.get_secret_value()
    if settings.ca_certs:
        options["ca_certs"] = str(settings.ca_certs)
    if settings.ssl_fingerprint:
        options["ssl_assert_fingerprint"] = settings.ssl_fingerprint
    try:
        return AsyncElasticsearch(
            str(settings.url),
            max_retries=0,
            retry_on_timeout=False,
            request_timeout=REQUEST_TIMEOUT_S,
            serializers={"application/json": OrjsonSerializer()},
            **options,
        )
    except (OSError, ValueError) as exc:  # the only file among them
        raise ConfigError(f"elasticsearch.ca_certs = {settings.ca_certs} cannot be used: {exc}") from exc
