"""The configured model, loaded: an exported one, or a service's. Nothing of the other kind is imported."""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agents.configured import manifests_of
from agents.elastic.requests import STATES
from agents.metrics import Metrics
from agents.settings import Settings, with_model
from agents.settings.environment import cache_dir
from models.absent import AbsentModel
from models.api.asking import Terms
from models.api.embedder import ServiceOptions, load_service
from models.api.pace import Limits
from models.embedder import Model
from models.manifest import ServiceManifest, manifest_of
from models.onnx.runtime import installed_runtimes, require_one_runtime
from streams.batch_size import BatchSize
from streams.breaker import State
from streams.shapes import START, Shapes

if TYPE_CHECKING:
    from models.onnx.choose import Constraints
    from models.onnx.embedder import OnnxEmbedder

SERVICE = "service"
"""Of the metrics of breakers and retries: the target."""
SMALL, SMALLEST = 64, 8
"""Chunks of a batch, at first and at least, that a service embeds: a crash pays for a batch or two again."""

logger = logging.getLogger(__name__)


class Watched:
    """`Watch` of a service: into the metrics of a worker."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def asked(self, outcome: str, seconds: float, tokens: int) -> None:
        """See `Watch`."""
        self._metrics.service_requests.labels(outcome).inc()
        self._metrics.service_tokens.inc(tokens)
        self._metrics.service_seconds.observe(seconds)

    def retried(self, reason: str) -> None:
        """See `Watch`."""
        self._metrics.retries.labels(SERVICE, reason).inc()

    def breaker(self, state: State) -> None:
        """See `Watch`."""
        self._metrics.breaker_state.labels(SERVICE).set(STATES[state])

    def held(self, seconds: float) -> None:
        """See `Watch`."""
        self._metrics.service_wait.set(seconds)


def load_model(settings: Settings, metrics: Metrics | None = None) -> Model:
    """The configured model, its files verified. An exported one is proved and warm; a service is not asked yet.

    Blocks for about a second where it is an exported one, the first time on a machine for twenty. Raises PenstockError
    (no model, no runtime), RefusedError (changed files, wrong vectors) or ConfigError.
    """
    if not isinstance(manifest_of(settings.model_folder), ServiceManifest):
        return load_exported(settings)
    return load_service(settings.model_folder, service_options(settings), Watched(metrics or Metrics()))


def load_models(settings: Settings, metrics: Metrics | None = None) -> tuple[Model, ...]:
    """All that are in use, the default one first. Raises as `load_model`; then none is left open."""
    found: list[Model] = []
    try:
        for name in settings.models:
            found.append(load_model(with_model(settings, name), metrics))
    except BaseException:
        close_models(found)
        raise
    return tuple(found)


def absent_models(settings: Settings) -> tuple[Model, ...]:
    """All that are in use, by their tokenizers alone: none of them embeds. Raises PenstockError."""
    manifests = manifests_of(settings)
    return tuple(
        AbsentModel(settings.model.dir / name, manifest)
        for name, manifest in zip(settings.models, manifests, strict=True)
    )


def close_models(models: Iterable[Model]) -> None:
    """Let all their threads go."""
    for model in models:
        model.close()


def load_exported(settings: Settings, say: Callable[[str], None] = logger.info) -> "OnnxEmbedder":
    """The same of an exported model."""
    wanted = wanted_setup(settings)
    from models.onnx.embedder import load_embedder

    batch = settings.batch
    return load_embedder(
        settings.model_folder,
        wanted=wanted,
        shapes=Shapes(longest_run_s=batch.linger_ms / 1000, most=batch.max_tokens)
        if batch.adaptive
        else Shapes(fixed=batch.max_tokens or START),
        say=say,
    )


def wanted_setup(settings: Settings) -> "Constraints":
    """How an exported model should be run. Raises ConfigError where nothing is installed that runs one."""
    require_one_runtime(installed_runtimes())
    from models.onnx.choose import Constraints

    model = settings.model
    return Constraints(provider=model.provider, precision=model.precision, threads=model.threads, cache=cache_dir())


def service_options(settings: Settings) -> ServiceOptions:
    """How a service is reached and asked."""
    service = settings.service.models.get(settings.model.name, settings.service)
    return ServiceOptions(
        key_file=service.key_file,
        ca_certs=service.ca_certs,
        timeout_s=service.timeout_s,
        limits=Limits(requests_per_minute=service.requests_per_minute, tokens_per_minute=service.tokens_per_minute),
        terms=Terms(max_concurrent=service.max_concurrent, max_texts=service.max_texts, max_tokens=service.max_tokens),
    )


def batch_size(model: Model) -> BatchSize:
    """How many chunks go through the stages together, to begin with."""
    return BatchSize(start=SMALL, least=SMALLEST) if isinstance(model.manifest, ServiceManifest) else BatchSize()
