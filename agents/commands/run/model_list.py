"""`penstock model list`."""

from dataclasses import asdict

from rich.table import Table

from agents.commands.run.output import console, print_json
from agents.settings import Settings
from models.manifest import MANIFEST, read_manifest


def list_models(settings: Settings, *, as_json: bool) -> None:
    """A row a model."""
    manifests = [read_manifest(path.parent) for path in sorted(settings.model.dir.glob(f"*/{MANIFEST}"))]
    if as_json:
        print_json([asdict(manifest) for manifest in manifests])
        return
    table = Table("name", "dims", "max tokens", "precision", "least cosine", "top-10 overlap", "exported", box=None)
    for m in manifests:
        least = (f"{name} {min(q['cosine_min'], q['cosine_min_alone']):.3f}" for name, q in m.quality.items())
        overlap = (f"{name} {q['overlap_top10']:.3f}" for name, q in m.quality.items())
        figures = (", ".join(least), ", ".join(overlap))
        table.add_row(m.name, str(m.dims), str(m.max_tokens), m.precision, *figures, m.exported_at)
    console().print(table if manifests else f"no models in {settings.model.dir}")
