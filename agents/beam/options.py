"""Beam's options, as they are given to it."""

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from streams.errors import ConfigError

OWN_JVM = ("FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")
"""Runners with options of their own that no Python process knows."""


def require_known(runner: str, options: Sequence[str]) -> None:
    """Raises ConfigError for an option that neither Penstock nor Beam has: Beam would leave it out without a word."""
    if runner in OWN_JVM:
        return
    parser = _BeamArgumentParser(allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(options))
    if unknown:
        raise ConfigError(f"neither Penstock nor Beam has an option {unknown[0]}: `penstock backfill --help`")
