"""Which onnxruntime is installed, and which execution provider a session really got."""

from importlib.metadata import PackageNotFoundError, distribution
from typing import Literal

from streams.errors import ConfigError, PenstockError

ProviderName = Literal["auto", "cuda", "openvino", "cpu"]
EXTRAS = {"onnxruntime": "cpu", "onnxruntime-openvino": "openvino", "onnxruntime-gpu": "gpu"}
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


def installed_runtimes() -> list[str]:
    """Distributions that ship the module `onnxruntime`; they overwrite each other, so one is right."""
    found = []
    for name in EXTRAS:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def require_one_runtime(found: list[str]) -> None:
    """Raises ConfigError unless exactly one of the extras is installed."""
    extras = ", ".join(EXTRAS.values())
    if not found:
        raise ConfigError(f"no ONNX runtime is installed: install penstock with one of the extras {extras}")
    if len(found) > 1:
        raise ConfigError(
            f"{' and '.join(found)} are installed together and overwrite each other: "
            f"make a fresh environment with exactly one of the extras {extras}"
        )


def choose_provider(wanted: ProviderName, available: list[str]) -> str:
    """Name of the execution provider to ask for. Raises PenstockError when a named one is not available.

    `auto` takes the best that the installed runtime offers: cuda, openvino, cpu.
    """
    if wanted == "auto":
        return next(provider for provider in PROVIDERS.values() if provider in available)
    provider = PROVIDERS[wanted]
    if provider not in available:
        offered = ", ".join(name for name, provider in PROVIDERS.items() if provider in available)
        raise PenstockError(
            f"model.provider = {wanted}, but the installed onnxruntime offers only {offered}: "
            f"install penstock with the matching extra, or set model.provider"
        )
    return provider


def prove_provider(asked: str, got: list[str], *, allow_fallback: bool) -> str:
    """The provider that the session uses: onnxruntime falls back to the CPU with a log line only.

    Raises PenstockError when it is not the one asked for, unless a fallback is allowed (`auto`).
    """
    if got and got[0] == asked:
        return asked
    if allow_fallback and got:
        return got[0]
    raise PenstockError(
        f"asked for {asked}, but the session runs on {', '.join(got) or 'nothing'}: check the driver and the "
        "libraries that this provider loads, or set model.provider = cpu"
    )
