"""Losses over steps: means that nobody flatters, and a view that no divergence ruins."""

import math

import numpy as np
import pandas as pd
import pytest

from lrtune import figures
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.figures import losses, theme

NAN, INF = math.nan, math.inf


def short_runs(runs, steps=10):
    """Curves of {(lr, seed): losses}."""
    rows = [
        (lr, seed, step, loss)
        for (lr, seed), curve in runs.items()
        for step, loss in enumerate(np.broadcast_to(curve, steps) if np.ndim(curve) == 0 else curve)
    ]
    return pd.DataFrame(rows, columns=["lr", "seed", "step", "loss"])


def test_curves_are_means_over_the_seeds_between_the_lowest_and_the_highest():
    points = losses.mean_curves(short_runs({(0.1, 0): 1.0, (0.1, 1): 3.0}))
    assert len(points) == 10
    assert points[["mean", "low", "high", "smooth"]].iloc[4].tolist() == [2.0, 1.0, 3.0, 2.0]


def test_a_mean_ends_with_the_first_seed_that_ends_so_that_survivors_do_not_flatter_it():
    points = losses.mean_curves(short_runs({(0.1, 0): 1.0, (0.1, 1): [5.0] * 4}))
    assert points["mean"].tolist()[:4] == [3.0] * 4
    assert points["mean"].isna().tolist()[4:] == [True] * 6
    assert points["high"].tolist()[4:] == [1.0] * 6  # the band goes on


def test_long_curves_are_drawn_in_parts_that_keep_level_and_length():
    points = losses.mean_curves(short_runs({(0.1, 0): np.arange(10_000.0)}), most=100)
    assert len(points) == 100
    assert points["mean"].iloc[[0, -1]].tolist() == [49.5, 9949.5]


def test_runs_that_failed_are_marked_and_those_given_up_are_not():
    curves = short_runs(
        {(0.1, 0): 1.0, (0.1, 1): [1.0, 2.0], (1.0, 0): [1.0, INF], (2.0, 0): [NAN], (9, 0): [1.0]}
    )
    told = losses.failed_runs(
        curves, pd.DataFrame({"lr": [0.1, 1.0, 2.0, 9.0], "failed": [1, 1, 1, 0]})
    )
    assert told[["lr", "seed", "step"]].to_numpy().tolist() == [[0.1, 1, 1], [1, 0, 1], [2, 0, 0]]
    assert told["loss"].tolist()[:2] == [2.0, 1.0]
    assert math.isnan(told["loss"].iloc[2])


def test_the_view_of_curves_is_not_ruined_by_those_that_diverged():
    curves = short_runs(
        {
            (0.01, 0): np.linspace(2, 1, 10),
            (0.1, 0): np.linspace(2, 2.4, 10),
            (1.0, 0): np.geomspace(2, 1e12, 10),
        }
    )
    frame = pd.DataFrame({"lr": [0.01, 0.1, 1.0], "verdict": ["good", "high", "diverged"]})
    low, high = figures.curves_figure(curves, frame.assign(failed=0, mean=1.0)).layout.yaxis.range
    assert low < 1.0
    assert 2.4 < high < 2.8


def test_eight_rates_in_colour_of_each_verdict_by_turns():
    verdicts = ["too low"] * 6 + ["good"] * 5 + ["high"] * 4 + ["diverged"] * 3
    rates_ = np.arange(1, 19) / 100
    frame = pd.DataFrame({"lr": rates_, "verdict": verdicts, "mean": 1.0})
    frame.loc[8, "mean"] = 0.5
    chosen = losses.highlighted_rates(frame)
    assert chosen == [0.01, 0.06, 0.07, 0.09, 0.12, 0.15, 0.16, 0.18]
    assert len(losses.highlighted_rates(frame[frame["verdict"] == "good"])) == len(
        losses.SYMBOL_VARIANTS
    )


def test_every_rate_is_drawn_in_colour_or_in_grey():
    runs = {(lr / 100, 0): 1.0 for lr in range(1, 19)}
    frame = pd.DataFrame(
        {"lr": [lr for lr, _ in runs], "verdict": "good", "mean": 1.0, "failed": 0}
    )
    drawn = figures.curves_figure(short_runs(runs), frame.iloc[:-1])  # one has no verdict
    named = [one.name for one in drawn.data if one.name]
    assert "15 other rates" in named
    assert len(named) == 1 + len(losses.SYMBOL_VARIANTS)


def test_the_legend_is_grouped_by_verdict_and_no_two_lines_of_one_look_alike():
    runs = {(lr / 100, seed): 1.0 + seed for lr in range(1, 13) for seed in (0, 1)}
    verdicts = [v for v in theme.VERDICT_STYLES for _ in range(3)]
    rates_ = sorted({lr for lr, _ in runs})
    frame = pd.DataFrame({"lr": rates_, "verdict": verdicts, "mean": 1.0, "failed": 0})
    drawn = figures.curves_figure(short_runs(runs), frame)
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
RATE = pd.DataFrame({"lr": [0.1], "mean": [1.0], "verdict": ["good"], "failed": [0]})
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
        figures.curves_figure(short_runs({(0.1, 0): curve}), RATE, floor),
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
