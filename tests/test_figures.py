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


def tried(rows):
    """Runs as (stage, lr, seed, until, outcome, train, loss, test), each with a name of its own."""
    names = ["stage", "lr", "seed", "until", "outcome", "train", "loss", "test"]
    runs = pd.DataFrame(rows, columns=names)
    runs.insert(0, "run", [f"run {number}" for number in range(len(rows))])
    return runs.assign(schedule="trapezoid", steps=400, start=2.0, checkpoint="")


def searched():
    """Short runs: one too low, one good, one high, one lost; and whole trainings, one lost."""
    runs = tried(
        [
            ("coarse", 0.001, 0, 5, "PAUSED", 1.9, NAN, NAN),
            ("coarse", 0.01, 0, 20, "PAUSED", 1.0, NAN, NAN),
            ("coarse", 0.1, 0, 20, "PAUSED", 1.4, NAN, NAN),
            ("coarse", 1.0, 0, 7, "DIVERGED", 1e6, NAN, NAN),
            ("before", 1.0, 0, 1, "PAUSED", 2.0, 2.0, NAN),
            ("horizons", 0.02, 0, 100, "FINISHED", 0.6, 0.7, NAN),
            ("fine", 0.02, 0, 400, "FINISHED", 0.2, 0.4, 0.45),
            ("fine", 0.02, 1, 400, "FINISHED", 0.2, 0.3, 0.35),
            ("fine", 0.1, 2, 60, "NONFINITE", NAN, NAN, NAN),
        ]
    )
    frame = pd.DataFrame(
        {
            "lr": [0.001, 0.01, 0.02, 0.1, 1.0],
            "verdict": ["too low", "good", "good", "diverged", "diverged"],
            "loss": [1.9, 1.0, 0.35, NAN, NAN],
            "failed": [0, 0, 0, 1, 1],
        }
    )
    return frame, runs


def test_every_run_is_drawn_with_the_losses_that_were_measured():
    frame, runs = searched()
    points = search.drawn_losses(frame, runs)
    assert set(points["run"]) == set(runs.loc[runs["stage"] != "before", "run"])
    short, whole = points[points["short"]], points[~points["short"]]
    assert short["part"].tolist() == [search.SHORTER, search.SHORT, search.SHORT, search.SHORTER]
    assert short["loss"].tolist()[:3] == [1.9, 1.0, 1.4]
    assert whole["part"].value_counts().to_dict() == {
        search.WHOLE: 3, search.STATED: 2, search.COMPRESSED: 1,
    }  # fmt: skip
    stated = whole.loc[whole["part"] == search.STATED, ["seed", "loss"]]
    assert stated.to_numpy().tolist() == [[0, 0.45], [1, 0.35]]
    assert search.best_training(points)["seed"].tolist() == [1]


def test_a_present_setting_with_another_schedule_is_told_apart():
    frame, runs = searched()
    runs.loc[7, "stage"] = "current"
    for schedule, part in {"trapezoid": search.WHOLE, "cosine": search.OTHER}.items():
        runs.loc[7, "schedule"] = schedule
        points = search.drawn_losses(frame, runs)
        assert set(points.loc[points["run"] == "run 7", "part"]) - {search.STATED} == {part}
        best = search.best_training(points)["seed"].tolist()
        assert best == ([1] if part == search.WHOLE else [0]), "only the schedule that is searched"


def test_short_runs_and_whole_trainings_have_panels_of_their_own():
    drawn = figures.rates_figure(*searched(), 0.02, (0.015, 0.03))
    titles = drawn.layout.xaxis.title.text, drawn.layout.xaxis2.title.text
    assert titles == ("constant rate", "peak rate")
    assert {shape.xref for shape in drawn.layout.shapes} == {"x2"}, "the answer is a peak"
    assert [label.text for label in drawn.layout.annotations] == ["lr 0.02"]
    best = next(one for one in drawn.data if one.name == "best training")
    assert (best.x, best.y, best.xaxis) == ((0.02,), (0.3,), "x2")


