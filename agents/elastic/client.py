"""The client. Its transport retries three times without backoff: that is off, see `agents.elastic.requests`."""

from typing import Any

from elastic_transport import AiohttpHttpNode
from elasticsearch import AsyncElasticsearch, OrjsonSerializer
from elasticsearch import ConnectionError as ElasticConnectionError

from agents.settings.sections import ElasticsearchSettings
from streams.errors import ConfigError

REQUEST_TIMEOUT_S = 60.0


class Node(AiohttpHttpNode):
    """Takes what something before Elasticsearch answers in its place, a load balancer, for no answer.

    The client looks for Elasticsearch's header in its first answer only. A page that says 404 would be believed: the
    index is gone. Errors without it pass: a proxy may answer 401, 403 or 413 by itself.
    """

    async def perform_request(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Raises ConnectionError where it is no Elasticsearch that answers."""
        answer = await super().perform_request(*args, **kwargs)
        meta = answer.meta
        if (meta.status < 400 or meta.status == 404) and meta.headers.get("x-elastic-product") != "Elasticsearch":
            raise ElasticConnectionError(f"what answers there, with {meta.status}, is no Elasticsearch")
        return answer


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
            node_class=Node,
            request_timeout=REQUEST_TIMEOUT_S,
            serializers={"application/json": OrjsonSerializer()},
            **options,
        )
    except (OSError, ValueError) as exc:  # the only file among them
        raise ConfigError(f"elasticsearch.ca_certs = {settings.ca_certs} cannot be used: {exc}") from exc
