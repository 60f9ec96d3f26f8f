"""What can go wrong, and the exit code that says so.

    PenstockError            1  failed: a file is missing, a step did not work
    ├── AwayError            1  Kafka or Elasticsearch does not answer now: whoever can wait asks again
    ├── NoIndexError         1  there is no index yet, or none any more
    ├── ConfigError          2  wrong usage or settings: nothing was started
    └── RefusedError         3  would damage what is there (another model, another topic): nothing was touched
        └── ModelChangedError   the model gives other vectors than it should: none of them was written

A document that cannot be processed is not an error but a value: `streams.record.Rejected`.
"""


class PenstockError(Exception):
    """The step failed; the message says what to do."""

    exit_code = 1


class AwayError(PenstockError):
    """A server cannot be reached, or is not ready yet; the message names it. It may come back by itself."""


class NoIndexError(PenstockError):
    """There is no index of the alias; the message names the command that makes one."""


class ConfigError(PenstockError):
    """The settings or the command line are wrong; the message names the setting and the fix."""

    exit_code = 2


class RefusedError(PenstockError):
    """Going on could damage the index; the message names what differs and the command that resolves it."""

    exit_code = 3


class ModelChangedError(RefusedError):
    """The model, or the service behind it, gives other vectors than it should. `cosine`: of what it gave to that."""

    def __init__(self, message: str, cosine: float) -> None:
        super().__init__(message)
        self.cosine = cosine
