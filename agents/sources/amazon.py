"""Clients of Amazon's services, and of what speaks like them; and what is said where one does not answer.

Credentials come from where Amazon's own tools have them: the environment, `~/.aws`, or the machine's role.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientPayloadError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError

from streams.errors import AwayError, ConfigError, PenstockError

BROKEN_OFF = (HTTPClientError, IncompleteReadError, ClientPayloadError)
"""The last is aiohttp's own: the client lets it through."""
PASSING = ("RequestTimeoutException", "ResourceInUseException", "KMSInvalidStateException")
"""What passes by itself, or when somebody has mended it, and has the status of a refusal that does not."""
PASSING_STATUS = (408, 429)
WORDS = 200
"""Characters of what a server says: a proxy's may be a whole page."""


def client(service: str, endpoint: str | None, region: str | None, **config: Any) -> AbstractAsyncContextManager[Any]:
    """To enter, which connects to nothing yet; `config`: of botocore's `Config`."""
    made: AbstractAsyncContextManager[Any] = get_session().create_client(
        service, config=AioConfig(**config), endpoint_url=endpoint, region_name=region
    )
    return made


def code_of(exc: ClientError) -> str:
    """Of an answer that is an error, as the service names it."""
    code: str = exc.response["Error"].get("Code", "")
    return code


@contextmanager
def translated(what: str, told: Mapping[str, str]) -> Iterator[None]:
    """Whatever the client raises inside is an error of our own outside; AwayError when it may pass.

    `told`: what to say of some codes, in place of the server's own words.
    """
    try:
        yield
    except NoCredentialsError as exc:
        raise ConfigError(
            f"{what}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from exc
    except NoRegionError as exc:
        raise ConfigError(f"{what}: no region is known: give --region, or set AWS_DEFAULT_REGION") from exc
    except ClientError as exc:
        code, words = code_of(exc), exc.response["Error"].get("Message", "")[:WORDS]
        raise (AwayError if _passes(exc) else PenstockError)(
            f"{what}: {told.get(code) or words or code} ({code})"
        ) from exc
    except ResponseParserError as exc:
        raise AwayError(f"{what}: what answers is not the service, perhaps a proxy: {str(exc)[:WORDS]}") from exc
    except (*BROKEN_OFF, NoConnectionError) as exc:
        raise AwayError(f"{what} cannot be reached: {exc}") from exc
    except BotoCoreError as exc:
        raise ConfigError(f"{what}: {exc}") from exc


def _passes(exc: ClientError) -> bool:
    """Whether the same request may succeed later."""
    status: int = exc.response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= 500 or status in PASSING_STATUS or code_of(exc) in PASSING
