"""What can go wrong, and the exit code that says so.

    PenstockError            1  failed: a server is away, a file is missing, a step did not work
    ├── ConfigError          2  wrong usage or settings: nothing was started
    └── RefusedError         3  would damage what is there (another model, another topic): nothing was touched

A document that cannot be processed is not an error but a value: `streams.record.Rejected`.
"""


class PenstockError(Exception):
    """The step failed; the message says what to do."""

    exit_code = 1


class ConfigError(PenstockError):
    """The settings or the command line are wrong; the message names the setting and the fix."""

    exit_code = 2


class RefusedError(PenstockError):
    """Going on could damage the index; the message names what differs and the command that resolves it."""

    exit_code = 3
