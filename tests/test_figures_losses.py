"""Losses over steps: every run has its line, and a view that no divergence ruins."""

import math

import numpy as np
import pandas as pd
import pytest

from lrtune import figures
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.figures import losses, theme

NAN, INF = math.nan, math.inf


def a_search(runs, *, stage="fine"):
    """Curves, runs and rates of a search, from {(lr, seed, verdict): losses}."""
    names = {key: f"{key[0]:g}/{key[1]}" for key in runs}
    rows = [(names[key], *point) for key, curve in runs.items() for point in enumerate(curve)]
    curves = pd.DataFrame(rows, columns=["run", "step", "loss"])
    tried = pd.DataFrame(
        [(names[lr, seed, verdict], stage, lr, seed, verdict) for lr, seed, verdict in runs],
        columns=["run", "stage", "lr", "seed", "verdict"],
    )
    failed = tried["verdict"] == "diverged"
    tried["outcome"] = np.where(failed, "DIVERGED", "FINISHED")
    frame = tried[["lr", "verdict"]].drop_duplicates("lr").assign(failed=failed.astype(int))
    return curves, tried.drop(columns="verdict"), frame


def joined(*searches):
    """Several searches as one."""
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*searches, strict=True))


FALL = np.linspace(2.0, 1.0, 10)


def test_the_runs_that_failed_are_marked_where_they_ended():
    runs = {
        (0.1, 0, "good"): FALL,
        (1.0, 0, "diverged"): [1.0, 4.0],
        (2.0, 1, "diverged"): [1.0, INF],
        (3.0, 0, "diverged"): [NAN],
    }
    ends = losses.failed_ends(losses.joined_curves(*a_search(runs)))
    assert ends[["lr", "seed", "step"]].to_numpy().tolist() == [[1, 0, 1], [2, 1, 1], [3, 0, 0]]
    assert ends["loss"].tolist()[:2] == [4.0, 1.0]
    assert math.isnan(ends["loss"].iloc[2])


def test_the_view_of_curves_is_not_ruined_by_those_that_diverged():
    runs = {
        (0.01, 0, "good"): FALL,
        (0.1, 0, "high"): np.linspace(2, 2.4, 10),
        (1.0, 0, "diverged"): np.geomspace(2, 1e12, 10),
    }
    low, high = figures.curves_figure(*a_search(runs)).layout.yaxis.range
    assert low < 1.0
    assert 2.4 < high < 2.8


def test_short_runs_have_a_panel_of_their_own_on_the_same_axis_of_losses():
    short = a_search({(0.01, 0, "too low"): FALL[:4]}, stage="coarse")
    whole = a_search({(0.1, seed, "good"): FALL - seed / 9 for seed in range(2)})
    before = a_search({(9.0, 0, "high"): [2.0]}, stage="before")
    drawn = figures.curves_figure(*joined(short, whole, before))
    assert {(one.name, one.xaxis) for one in drawn.data if one.name} == {
        ("0.01", "x"), ("0.1, seed 0", "x2"), ("0.1, seed 1", "x2"),
    }  # fmt: skip
    assert drawn.layout.xaxis.title.text == "step of the short runs"
    assert drawn.layout.xaxis2.anchor == "y"


def test_eight_runs_in_colour_of_each_verdict_by_turns():
    verdicts = ["too low"] * 6 + ["good"] * 5 + ["high"] * 4 + ["diverged"] * 3
    runs = {((n + 1) / 100, 0, verdict): FALL for n, verdict in enumerate(verdicts)}
    runs[0.09, 0, "good"] = FALL - 0.5
    lines = losses.joined_curves(*a_search(runs))
    chosen = losses.coloured_runs(lines)
    assert chosen == [f"{n / 100}/0" for n in (1, 2, 7, 9, 14, 15, 17, 18)]
    good = losses.coloured_runs(lines[lines["verdict"] == "good"])
    assert len(good) == len(losses.SYMBOL_VARIANTS)


def test_every_run_is_drawn_in_colour_or_in_grey():
    curves, runs, frame = a_search({(lr / 100, 0, "good"): FALL for lr in range(1, 19)})
    drawn = figures.curves_figure(curves, runs, frame.iloc[:-1])  # one has no verdict
    named = [one.name for one in drawn.data if one.name]
    assert "15 other runs" in named
    assert len(named) == 1 + len(losses.SYMBOL_VARIANTS)


