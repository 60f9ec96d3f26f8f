"""Makes a model's folder of a service: what it is told to be, held against what the service answers.

1. the golden texts, all at once and one by one: their vectors agree, have the dims that were said, and are kept
2. two texts as long as the model is said to take, which differ in their last part only: their vectors differ, too
   (services cut texts off without a word)
3. the manifest, last
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.api.asking import Asking, Text
from models.api.embedder import PATIENCE_S, ServiceOptions
from models.api.pace import Pace
from models.api.transport import HttpTransport
from models.api.wire import endpoint, shown_url
from models.cosines import GOLDEN as GOLDEN_COSINE
from models.cosines import cosines
from models.golden import GOLDEN_TEXTS
from models.manifest import (
    GOLDEN,
    MANIFEST,
    SERVICE,
    SERVICE_FORMAT,
    TOKENIZER,
    ServiceManifest,
    sha256_file,
    write_manifest,
)
from models.tokens import ByteBound, Tokens, tokens_of
from streams.control import control_of
from streams.errors import AwayError, ConfigError, PenstockError, RefusedError
from streams.plan import Vectors
from streams.split import Input

QUOTA_S = 90.0
"""So long a service's quota is waited for: most count by the minute."""
LAST_PART = 1 / 20
"""Of a text as long as the model takes, by which two of them differ."""
WORDS = (
    *("the", "river", "carries", "more", "water", "in", "spring", "than", "any", "other", "time", "of", "year"),
    *("and", "so", "its", "gates", "stand", "open"),
)
OTHERS = ("zebra", "quantum", "violin", "harbour", "lemon", "granite", "seventeen", "parliament")


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was found out. `agreement`: least cosine of a golden text alone and among others."""

    manifest: ServiceManifest
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A service's model as somebody describes it. `url`: of the API, or of its embeddings."""

    name: str
    url: str
    model: str
    dims: int
    max_tokens: int
    tokenizer: Path | None = None
    document_prefix: str = ""
    query_prefix: str = ""
    key_header: str = "Authorization"


async def add_service(wanted: Wanted, options: ServiceOptions, models: Path) -> Added:
    """Ask the service for some thousand tokens, and make `models/name`, in the place of one that was added before.

    Raises ConfigError where it is not as described, AwayError while it does not answer, PenstockError for a refusal. A
    failure leaves what was there.
    """
    target = models / wanted.name
    _require_replaceable(target)
    with _scratch(target) as made:
        manifest = _described(wanted, made)
        tokens = tokens_of(made, manifest)
        texts = [text for text in GOLDEN_TEXTS if len(tokens.encode([text])[0]) <= wanted.max_tokens]
        if not texts:
            raise ConfigError(f"--max-tokens {wanted.max_tokens}: no text fits, as {_counted(tokens)}; raise it")
        transport = HttpTransport(
            manifest.url,
            key_file=options.key_file,
            key_header=manifest.key_header,
            ca_certs=options.ca_certs,
            timeout_s=options.timeout_s,
        )
        try:
            service = _Service(manifest, tokens, transport, options)
            vectors = await service.vectors_of(texts)
            agreement = await service.agreement(texts, vectors)
            await service.require_whole_texts()
        finally:
            await transport.close()
        return Added(manifest=_keep(service.manifest, texts, vectors, made, target), agreement=agreement)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the model's, which is gone afterwards unless it has become the model's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _keep(
    manifest: ServiceManifest, texts: Sequence[str], vectors: Vectors, made: Path, target: Path
) -> ServiceManifest:
    (made / GOLDEN).write_text(json.dumps({"texts": texts, "vectors": vectors.tolist(), "by": SERVICE}))
    files = {file.name: sha256_file(file) for file in sorted(made.iterdir())}
    manifest = replace(manifest, control=control_of(vectors[0]), files=files)
    write_manifest(made, manifest)
    if target.exists():
        shutil.rmtree(target)
    made.chmod(0o755)
    made.rename(target)
    return manifest