@pytest.mark.parametrize("short", [True, False])
def test_a_search_of_one_kind_of_runs_has_one_panel(short):
    frame, runs = searched()
    drawn = figures.rates_figure(frame, runs[(runs["stage"] == "coarse") == short], 0.02, (0.01, 1))
    assert "xaxis2" not in drawn.layout.to_plotly_json()
    assert {shape.xref for shape in drawn.layout.shapes} == {"x"}


def test_what_has_no_place_in_the_picture_is_marked_at_its_edge():
    frame, runs = searched()
    runs.loc[2, "train"] = 1e6
    drawn = figures.rates_figure(frame, runs, 0.02, (0.01, 0.03))
    failed = [one for one in drawn.data if one.name == "failed run"]
    assert [(one.x, one.xaxis) for one in failed] == [((1.0,), "x"), ((0.1,), "x2")]
    assert "nonfinite" in failed[1].text[0]
    (above,) = (one for one in drawn.data if one.name == "above the picture")
    assert "1e+06" in above.text[0]
    top = drawn.layout.yaxis.range[1]
    assert 2.0 < top < 3.0
    assert all(0.9 * top < one.y[0] <= top for one in (failed[0], above))


def test_a_legend_names_each_kind_of_symbol_once():
    drawn = figures.rates_figure(*searched(), 0.02, (0.01, 0.03))
    named = [one.name for one in drawn.data if one.name and one.showlegend]
    assert len(named) == len(set(named))
    assert {"too low", "good", "failed run", "best training"} <= set(named)


def test_a_rate_without_a_verdict_is_drawn_all_the_same():
    frame, runs = searched()
    points = search.drawn_losses(frame[frame["lr"] < 0.1], runs)
    assert set(points.loc[points["lr"] >= 0.1, "verdict"]) == {"unknown"}
    drawable(figures.rates_figure(frame[frame["lr"] < 0.1], runs, 0.02, (0.01, 0.03)))


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


STAGES = st.sampled_from(["coarse", "horizons", "fine", "current", "before", "?"])
OUTCOMES = st.sampled_from(["FINISHED", "PAUSED", "DIVERGED", "?"])
RATES = st.lists(st.tuples(LR, st.sampled_from(["good", "high", "diverged", "?"])), max_size=8)
RUNS = st.lists(
    st.tuples(STAGES, LR, st.integers(0, 2), st.integers(0, 9), OUTCOMES, *[ANY_LOSS] * 3),
    max_size=9,
)


@settings(max_examples=30, deadline=None)
@given(RATES, RUNS, st.tuples(LR, LR, LR))
def test_no_search_is_too_ugly(rates, runs, chosen):
    frame = pd.DataFrame(rates, columns=["lr", "verdict"]).drop_duplicates("lr")
    drawable(figures.rates_figure(typed(frame), typed(tried(runs)), chosen[0], chosen[1:]))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), ANY_LOSS), max_size=20), RATES, RUNS
)
def test_no_curve_is_too_ugly(rows, rates, runs):
    curves = pd.DataFrame(rows, columns=["run", "step", "loss"]).sort_values("step")
    curves["run"] = [f"run {number}" for number in curves["run"]]
    frame = pd.DataFrame(rates, columns=["lr", "verdict"]).drop_duplicates("lr")
    drawable(figures.curves_figure(typed(curves), typed(tried(runs)), typed(frame)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 5), ANY_LOSS), max_size=20))
def test_no_trace_is_too_ugly(rows):
    frame = pd.DataFrame(rows, columns=["run", "step", "loss"]).sort_values("step")
    drawable(figures.trace_figure(typed(frame)))


def typed(frame):
    """The dtypes that results have, also when there are no rows."""
    text = {"rule", "because", "verdict", "outcome", "run", "stage", "schedule", "checkpoint"}
    whole = {"seed", "step", "steps", "until"}
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
