"""Numbers first: what is drawn is what was measured, and no value ruins the picture or goes."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune import figures
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.figures import axes, range_test, search, theme

NAN, INF = math.nan, math.inf
ANY_LOSS = st.floats(allow_nan=True, allow_infinity=True)


# --- axes


@given(st.lists(ANY_LOSS, max_size=20))
def test_a_view_holds_every_finite_value_and_has_a_height(values):
    shown = axes.axis_range(values)
    assert math.isfinite(shown.low)
    assert math.isfinite(shown.high)
    assert shown.low < shown.high
    inside = axes.finite_values(values)
    assert ((shown.low <= inside) & (inside <= shown.high)).all()


@pytest.mark.parametrize("values", [[], [NAN, INF]])
def test_a_view_of_nothing(values):
    assert axes.axis_range(values) == axes.AxisRange(0.0, 1.0)


@given(st.lists(ANY_LOSS, min_size=1, max_size=300), st.integers(4, 40))
def test_thinning_keeps_ends_extremes_and_order(values, most):
    kept = axes.drawn_indices(values, most)
    line, drawn = np.array(values), np.array(values)[kept]
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert (np.diff(kept) > 0).all()
    if not np.isnan(line).all():
        assert np.nanmin(drawn) == np.nanmin(line)
        assert np.nanmax(drawn) == np.nanmax(line)
    assert np.isnan(drawn).any() == np.isnan(line).any()
    assert len(kept) <= 3 * most


def test_smoothing_keeps_a_straight_line_and_a_short_one():
    straight = pd.Series(np.arange(200.0))
    smooth = axes.running_mean(straight)
    assert smooth.iloc[20:-20].tolist() == pytest.approx(straight.iloc[20:-20].tolist())
    short = pd.Series([3.0, 1.0, 2.0])
    assert axes.running_mean(short).tolist() == short.tolist()


# --- the range test


def swept(*, seeds=2, blowup=1e9):
    """Flat at 2, down to 1 at 0.1, and up without end from there."""
    lr = np.geomspace(1e-4, 1.0, 41)
    smooth = np.where(lr < 0.1, 2 - np.clip(np.log10(lr / 1e-2), 0, 1), 1.0)
    loss = np.where(lr <= 0.5, smooth, blowup)
    frames = [
        pd.DataFrame({"seed": s, "lr": lr, "loss": loss, "untrained": 2.0, "smooth": smooth})
        for s in range(seeds)
    ]
    stops = pd.DataFrame(
        {"seed": range(seeds), "outcome": "DIVERGED", "lr": 1.0, "edge": [0.4, 0.6][:seeds]}
    )
    answers = pd.DataFrame(
        [("steepest", 0, 0.01, "a"), ("steepest", 1, 0.1, "b"), ("valley", 0, 1e-6, "c")],
        columns=["rule", "seed", "lr", "because"],
    )
    return pd.concat(frames, ignore_index=True), answers, stops


SAID = Suggestion(0.03, "ensemble", "why", (0.01, 0.1))


def test_the_view_of_a_sweep_is_not_ruined_by_its_end_but_the_data_are_there():
    frame, answers, stops = swept()
    shown = range_test.sweep_range(frame, stops)
    assert shown.low < 1.0
    assert 2.0 < shown.high < 3.5
    drawn = figures.sweep_figure(frame, answers, stops, SAID)
    assert tuple(drawn.layout.yaxis.range) == (shown.low, shown.high)
    raw = [one for one in drawn.data if one.legendgroup == "raw"]
    assert [max(one.y) for one in raw] == [1e9, 1e9]


def test_a_rule_speaks_with_its_median_over_the_seeds_at_the_height_of_the_curve():
    frame, answers, _ = swept()
    points = range_test.rule_medians(frame, answers).set_index("rule")
    assert list(points.index) == ["steepest", "valley"]
    assert points.loc["steepest", "lr"] == pytest.approx(10**-1.5)
    assert points.loc["steepest", ["low", "high"]].tolist() == [0.01, 0.1]
    assert points.loc["steepest", "loss"] == pytest.approx(1.5)
    assert math.isnan(points.loc["valley", "loss"])  # no curve reaches that far down


def test_where_the_loss_rises_again():
    _, _, stops = swept()
    assert range_test.rise_rate(stops) == pytest.approx(math.sqrt(0.4 * 0.6))
    assert math.isnan(range_test.rise_rate(stops.assign(outcome="FINISHED")))
    assert range_test.rise_rate(stops.assign(edge=NAN)) == pytest.approx(1.0)


def test_a_sweep_that_ended_early_is_marked_whatever_it_is_called():
    frame, _, stops = swept()
    assert len(range_test.early_stops(frame, stops)) == 2
    frame.loc[frame.index[7], "loss"] = NAN
    told = range_test.early_stops(frame, stops.assign(outcome="FINISHED"))
    assert told[["seed", "outcome"]].to_numpy().tolist() == [[0, "NONFINITE"]]
    assert told["lr"].tolist() == [frame["lr"].iloc[7]]


def test_every_rule_has_a_symbol_of_its_own():
    frame, _, stops = swept()
    names = ["steepest", "valley", "minimum/10", "last stable"]
    answers = pd.DataFrame({"rule": names, "seed": 0, "lr": 0.05, "because": ""})
    drawn = figures.sweep_figure(frame, answers, stops, SAID)
    symbols = {one.name: one.marker.symbol for one in drawn.data if one.name in names}
    assert list(symbols) == names
    assert len(set(symbols.values())) == 4


def test_seeds_are_told_apart_without_colour():
    frame, answers, stops = swept()
    drawn = figures.sweep_figure(frame, answers, stops, SAID)
    dashes = [one.line.dash for one in drawn.data if (one.name or "").startswith("smoothed")]
    assert dashes == ["solid", "dash"]


# --- the search


def searched():
    """Four rates, two seeds: 0.001 too low, 0.01 good, 0.1 high, 1 lost in one seed."""
    frame = pd.DataFrame(
        {
            "lr": [0.001, 0.01, 0.1, 1.0],
            "stage": "coarse",
            "verdict": ["too low", "good", "high", "diverged"],
            "mean": [1.9, 0.2, 1.0, NAN],
            "low": 0.0,
            "high": 0.0,
            "tied": [False, True, False, False],
            "failed": [0, 0, 0, 1],
        }
    )
    rows = [
        (0.001, 0, "FINISHED", 1.8),
        (0.001, 1, "FINISHED", 2.0),
        (0.01, 0, "FINISHED", 0.1),
        (0.01, 1, "FINISHED", 0.3),
        (0.1, 0, "FINISHED", 1.0),
        (0.1, 1, "FINISHED", 1.0),
        (1.0, 0, "DIVERGED", NAN),
        (1.0, 1, "FINISHED", 1e6),
    ]
    scores = pd.DataFrame(rows, columns=["lr", "seed", "outcome", "score"])
    return frame, scores.assign(start=2.0, train=scores["score"], val=scores["score"])


def test_every_score_has_a_place_inside_above_or_failed():
    frame, scores = searched()
    points, shown = search.placed_scores(frame, scores)
    assert points["place"].tolist() == [*["inside"] * 6, "failed", "above"]
    assert points["verdict"].tolist()[-2:] == ["diverged", "diverged"]
    assert shown.low < 0.1
    assert 2.0 < shown.high < 4.0


def test_what_lies_beyond_the_picture_is_marked_at_its_edge():
    frame, scores = searched()
    drawn = figures.rates_figure(frame, scores, 0.01, (0.01, 0.01))
    named = {one.name: one for one in drawn.data}
    assert named["failed run"].marker.symbol == "x"
    assert "diverged" in named["failed run"].text[0]
    assert "1e+06" in named["above the picture"].text[0]
    top = drawn.layout.yaxis.range[1]
    assert all(0.9 * top < named[n].y[0] <= top for n in ("failed run", "above the picture"))


def test_what_was_given_up_is_no_failure():
    frame, scores = searched()
    scores.loc[:1, ["outcome", "score"]] = "RETIRED", NAN
    points, _ = search.placed_scores(frame, scores)
    assert points["place"].tolist()[:3] == ["retired", "retired", "inside"]
    drawn = figures.rates_figure(frame, scores, 0.01, (0.01, 0.01))
    named = {one.name: one for one in drawn.data}
    assert list(named["stopped early"].x) == [0.001, 0.001]
    assert list(named["failed run"].x) == [1.0]


def test_a_rate_without_a_verdict_is_drawn_all_the_same():
    frame, scores = searched()
    points, _ = search.placed_scores(frame[frame["lr"] < 1], scores)
    assert points["verdict"].tolist()[-2:] == ["unknown", "unknown"]
    assert len(points) == len(scores)


def test_verdicts_differ_in_colour_symbol_and_dash():
    styles = list(theme.VERDICT_STYLES.values())
    assert list(theme.VERDICT_STYLES) == ["too low", "good", "high", "diverged"]
    for part in ("colour", "symbol", "dash"):
        assert len({getattr(style, part) for style in styles}) == 4


def contrast(colour, background):
    """WCAG 2.2, relative luminance."""

    def light(code):
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, bright = sorted([light(colour), light(background)])
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("style", theme.VERDICT_STYLES.values(), ids=theme.VERDICT_STYLES)
@pytest.mark.parametrize("card", ["#ffffff", "#181d24"], ids=["light", "dark"])
def test_verdicts_stand_out_from_both_cards(style, card):
    brighter = {"#0072B2": "#4aa8e0"} if card != "#ffffff" else {}  # as page.css has it
    assert contrast(brighter.get(style.colour, style.colour), card) >= 2.8


def test_a_crowded_span_gets_a_panel_of_its_own():
    frame, scores = searched()
    assert search.close_up_span(frame, (0.01, 0.01)) is None
    fine = pd.DataFrame(
        [{**frame.iloc[1].to_dict(), "lr": lr} for lr in (0.008, 0.009, 0.011, 0.012)]
    )
    frame = pd.concat([frame, fine], ignore_index=True)
    assert search.close_up_span(frame, (0.008, 0.012)) == (0.005, 0.0192)
    drawn = figures.rates_figure(frame, scores, 0.008, (0.008, 0.012))
    assert drawn.layout.xaxis2.range == pytest.approx(tuple(np.log10([0.005, 0.0192])))
    assert all(shape.type in {"rect", "line"} for shape in drawn.layout.shapes)
    assert len(drawn.layout.shapes) == 4  # the interval and the chosen rate, in both panels


# --- whatever comes


LR = st.sampled_from([1e-4, 0.01, 0.1, 1.0, 0.0, -1.0, NAN, INF])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), LR, ANY_LOSS, ANY_LOSS, ANY_LOSS), max_size=12),
    st.lists(st.tuples(st.sampled_from(["a", "<b>"]), st.integers(0, 2), LR), max_size=4),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["diverged", "?"]), LR, LR), max_size=4),
    st.tuples(LR, LR, LR),
)
def test_no_sweep_is_too_ugly(rows, said, ends, suggested):
    frame = pd.DataFrame(rows, columns=["seed", "lr", "loss", "untrained", "smooth"])
    answers = pd.DataFrame(said, columns=["rule", "seed", "lr"]).assign(because="")
    stops = pd.DataFrame(ends, columns=["seed", "outcome", "lr", "edge"])
    suggestion = Suggestion(suggested[0], "ensemble", "", suggested[1:])
    drawable(figures.sweep_figure(typed(frame), typed(answers), typed(stops), suggestion))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(LR, st.sampled_from(["good", "high", "diverged", "?"]), ANY_LOSS), max_size=12
    ),
    st.lists(st.tuples(LR, st.integers(0, 2), ANY_LOSS, ANY_LOSS), max_size=12),
    st.tuples(LR, LR, LR),
)
def test_no_search_is_too_ugly(rows, runs, chosen):
    frame = pd.DataFrame(rows, columns=["lr", "verdict", "mean"]).drop_duplicates("lr")
    scores = pd.DataFrame(runs, columns=["lr", "seed", "score", "start"])
    scores = scores.assign(outcome="FINISHED", val=scores["score"], train=scores["score"])
    drawable(figures.rates_figure(typed(frame), typed(scores), chosen[0], chosen[1:]))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(LR, st.integers(0, 2), st.integers(0, 5), ANY_LOSS), max_size=20),
    st.lists(
        st.tuples(LR, st.sampled_from(["good", "high", "diverged", "?"]), ANY_LOSS), max_size=8
    ),
)
def test_no_curve_is_too_ugly(rows, rates_):
    curves = pd.DataFrame(rows, columns=["lr", "seed", "step", "loss"])
    curves = curves.sort_values("step").drop_duplicates(["lr", "seed", "step"])
    frame = (
        pd.DataFrame(rates_, columns=["lr", "verdict", "mean"])
        .drop_duplicates("lr")
        .assign(failed=1)
    )
    drawable(figures.curves_figure(typed(curves), typed(frame)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 5), ANY_LOSS), max_size=20))
def test_no_trace_is_too_ugly(rows):
    frame = pd.DataFrame(rows, columns=["run", "step", "loss"]).sort_values("step")
    drawable(figures.trace_figure(typed(frame)))


def typed(frame):
    """The dtypes that results have, also when there are no rows."""
    text = {"rule", "because", "verdict", "outcome", "run"}
    whole = {"seed", "step"}
    kinds = {c: "str" if c in text else "int64" if c in whole else "float64" for c in frame}
    return frame.astype(kinds)


def drawable(figure):
    """It is JSON without NaN, and its first axis shows something."""
    told = json.loads(figure.to_json(engine="json"), parse_constant=pytest.fail)
    low, high = told["layout"]["yaxis"]["range"]
    assert low < high


@given(st.text())
def test_a_name_is_shown_and_not_taken_for_markup_or_a_template(text):
    shown = theme.escaped(text)
    assert not set("<>{$") & set(shown)
    assert shown.count("&") == shown.count("&#")
    assert len(shown) <= 5 * theme.MAX_NAME + 10


def test_figures_load_neither_plotly_nor_torch_until_they_draw():
    heavy = "{'torch', 'optuna', 'plotly'} & set(sys.modules)"
    code = f"import lrtune.results, sys; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