def test_the_legend_is_grouped_by_verdict_and_no_two_lines_of_one_look_alike():
    verdicts = [v for v in theme.VERDICT_STYLES for _ in range(3)]
    runs = {((n + 1) / 100, 0, verdict): FALL for n, verdict in enumerate(verdicts)}
    drawn = figures.curves_figure(*a_search(runs))
    lines = sorted(
        (one for one in drawn.data if one.mode == "lines+markers"), key=lambda x: x.legendrank
    )
    titles = [one.legendgrouptitle.text for one in lines if one.legendgrouptitle.text]
    assert titles == list(theme.VERDICT_STYLES)
    assert len({(one.line.color, one.line.dash, one.marker.symbol) for one in lines}) == 8


# --- a trace


def traced(runs):
    rows = [
        (run, step, 0.1, loss, 0) for run, curve in runs.items() for step, loss in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=["run", "step", "lr", "loss", "batch"])


def test_runs_in_colour_reach_from_the_lowest_end_to_the_highest():
    frame = traced({f"run {n}": [2.0, n] for n in (5, 1, 4, 2, 3)})
    assert losses.highlighted_runs(frame, most=3) == ["run 5", "run 1", "run 3"]
    assert losses.highlighted_runs(frame) == ["run 5", "run 1", "run 4", "run 2", "run 3"]


def test_the_view_of_a_trace_is_not_ruined_by_a_run_that_explodes():
    drawn = figures.trace_figure(traced({"a": [2.0, 1.0], "b": [2.0, 1e30]}))
    low, high = drawn.layout.yaxis.range
    assert low < 1.0
    assert 2.0 < high < 3.0


def test_losses_that_are_not_finite_are_marked_in_a_trace():
    drawn = figures.trace_figure(traced({"a": [2.0, 1.0], "b": [2.0, INF], "c": [NAN, NAN]}))
    lost = next(one for one in drawn.data if one.name == "loss not finite")
    assert lost.x == (1.0, 0.0)
    assert lost.text == ("b<br>step 1", "c<br>step 0")


# --- where zero is unknown, no picture depends on it -------------------------------------------


CURVE = 2.0 * 0.9 ** np.arange(40)
SWEEP = pd.DataFrame({"seed": 0, "lr": np.geomspace(1e-3, 1, 40), "untrained": 2.0, "smooth": NAN})
ANSWERS = pd.DataFrame({"rule": ["valley"], "seed": [0], "lr": [0.1], "because": [""]})
STOPS = pd.DataFrame({"seed": [0], "outcome": ["FINISHED"], "lr": [1.0], "edge": [1.0]})
SUGGESTION = Suggestion(0.1, "ensemble", "", (0.1, 0.1))


@pytest.mark.parametrize(
    ("constant", "floor", "offered"),
    [
        (0.0, 0.0, True),
        (0.0, None, False),
        (9.0, None, False),
        (9.0, 9.0, False),
        (-1.0, 0.0, False),
    ],
)
def test_a_logarithmic_axis_is_offered_where_the_floor_is_known_to_be_0(constant, floor, offered):
    curve = CURVE + constant
    drawn = [
        figures.trace_figure(traced({"a": curve}), floor),
        figures.curves_figure(*a_search({(0.1, 0, "good"): curve}), floor),
        figures.sweep_figure(SWEEP.assign(loss=curve), ANSWERS, STOPS, SUGGESTION, floor),
    ]
    for one in drawn:
        assert ((one.layout.meta or {}).get("log") is not None) == offered


def test_a_constant_hides_no_line():
    near, far = (figures.trace_figure(traced({"a": CURVE + constant})) for constant in (0.0, 1e6))
    for here, there in zip(near.data, far.data, strict=True):
        assert np.array(there.y, float) - 1e6 == pytest.approx(np.array(here.y, float), abs=1e-4)
    assert theme.rounded([1e6 + 0.5]) == [1e6 + 0.5]
    assert theme.rounded([1 / 3, 1.0]) == [0.333333, 1.0]
