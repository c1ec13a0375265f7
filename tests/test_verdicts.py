"""Which curve would you pick: planted curves, tables under other names, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lrtune
from lrtune import Cohort, Run
from lrtune.analysis.verdicts import VERDICTS
from lrtune.errors import ArgumentError
from lrtune.results.schema import VERDICTS as COLUMNS
from lrtune.testing import bowl

STEPS = np.arange(120)
RATES = {"slow": 0.001, "fast": 0.03, "stuck": 0.1, "gone": 1.0}
WANTED = {"slow": "too low", "fast": "good", "stuck": "high", "gone": "very high"}


def four(seed=0, noise=0.02):
    """The four curves of every course."""
    random = np.random.default_rng(seed)
    curves = {
        "slow": 2.3 - 0.004 * STEPS,
        "fast": 0.3 + 2.0 * np.exp(-STEPS / 25),
        "stuck": 0.9 + 1.4 * np.exp(-STEPS / 6),
        "gone": np.concatenate([[2.3], 2.3 + np.exp(np.minimum(STEPS[1:] / 4, 30))]),
    }
    return {name: curve + noise * random.normal(size=len(STEPS)) for name, curve in curves.items()}


def frame(curves, rates=RATES, **columns):
    rows = [
        pd.DataFrame({"run": name, "step": STEPS[: len(losses)], "loss": losses})
        for name, losses in curves.items()
    ]
    table = pd.concat(rows, ignore_index=True)
    if rates:
        table["lr"] = table["run"].map(rates)
    return table.assign(**columns)


def said(table):
    return lrtune.verdicts(table).set_index("run")["verdict"].to_dict()


@pytest.mark.parametrize("rates", [RATES, None])
def test_the_four_curves(rates):
    assert said(frame(four(), rates)) == WANTED


def test_what_it_rests_on_is_told():
    table = lrtune.verdicts(frame(four()))
    assert list(table) == list(COLUMNS)
    rows = table.set_index("run")
    assert rows["start"]["fast"] == pytest.approx(2.3, abs=0.1)
    assert rows["end"]["fast"] == pytest.approx(0.31, abs=0.05)
    assert rows["left"]["stuck"] == pytest.approx(0.3, abs=0.05)
    assert rows["pace"]["slow"] == pytest.approx(1.0, abs=0.2)
    assert rows["stalls"]["stuck"] < 40
    assert np.isfinite(rows["failed"]["gone"])
    assert "0.3" in rows["reason"]["stuck"]
    assert table["reason"].str.endswith(".").all()


@settings(max_examples=30)
@given(st.floats(0.001, 1000), st.floats(-100, 100), st.integers(0, 50), st.randoms())
def test_neither_scale_nor_constant_nor_order_changes_a_verdict(factor, shift, seed, random):
    curves = four(seed)
    other = {name: factor * losses + shift for name, losses in curves.items()}
    names = list(other)
    random.shuffle(names)
    assert said(frame(curves)) == said(frame({name: other[name] for name in names}))


def test_a_single_curve_is_never_certain_unless_it_fails():
    for name, losses in four().items():
        row = lrtune.verdicts(frame({name: losses})).iloc[0]
        assert bool(row["certain"]) == (name == "gone")
        if name != "gone":
            assert "One curve does not show" in row["reason"]


def test_a_verdict_is_certain_between_worse_neighbours():
    rates = {"slow": 0.01, "fast": 0.03, "stuck": 0.1, "gone": 1.0}
    near = lrtune.verdicts(frame(four(), rates)).set_index("run")["certain"]
    far = lrtune.verdicts(frame(four(), RATES | {"slow": 1e-5})).set_index("run")["certain"]
    assert near["fast"]
    assert not far["fast"]
    assert near["gone"]


def test_curves_are_compared_where_the_shortest_ends():
    curves = four()
    curves["fast"] = curves["fast"][:90]
    ends = lrtune.verdicts(frame(curves)).set_index("run")["end"]
    assert ends["slow"] == pytest.approx(2.3 - 0.004 * 81, abs=0.05)


def test_rates_on_a_bowl_are_judged_as_they_lie_to_its_edge():
    """On a bowl of curvature 4 the best rate is 1/4, and above 1/2 it diverges."""
    rates = {"low": 0.0005, "best": 0.25, "gone": 0.6}
    trace = Cohort(bowl(4.0), [Run(name, lr) for name, lr in rates.items()], 100).advance().trace
    assert said(trace.frame) == {"low": "too low", "best": "good", "gone": "very high"}


def test_an_epoch_each_is_enough():
    few = {name: losses[::12] for name, losses in four(noise=0.0).items()}
    table = pd.concat(
        pd.DataFrame({"run": name, "epoch": range(len(losses)), "train_loss": losses})
        for name, losses in few.items()
    )
    assert said(table) == WANTED


def test_overfitting_is_told_with_its_step():
    val = 1.0 + 1.5 * np.exp(-STEPS / 20) + 0.01 * np.maximum(0, STEPS - 60)
    row = lrtune.verdicts(frame({"fast": four()["fast"]}, val_loss=val)).iloc[0]
    assert 50 <= row["overfits"] <= 75
    assert "overfits" in row["reason"]


@pytest.mark.parametrize(
    "names",
    [
        {"step": "iteration", "lr": "learning_rate", "loss": "train_loss"},
        {"step": "Step", "run": "Run Name", "loss": "train/loss", "lr": "lr-SGD"},
        {"step": "global_step", "loss": "Value", "run": "version"},
        {"step": "_step", "loss": "loss/train", "lr": "train/learning_rate"},
    ],
)
def test_columns_have_any_usual_name(names, tmp_path):
    table = frame(four()).rename(columns=names)
    assert said(table) == WANTED
    table.to_csv(tmp_path / "curves.csv", index=False)
    assert said(tmp_path / "curves.csv") == WANTED
    assert said(str(tmp_path / "curves.csv")) == WANTED


def test_a_log_with_rows_for_validation_only_reads_like_one_without(tmp_path):
    """Lightning writes a row for what was logged, and leaves the other columns empty."""
    table = frame({"fast": four()["fast"]}, None)
    val = pd.DataFrame({"run": "fast", "step": STEPS[9::10], "val_loss": 0.5})
    mixed = pd.concat([table, val], ignore_index=True)
    whole = lrtune.verdicts(table)
    mixed.to_csv(tmp_path / "metrics.csv", index=False)
    for one in (mixed, tmp_path / "metrics.csv"):
        assert lrtune.verdicts(one)["end"].equals(whole["end"])
        assert np.isnan(lrtune.verdicts(one)["failed"].iloc[0])


def test_a_loss_that_becomes_nan_is_a_failure_and_an_empty_cell_is_none(tmp_path):
    losses = four()["fast"].copy()
    losses[60:] = np.nan
    table = frame({"fast": losses})
    assert lrtune.verdicts(table)["failed"].iloc[0] == 60
    table.to_csv(tmp_path / "nan.csv", index=False, na_rep="nan")
    assert lrtune.verdicts(tmp_path / "nan.csv")["failed"].iloc[0] == 60
    table.to_csv(tmp_path / "empty.csv", index=False)
    assert np.isnan(lrtune.verdicts(tmp_path / "empty.csv")["failed"].iloc[0])


GOOD = frame({"fast": four()["fast"]})
REFUSED = {
    "no loss": (GOOD.drop(columns="loss"), "no column for loss; there are run, step, lr"),
    "side by side": (
        pd.DataFrame({"step": STEPS, "a": 1.0, "b": 2.0}),
        r"table\.melt\('step', var_name='run', value_name='loss'\)",
    ),
    "text": (GOOD.assign(loss=["high"] * len(STEPS)), "holds 'high'; expected numbers"),
    "few": (GOOD[:3], "has 3 losses; expected at least 4"),
    "from nan": (GOOD.assign(loss=np.nan), "begins with a loss of nan"),
    "twice": (pd.concat([GOOD, GOOD]), "has two losses at step 0"),
    "a range test": (GOOD.assign(lr=np.geomspace(1e-5, 1, len(STEPS))), r"lrtune\.range_test"),
    "a list": ([1.0, 2.0], "expected a DataFrame"),
    "no file": ("nowhere.csv", "cannot be read"),
}


@pytest.mark.parametrize(("divider", "decimal"), [("\t", "."), (";", "."), (";", ","), (",", ".")])
@pytest.mark.parametrize("name", ["curves.csv", "curves.tsv", "curves.txt"])
def test_columns_are_divided_by_what_the_header_has(name, divider, decimal, tmp_path):
    frame(four()).to_csv(tmp_path / name, index=False, sep=divider, decimal=decimal)
    assert said(tmp_path / name) == WANTED


def test_no_rows_and_rates_below_zero_are_refused():
    table = frame(four())
    with pytest.raises(ArgumentError, match=r"curves has no rows; expected at least 4 losses"):
        lrtune.verdicts(table.iloc[:0])
    with pytest.raises(
        ArgumentError, match=r"run 'slow' has a rate of -0\.001; expected rates >= 0"
    ):
        lrtune.verdicts(table.assign(lr=-table["lr"]))


@pytest.mark.parametrize("given", REFUSED)
def test_what_cannot_be_judged_is_refused_with_a_way_out(given):
    table, message = REFUSED[given]
    with pytest.raises(ArgumentError, match=message):
        lrtune.verdicts(table)


def test_a_warmup_is_no_range_test():
    warm = np.minimum(STEPS / 60, 1.0) * 0.1
    assert said(GOOD.assign(lr=warm)) == {"fast": "good"}


def test_the_table_stays_as_it_is():
    table = frame(four())
    before = table.copy()
    lrtune.verdicts(table)
    pd.testing.assert_frame_equal(table, before)
    assert set(said(table).values()) <= set(VERDICTS)
