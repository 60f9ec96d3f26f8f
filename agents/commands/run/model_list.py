"""`penstock model list`."""

from dataclasses import asdict

from rich.table import Table

from agents.commands.run.output import console, print_json
from agents.settings import Settings
from models.api.wire import shown_url
from models.manifest import MANIFEST, AnyManifest, ServiceManifest, manifest_of


def list_models(settings: Settings, *, as_json: bool) -> None:
    """A row a model."""
    manifests = [manifest_of(path.parent) for path in sorted(settings.model.dir.glob(f"*/{MANIFEST}"))]
    if as_json:
        print_json([asdict(manifest) for manifest in manifests])
        return
    table = Table("name", "dims", "max tokens", "precision", "least cosine", "top-10 overlap", "made", "of", box=None)
    for m in manifests:
        table.add_row(m.name, str(m.dims), str(m.max_tokens), m.precision, *_about(m))
    console().print(table if manifests else f"no models in {settings.model.dir}")


def _about(m: AnyManifest) -> tuple[str, str, str, str]:
    """Least cosine, overlap, when it was made, and of what."""
    if isinstance(m, ServiceManifest):
        return "", "", m.added_at, f"{m.model} at {shown_url(m.url)}"
    least = (f"{name} {min(q['cosine_min'], q['cosine_min_alone']):.3f}" for name, q in m.quality.items())
    overlap = (f"{name} {q['overlap_top10']:.3f}" for name, q in m.quality.items())
    return ", ".join(least), ", ".join(overlap), m.exported_at, m.source