def _require_replaceable(target: Path) -> None:
    """A service's model, damaged or not, is added again in seconds; an export is not, and all else is somebody's."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        before = json.loads((target / MANIFEST).read_text())
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or before.get("kind") != SERVICE:
        what = "an exported model" if before else "there, and is no model"
        raise RefusedError(f"{target} is {what}: choose another name, or delete it")


def _described(wanted: Wanted, made: Path) -> ServiceManifest:
    try:
        url = endpoint(wanted.url)
    except ValueError as exc:
        raise ConfigError(f"--url: {exc}") from None
    files = {}
    if wanted.tokenizer:
        try:
            shutil.copyfile(wanted.tokenizer, made / TOKENIZER)
        except OSError as exc:
            raise ConfigError(f"--tokenizer {wanted.tokenizer} cannot be read: {exc.strerror}") from None
        try:
            Tokens(made / TOKENIZER)
        except RefusedError:
            raise ConfigError(
                f"--tokenizer {wanted.tokenizer} is no tokenizer.json of Hugging Face's tokenizers; without one "
                "a text counts as many tokens as it has bytes"
            ) from None
        files[TOKENIZER] = sha256_file(made / TOKENIZER)
    return ServiceManifest(
        format=SERVICE_FORMAT,
        kind=SERVICE,
        name=wanted.name,
        url=url,
        model=wanted.model,
        dims=wanted.dims,
        asks_dims=False,
        encoding="base64",
        key_header=wanted.key_header,
        max_tokens=wanted.max_tokens,
        document_prefix=wanted.document_prefix,
        query_prefix=wanted.query_prefix,
        control="",
        files=files,
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _counted(tokens: Tokens | ByteBound) -> str:
    """How tokens are counted."""
    return "the tokenizer counts them" if isinstance(tokens, Tokens) else "a text counts as many tokens as it has bytes"


class _Service:
    """The service while it is found out what it does. `manifest`: as far as that is known."""

    def __init__(
        self,
        manifest: ServiceManifest,
        tokens: Tokens | ByteBound,
        transport: HttpTransport,
        options: ServiceOptions,
    ) -> None:
        self.manifest = manifest
        self._tokens = tokens
        self._transport = transport
        self._options = options
        self._pace = Pace(options.limits, exact=isinstance(tokens, Tokens))

    async def vectors_of(self, texts: Sequence[str]) -> Vectors:
        """Of the golden texts, of the dims that were said: asked for in the way that the service understands."""
        try:
            found = await self._ask(texts)
        except AwayError:
            raise
        except PenstockError:
            self.manifest = replace(self.manifest, encoding="float")  # not every service has base64
            found = await self._ask(texts)
        if (native := found.shape[1]) == self.manifest.dims:
            return found
        self.manifest = replace(self.manifest, asks_dims=True)
        try:
            found = await self._ask(texts)
        except AwayError:
            raise
        except PenstockError:
            found = found[:, :0]
        if found.shape[1] != self.manifest.dims:
            raise ConfigError(
                f"--dims {self.manifest.dims}: {self.manifest.model} has {native}, and the service shortens none"
            )
        return found

    async def agreement(self, texts: Sequence[str], together: Vectors) -> float:
        """Least cosine of a golden text alone and among others. Raises ConfigError where they are not the same."""
        alone = np.concatenate([await self._ask([text]) for text in texts])
        least = float(cosines(alone, together).min())
        if least < GOLDEN_COSINE[SERVICE]:
            raise ConfigError(
                f"--url {shown_url(self.manifest.url)}: a text has one vector alone and another among others (least "
                f"cosine {least:.4f}, needed {GOLDEN_COSINE[SERVICE]}): nothing that it gives is to be relied on. Does "
                "it mix up texts that are sent together, or is there more than one model behind that address?"
            )
        return least

    async def require_whole_texts(self) -> None:
        """Raises ConfigError where a text of `max_tokens` is refused, or where its end makes no difference."""
        one, other = self._long(WORDS), self._long(OTHERS)
        try:
            first, again, second = [(await self._ask([text]))[0] for text in (one, one, other)]
        except AwayError:
            raise
        except PenstockError as exc:
            raise ConfigError(f"--max-tokens {self.manifest.max_tokens}: a text of so many is refused: {exc}") from exc
        noise = float(np.linalg.norm(first - again))
        if float(np.linalg.norm(first - second)) <= 2 * noise + 1e-6:
            raise ConfigError(
                f"--max-tokens {self.manifest.max_tokens}: the service cuts such texts off without a word: two that "
                "differ in their last twentieth have the same vector. Set it to what the model takes"
            )

    def _long(self, ending: Sequence[str]) -> str:
        """A text of about as many tokens as the model takes, and no more, that ends with these words."""
        most = self.manifest.max_tokens
        words: list[str] = []
        while (count := self._count(words)) <= most:
            words += [WORDS[(len(words) + place) % len(WORDS)] for place in range(max(1, (most - count) // 8))]
        while self._count(words) > most:
            words.pop()
        last = max(1, int(len(words) * LAST_PART))
        text = [*words[:-last], *(ending[place % len(ending)] for place in range(last))]
        while self._count(text) > most:
            text.pop()
        return " ".join(text)

    def _count(self, words: Sequence[str]) -> int:
        return len(self._tokens.encode([" ".join(words)])[0])

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        """As documents. Raises as `Asking.answered`."""
        asking = Asking(self.manifest, None, self._transport, terms=self._options.terms, pace=self._pace)
        before = self.manifest.document_prefix
        counted: Sequence[Input] = self._tokens.encode(texts)
        inputs = [Text(before + text, len(ids)) for text, ids in zip(texts, counted, strict=True)]
        return await asking.answered(inputs, PATIENCE_S, quota_s=QUOTA_S)
