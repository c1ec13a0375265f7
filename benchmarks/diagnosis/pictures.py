"""The pictures of docs/diagnosis.md: `python -m benchmarks.diagnosis.pictures`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from torch.optim import Adam

from benchmarks.diagnosis.broken_layers import tower
from benchmarks.diagnosis.broken_plateaus import digits, fitted, regression
from lrtune import Run, diagnose, train, verdicts
from lrtune.diagnosis.checks.depth import Trend
from lrtune.diagnosis.observed import Observed
from lrtune.figures.theme import BLUE, GREEN, ORANGE, PURPLE, VERMILLION
from lrtune.results.diagnosis import Chart, Points

FOLDER = Path(__file__).parents[2] / "docs" / "diagnosis"
STYLE = {
    "axes.spines.right": False, "axes.spines.top": False, "font.family": "sans-serif",
    "font.size": 9, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "lrtune",
}  # fmt: skip
LOOKS = list(zip((BLUE, VERMILLION, GREEN, PURPLE, ORANGE), "os^Dv", strict=True))
"""Okabe and Ito's colours; the marks differ, too."""


def draw(axes: Axes, lines: Mapping[str, Points], *, marks: bool = True) -> None:
    """A line for each name, with its points."""
    for (name, points), (colour, mark) in zip(lines.items(), LOOKS, strict=False):
        across, up = zip(*points, strict=True)
        axes.plot(
            across, up, color=colour, label=name, marker=mark if marks else "", markersize=3.5,
            linewidth=1.2,
        )  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def save(name: str, x: str, y: str, lines: Mapping[str, Points], **more: str | bool) -> None:
    """Write one picture; `scale` is that of its vertical axis."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        axes = figure.add_subplot(xlabel=x, ylabel=y, yscale=more.get("scale", "linear"))
        axes.set_facecolor("white")
        draw(axes, lines, marks=bool(more.get("marks", True)))
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def chart_of(name: str, *asked: object) -> Chart:
    """The chart of a finding."""
    seen = diagnose(*asked)
    (chart,) = [one.chart for one in seen.findings if one.name == name]
    return chart


def noise_floor() -> None:
    """A linear model on noisy targets, in batches of four; rate x 3 lies far above the others."""
    chart = chart_of("noise-floor", regression(1.0), 0.08, 8000)
    lines = {name: points for name, points in chart.lines.items() if name != "rate x 3"}
    save("noise-floor", chart.x, chart.y, lines)


def vanishing_gradients() -> None:
    """Ten layers of sigmoids, and ten of ReLU."""
    nets = {
        "sigmoid": partial(tower, 10, nn.Sigmoid),
        "ReLU, He weights": partial(tower, 10, nn.ReLU, std=(2 / 32) ** 0.5),
    }
    lines = {}
    for name, net in nets.items():
        chart = Trend.of(Observed(digits(net, optimizer=Adam)).layers).chart
        lines[name] = chart.lines["gradient at its outputs"]
    save("vanishing-gradients", "layer, from the inputs on", "gradient norm", lines, scale="log")


def overfitting() -> None:
    """A network of 641 weights on 60 noisy samples."""
    chart = chart_of("overfitting", fitted(60), 0.01, 1500)
    save("overfitting", chart.x, chart.y, chart.lines)


def four_curves() -> None:
    """The digits at four rates; means of five losses."""
    frame = train(digits(), [Run(f"lr {lr:g}", lr) for lr in (0.01, 0.1, 0.25, 1.0)], 300).frame
    lines = {}
    for row in verdicts(frame).itertuples():
        losses = frame.loc[frame["run"] == row.run, "loss"].to_numpy()
        parts = [(float(at + 2), losses[at : at + 5].mean()) for at in range(0, len(losses), 5)]
        lines[f"{row.run}: {row.verdict}"] = parts
    save("four-curves", "update", "training loss", lines, marks=False)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for picture in (noise_floor, vanishing_gradients, overfitting, four_curves):
        picture()
