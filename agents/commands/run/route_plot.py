"""The picture of `penstock route plan`, by matplotlib, which comes with an extra."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agents.extras import importing
from agents.operations.route_plan import Planned
from streams.errors import ConfigError, PenstockError
from streams.route_plan import Point

FORMATS = (".svg", ".png")
COLOURS = {"robust": "black", "fast": "tab:red", "short": "tab:blue", "long": "tab:orange"}


def prepare(path: Path) -> Callable[[Planned, Sequence[Point]], None]:
    """What will draw it there, at the end of long work. Raises ConfigError where it could not.

    It raises PenstockError where the picture cannot be written all the same.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {path} is neither an .svg nor a .png: choose another name")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}; make it, or choose another")
    with importing("plot"):
        import matplotlib.figure  # noqa: F401

    return lambda found, chosen: draw(path, found, chosen)


def draw(path: Path, found: Planned, chosen: Sequence[Point]) -> None:
    """Cost against ranking: every threshold with its interval, and the frontier as a line. `chosen`: by itself, and
    where a search rescores."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    names = {
        "robust": f"{found.robust} alone",
        "fast": f"{found.fast} alone",
        "short": f"short documents to {found.fast}",
        "long": f"long documents to {found.fast}",
    }
    for kind, name in names.items():
        points = [point for point in found.points if point.cut.kind == kind]
        means = [point.plain.quality.mean for point in points]
        below = [point.plain.quality.mean - point.plain.quality.low for point in points]
        above = [point.plain.quality.high - point.plain.quality.mean for point in points]
        axes.errorbar(
            [point.cost for point in points],
            means,
            yerr=[below, above],
            fmt="o",
            markersize=4,
            elinewidth=0.6,
            color=COLOURS[kind],
            label=name,
        )
    best = [point for point in found.points if point.best]
    axes.step([point.cost for point in best], [point.plain.quality.mean for point in best], where="post", color="grey")
    rescored = _rising((point.cost, point.rescored.quality.mean) for point in found.points if point.rescored)
    if rescored:
        axes.plot(
            *zip(*rescored, strict=True), "x--", color="tab:green", label=f"the best with --rescore {found.rescore}"
        )
    circled = [(chosen[0].cost, chosen[0].plain), *((point.cost, point.rescored) for point in chosen[1:])]
    axes.scatter(
        [cost for cost, ranking in circled if ranking],
        [ranking.quality.mean for _, ranking in circled if ranking],
        s=160,
        facecolors="none",
        edgecolors="green",
        label="recommended",
    )
    axes.set_xlabel(f"cost, {found.robust} alone = 1")
    axes.set_ylabel("nDCG@10")
    axes.set_title(f"{found.topic}: {found.documents} documents, {found.questions} questions")
    axes.legend(loc="lower right", fontsize="small")
    try:
        figure.savefig(path)
    except OSError as exc:
        raise PenstockError(f"--plot {path} cannot be written ({exc.strerror}): choose another place") from exc


def _rising(places: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, quality) that none as cheap beats."""
    kept = list[tuple[float, float]]()
    for cost, quality in sorted(places, key=lambda place: (place[0], -place[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((cost, quality))
    return kept
