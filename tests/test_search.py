"""search(): coarse, between, fine, verified; the strategy is tested without any training."""

import math
import zlib
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import zoo
from hypothesis import strategies as st

from lrtune import Run, Task, search, train
from lrtune.analysis.rate_estimate import INTERVAL_FACTOR, UNDERTRAINED_SHIFT
from lrtune.errors import ArgumentError, LrtuneError, SearchError
from lrtune.results import Trace
from lrtune.results.schema import CHECKS, CURVES, RATES, RUNS, SCORES, TRACE, VALIDATIONS, as_table
from lrtune.testing import bowl
from lrtune.tuning.rate_history import verdict
from lrtune.tuning.search import COARSE, FINE, LIMITS
from tests.sampling import law

TASK = bowl()  # the fake evaluators below only need its description
STEPS, HORIZON = 40, 10


class Fake:
    """An evaluator that trains nothing.

    Args:
        score: Rate to the loss that a run of it ends with; it starts with 2.
        fails: (rate, seed, steps) to an outcome, or None.
        noise: Standard deviation of what a run adds to its score; a seed adds ten times as much.
        long: Rate to what the loss has risen by at the end of a run longer than the horizon.
        val: Rate to its validation loss, if there are validation data.
        early: Run to what its loss adds to that of the others at the rung.
    """

    def __init__(self, score, *, fails=None, noise=0.0, long=None, val=None, early=None):
        self.score, self.noise, self.val, self.early = score, noise, val, early
        self.fails, self.long = fails or (lambda *_: None), long or (lambda _: 0.0)
        self.calls = []

    def __call__(self, runs, steps, *, stage, validate=None, until=None):
        steps = until or steps
        if steps < HORIZON:
            return self.at_the_rung(runs, steps)
        self.calls.append((stage, [(run.lr, run.seed) for run in runs], steps, validate))
        frames, rows, validations = [], [], []
        for run in runs:
            outcome = self.fails(run.lr, run.seed, steps)
            losses = np.full(steps, self.end(run))
            losses[HORIZON:] += np.linspace(0, self.long(run.lr), steps)[HORIZON:]
            losses[0] = 2.0
            if outcome:
                losses = np.array([2.0, 9.0, 99.0, np.nan if outcome == "NONFINITE" else 999.0])
            count = len(losses)
            columns = {"run": run.name, "step": range(count), "lr": run.lr, "loss": losses}
            frames.append(pd.DataFrame(columns | {"batch": 0}))
            told = outcome or "FINISHED"
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, told, count))
            if validate != 0 and self.val and not outcome:
                validations.append((run.name, steps, "selection", self.val(run.lr), np.nan, 9))
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames), TRACE),
            runs=as_table(rows, RUNS),
            validations=as_table(validations, VALIDATIONS),
        )

    def at_the_rung(self, runs, steps):
        """Nothing can be told yet, unless `early` says so."""
        seeds = {run.seed: np.random.default_rng(run.seed).normal(size=steps) for run in runs}
        frames = [
            pd.DataFrame(
                {"run": run.name, "step": range(steps), "lr": run.lr, "batch": 0}
                | {"loss": 2.0 + seeds[run.seed] + (self.early(run) if self.early else 0.0)}
            )
            for run in runs
        ]
        told = "PAUSED"
        rows = [(r.name, r.lr, repr(r.schedule), r.seed, told, steps) for r in runs]
        return Trace(
            steps=STEPS,
            frame=as_table(pd.concat(frames), TRACE),
            runs=as_table(rows, RUNS),
            validations=as_table([], VALIDATIONS),
        )

    def end(self, run):
        random = np.random.default_rng(zlib.crc32(f"{run.lr:.6g} {run.seed}".encode()))
        hard = np.random.default_rng(run.seed).normal() * 10 * self.noise
        return self.score(run.lr) + hard + self.noise * random.normal()

    def trained(self, stage=None):
        """The rates of the short runs, in order, without verification."""
        return [
            rate
            for told, runs, steps, _ in self.calls
            for rate in dict.fromkeys(lr for lr, _ in runs)
            if steps == HORIZON and stage in (None, told)
        ]


def valley(best):
    """A parabola in the logarithm of the rate, with 0.5 at its bottom."""
    return lambda rate: 0.5 + 0.1 * math.log10(rate / best) ** 2


def above(limit, outcome="DIVERGED"):
    """Runs at rates above the limit fail."""
    return lambda rate, _seed, _steps: outcome if rate > limit else None


def kept(best, level=0.5):
    """The rate to keep: below the best of short runs, with `level` of an initial loss of 2 left."""
    return pytest.approx(best * UNDERTRAINED_SHIFT ** (level / 2), rel=0.01)


def found_by(fake, **options):
    grid = {"steps": STEPS, "horizon": HORIZON, "budget": math.inf}
    return search(TASK, **(grid | {"evaluate": fake} | options))


# --- the stages -----------------------------------------------------------------------------------


def test_coarse_then_between_then_fine():
    fake = Fake(valley(0.013))
    found = found_by(fake)
    assert fake.trained("coarse") == sorted(COARSE)
    assert fake.trained("between") == [0.003162, 0.03162]
    assert fake.trained("fine") == pytest.approx([0.01 * factor for factor in FINE if factor != 1])
    assert [call[0] for call in fake.calls] == ["coarse", "between", "fine", "answer", "verify"]
    assert found.lr == kept(0.013)
    assert found.interval == pytest.approx(
        (found.lr / INTERVAL_FACTOR, found.lr * INTERVAL_FACTOR), rel=0.01
    )
    rates = found.frame.groupby("stage")["lr"].agg(list)
    assert rates["coarse"] == sorted(COARSE)
    assert rates["fine"] == fake.trained("fine")
    assert found.frame["lr"].tolist() == sorted(fake.trained())
    assert found.verified
    assert found.notes == ()


@pytest.mark.parametrize("best", [3e-4, 0.0021, 0.0033, 0.028, 0.031, 0.036, 0.07])
def test_any_rate_of_a_decade_can_be_chosen(best):
    """The fine grid alone reaches from 0.8 to 2 times the coarse rate."""
    found = found_by(Fake(valley(best)))
    assert found.lr == kept(best)


def test_the_best_of_a_fine_grid_has_neighbours_on_both_sides():
    """The edge of the fine grid is no optimum, either."""
    fake = Fake(valley(0.0253))
    found = found_by(fake, fine=(0.9, 1.0))
    assert found.lr == kept(0.0253)
    assert any("fine rate" in note and "edge of the grid: added" in note for note in found.notes)
    rates = sorted(fake.trained())
    place = rates.index(found.lr)
    assert rates[place + 1] / found.lr < 1.3
    assert found.lr / rates[place - 1] < 1.3


@pytest.mark.parametrize(
    ("best", "grown"),
    [
        (2.2, [1.0, 10.0]),
        (0.2, [1.0]),
        (0.4, [1.0, 10.0]),
        (2e-5, [1e-5, 1e-6]),
        (3e-7, [1e-5, 1e-6, 1e-7]),
    ],
)
def test_the_coarse_grid_grows_until_the_best_is_inside(best, grown):
    fake = Fake(valley(best))
    found = found_by(fake)
    assert fake.trained("coarse") == [*sorted(COARSE), *grown]
    grows = [note for note in found.notes if "est coarse rate, " in note]
    assert len(grows) >= len(grown)
    assert found.interval[0] < best < found.interval[1]


@pytest.mark.parametrize(("best", "limit"), [(1e-12, 1e-7), (1e6, 10.0), (1.0, 1.0), (1e-4, 1e-4)])
def test_it_grows_up_to_the_limits_and_not_beyond(best, limit):
    fake = Fake(valley(best))
    limits = (min(limit, LIMITS[0] if limit > 0.1 else limit), max(limit, 0.1))
    found = found_by(fake, limits=limits)
    assert any("lies at a limit: widen `limits`" in note for note in found.notes)
    rates = fake.trained()
    assert min(rates) >= limits[0] * 0.999
    assert max(rates) <= limits[1] * 1.001
    assert limits[0] <= found.lr <= limits[1]
    assert found.interval[0] <= limit <= 2 * found.interval[1]


def test_one_coarse_rate_grows_both_ways():
    for best in (3e-4, 0.2):
        fake = Fake(valley(best))
        assert found_by(fake, coarse=[0.01]).lr == kept(best)


def test_the_grids_are_arguments():
    fake = Fake(valley(0.02))
    found_by(fake, coarse=[0.3, 0.03, 0.003], fine=[0.5, 1.0])
    assert fake.trained("coarse") == [0.003, 0.03, 0.3]
    assert fake.trained("fine")[:1] == [0.015]
    assert found_by(Fake(valley(0.02)), fine=[]).lr


def test_grids_that_nearly_coincide_are_trained_once():
    fake = Fake(valley(0.02))
    found_by(fake, coarse=[0.1, 0.01, 0.01 + 1e-9, 0.001], fine=[0.9, 1.0, 1.0001, 1.1, 1.1])
    assert fake.trained("coarse") == [0.001, 0.01, 0.1]


@law(
    few=5,
    cases=15,
    best=st.floats(1e-6, 5),
    noise=st.sampled_from([0.0, 0.02]),
    seeds=st.integers(1, 4),
    seed=st.integers(0, 99),
    cliff=st.floats(1e-5, 10),
)
def test_nothing_is_trained_twice_and_every_seed_is_trained(best, noise, seeds, seed, cliff):
    fake = Fake(valley(best), noise=noise, fails=above(cliff))
    found = found_by(fake, seeds=seeds, seed=seed)
    rates = sorted(fake.trained())
    assert all(b / a > 1.001 for a, b in pairwise(rates))
    for _stage, runs, _steps, _validate in fake.calls:
        assert len(set(runs)) == len(runs)
        assert {s for _, s in runs} == set(range(seed, seed + seeds))
    assert found.lr in rates
    assert found.interval[0] <= found.lr <= found.interval[1]
    assert found.lr <= cliff
    assert sorted(found.frame["lr"]) == rates
    assert found.to_json()


# --- giving up ------------------------------------------------------------------------------------


def behind(by):
    """At the rung, a run is behind by so much, but for a little of its own."""
    return lambda run: by(run.lr) + 1e-4 * math.sin(zlib.crc32(run.name.encode()))


def test_a_higher_rate_that_is_behind_early_is_given_up():
    fake = Fake(valley(0.013), early=behind(lambda rate: float(rate > 0.0145)))
    found = found_by(fake)
    assert max(fake.trained("fine")) == 0.014
    late = found.frame.set_index("lr").loc[[0.03162, 0.1]]
    assert late["mean"].isna().all()
    assert late["failed"].eq(0).all()
    assert late["verdict"].isin({"high", "diverged"}).all()
    (note,) = [note for note in found.notes if "given up" in note]
    assert note.startswith("given up after 2 steps, clearly behind the best: ")
    assert "0.015, 0.016, 0.017, 0.018, 0.019, 0.02, 0.0316, 0.1" in note
    assert found.lr < 0.013


def test_a_lower_rate_may_catch_up_unless_it_is_much_lower():
    fake = Fake(valley(0.05), early=behind(lambda rate: -math.log10(rate)))
    found_by(fake, coarse=[0.1, 0.01], limits=(1e-4, 0.1))
    assert fake.trained("coarse") == [0.1], "the other is lower by ten"
    assert 0.08 in fake.trained("fine"), "though at the rung 0.1 was ahead"


def test_what_one_seed_shows_early_is_no_reason_to_give_up():
    fake = Fake(valley(0.013), early=behind(lambda rate: rate))
    found = found_by(fake, seeds=1)
    assert fake.trained("coarse") == sorted(COARSE)
    assert not [note for note in found.notes if "given up" in note]


def test_differences_within_the_noise_are_no_reason_to_give_up():
    fake = Fake(valley(0.013))
    found_by(fake)
    assert fake.trained("coarse") == sorted(COARSE)


@law(few=6, cases=25, salt=st.integers(0, 999), seeds=st.integers(1, 4))
def test_whatever_is_given_up_the_leader_is_not(salt, seeds):
    def early(run):
        return np.random.default_rng([salt, int(run.lr * 1e7), run.seed]).normal()

    found = found_by(Fake(valley(0.02), early=early), seeds=seeds)
    best = found.frame["mean"].min()
    assert found.frame.set_index("lr").loc[found.lr, "mean"] >= best
    assert np.isfinite(best)


def test_a_search_that_gives_up_finds_what_one_that_does_not_finds(monkeypatch):
    """On the real thing, with a valley that is clear."""
    found = search(bowl(curvature=4.0, noise=0.1), steps=200, budget=math.inf)
    monkeypatch.setattr("lrtune.tuning.search.promising", lambda levels: set(levels.dropna().index))
    patient = search(bowl(curvature=4.0, noise=0.1), steps=200, budget=math.inf)
    assert found.interval[0] <= patient.interval[1]
    assert patient.interval[0] <= found.interval[1]
    assert len(found.curves) <= len(patient.curves)


# --- the choice -----------------------------------------------------------------------------------


def test_noise_on_a_fine_grid_does_not_move_the_answer_far():
    """The luckiest of many near rates is not the answer: neighbours far enough apart are read."""
    calm = found_by(Fake(valley(0.01))).lr
    for noise in (0.005, 0.02):
        lr = found_by(Fake(valley(0.01), noise=noise)).lr
        assert calm / 2 < lr < calm * 2


def test_the_less_was_learned_the_lower_is_the_answer():
    """High rates lead early, and lose later."""
    little, much = (
        found_by(Fake(lambda rate, level=level: level + 0.01 * abs(math.log10(rate / 0.01)))).lr
        for level in (1.8, 0.02)
    )
    assert little < much / 1.9
    assert found_by(Fake(lambda rate: 0.001 * valley(0.01)(rate))).lr == kept(0.01, 0.0)


def test_validation_counts_where_there_is_any():
    found = found_by(Fake(valley(0.08), val=valley(0.013)))
    assert found.lr == kept(math.sqrt(0.08 * 0.013), 0.52)
    assert found.scores["val"].tolist() == found.scores["score"].tolist()
    without = found_by(Fake(valley(0.08)))
    assert without.lr == kept(0.08)
    assert without.scores["val"].isna().all()
    assert without.scores["train"].tolist() == without.scores["score"].tolist()


# --- what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["DIVERGED", "NONFINITE"])
def test_rates_that_fail_are_out_and_called_diverged(outcome):
    found = found_by(Fake(valley(5.0), fails=above(0.0145, outcome)))
    assert 0.0145 / 4 < found.lr < 0.0145
    frame = found.frame.set_index("lr")
    assert (frame.loc[frame.index > 0.0145, "verdict"] == "diverged").all()
    assert (frame.loc[frame.index > 0.0145, "failed"] == 3).all()
    assert frame.loc[frame.index > 0.0145, "mean"].isna().all()


def test_a_rate_that_fails_in_one_seed_is_out():
    def fails(rate, seed, _steps):
        return "DIVERGED" if rate > 0.012 and seed == 1 else None

    found = found_by(Fake(valley(0.05), fails=fails))
    assert 0.003 < found.lr < 0.012
    assert found.frame.set_index("lr").loc[0.1, ["failed", "verdict"]].tolist() == [1, "diverged"]


def test_when_every_rate_fails_it_says_what_to_do():
    fake = Fake(valley(0.01), fails=lambda *_: "NONFINITE")
    with pytest.raises(SearchError) as caught:
        found_by(fake)
    message = str(caught.value)
    assert "no rate from 1e-07 to 0.1 trains for 10 steps" in message
    assert "normalise the inputs" in message
    assert "limits" in message
    assert isinstance(caught.value, LrtuneError)
    assert min(fake.trained()) == 1e-7


def test_rates_that_all_fail_make_the_grid_grow_down_until_one_does_not():
    found = found_by(Fake(valley(0.01), fails=above(3e-6)))
    assert "every coarse rate failed: added 1e-05" in found.notes
    assert 5e-7 < found.lr < 3e-6


# --- the longer run -------------------------------------------------------------------------------


def test_the_answer_is_trained_for_the_full_length_in_every_seed():
    fake = Fake(valley(0.013))
    found = found_by(fake, seeds=2, seed=5)
    assert fake.calls[-1] == ("verify", [(found.lr, 5), (found.lr, 6)], STEPS, False)
    assert found.checks[["lr", "seed", "outcome", "passed"]].to_numpy().tolist() == [
        [found.lr, 5, "FINISHED", True], [found.lr, 6, "FINISHED", True],
    ]  # fmt: skip
    assert (found.steps, found.horizon) == (STEPS, HORIZON)


def late(limit, outcome="DIVERGED"):
    """Runs at rates above the limit fail, but only in the long run."""
    return lambda rate, _seed, steps: outcome if rate > limit and steps > HORIZON else None


@pytest.mark.parametrize("outcome", ["DIVERGED", "NONFINITE"])
def test_a_rate_that_fails_only_in_the_long_run_is_stepped_down_from(outcome):
    fake = Fake(valley(0.013), fails=late(0.004, outcome))
    found = found_by(fake)
    assert found.lr == pytest.approx(0.0106 / 4, rel=0.01)
    assert found.verified
    verified = [(runs[0][0], steps) for stage, runs, steps, _ in fake.calls if stage == "verify"]
    assert verified == [(0.0106, STEPS), (0.0053, STEPS), (0.00265, STEPS)]
    said = [note for note in found.notes if "lowered to" in note]
    assert said == [
        "0.0106 was unstable over 40 steps in 3 of 3 seeds, though not over 10: lowered to 0.0053",
        "0.0053 was unstable over 40 steps in 3 of 3 seeds, though not over 10: lowered to 0.00265",
    ]
    assert found.checks["passed"].tolist() == [False] * 6 + [True] * 3
    assert found.frame.set_index("lr").loc[0.013, "verdict"] == "high"


def test_a_loss_that_rises_in_the_long_run_is_stepped_down_from():
    """It did not diverge, but ended above where the short run ended."""
    found = found_by(Fake(valley(0.013), long=lambda rate: 0.3 if rate > 0.01 else -0.1))
    assert found.lr == 0.0053
    assert (found.checks["outcome"] == "FINISHED").all()
    assert found.checks["passed"].tolist() == [False] * 3 + [True] * 3


def test_one_unstable_seed_is_enough():
    def fails(rate, seed, steps):
        return "DIVERGED" if rate > 0.01 and seed == 2 and steps > HORIZON else None

    found = found_by(Fake(valley(0.013), fails=fails))
    assert found.lr == 0.0053
    assert "in 1 of 3 seeds" in found.notes[0]


def test_it_steps_down_below_everything_that_was_trained():
    fake = Fake(valley(0.013), fails=late(3e-6))
    found = found_by(fake)
    assert 1.5e-6 < found.lr <= 3e-6
    assert found.verified
    assert found.frame.set_index("lr").loc[found.lr, "verdict"] == "good"


def test_at_the_limit_it_says_that_nothing_was_stable():
    found = found_by(Fake(valley(0.013), fails=late(0.0)), limits=(1e-4, 1.0))
    assert not found.verified
    assert 1e-4 <= found.lr < 2e-4
    assert not found.checks["passed"].any()
    assert "Not stable over all 40 steps" in found.confidence


# --- verdicts -------------------------------------------------------------------------------------


def test_every_rate_gets_a_verdict():
    """Worse than the start is diverged, though the run finished."""
    score = {0.0001: 1.9, 0.001: 0.9, 0.003162: 0.7, 0.03162: 0.8, 0.1: 2.5, 1.0: 3.0}
    found = found_by(Fake(lambda rate: score.get(rate, 0.5)))
    low, high = found.interval
    assert 0.001 < low < 0.008 < high < 0.03162
    verdicts = found.frame.set_index("lr")["verdict"]
    assert verdicts[[0.0001, 0.001]].tolist() == ["too low"] * 2
    assert verdicts[0.008] == "good"
    assert verdicts[0.03162] == "high"
    assert verdicts[0.1] == "diverged"


@pytest.mark.parametrize(
    ("rate", "lost", "expected"),
    [
        (0.001, False, "too low"),
        (0.001, True, "too low"),
        (0.01, False, "good"),
        (0.02, True, "good"),
        (0.03, False, "high"),
        (0.03, True, "diverged"),
    ],
)
def test_a_verdict_is_in_the_words_of_the_lecture(rate, lost, expected):
    assert verdict(rate, [0.01, 0.02], lost=lost) == expected


# --- arguments and records ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"steps": 2.5}, "got 2.5"),
        ({"seeds": 0}, "seeds must be a whole number >= 1, got 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"horizon": 0}, "horizon must be a whole number >= 1, got 0"),
        ({"horizon": 99}, "horizon=99 is longer than steps=40"),
        ({"coarse": ()}, "the coarse grid is empty"),
        ({"coarse": (0.1, -1.0)}, "a coarse rate must be a finite number > 0, got -1.0"),
        ({"coarse": (0.1, math.nan)}, "a coarse rate must be a finite number > 0, got nan"),
        ({"coarse": (0.1, 20.0)}, "leaves the limits 1e-07 ... 10"),
        ({"fine": (0.0, 1.0)}, "a fine factor must be a finite number > 0, got 0.0"),
        ({"limits": (1.0, 1e-3)}, "leaves the limits 1 ... 0.001"),
        ({"limits": (-1.0, 1.0)}, "a limit must be a finite number > 0, got -1.0"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_trains(wrong, told):
    fake = Fake(valley(0.01))
    with pytest.raises(ArgumentError) as caught:
        found_by(fake, **wrong)
    assert told in str(caught.value)
    assert not fake.calls


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 400])
def test_the_short_runs_last_a_quarter_when_nothing_is_said(steps):
    found = search(TASK, steps=steps, budget=math.inf, evaluate=Fake(valley(0.01)))
    assert found.horizon == max(1, round(steps / 4))


def test_the_tables_have_their_columns():
    found = found_by(Fake(valley(0.01), fails=above(1.0), noise=0.01))
    for columns, frame in (
        (RATES, found.frame),
        (SCORES, found.scores),
        (CURVES, found.curves),
        (CHECKS, found.checks),
    ):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns
    assert len(found.scores) == 3 * len(found.frame)
    assert len(found.curves) == HORIZON * len(found.scores)
    assert found.manifest["coarse"] == "0.0001, 0.001, 0.01, 0.1"


@law(
    few=6,
    cases=12,
    salt=st.integers(0, 10**6),
    seeds=st.integers(1, 2),
    share=st.sampled_from([0, 0.1, 0.5, 0.9]),
)
def test_whatever_the_scores_it_comes_to_an_end(salt, seeds, share):
    """Scores that have nothing to do with the rate; a share of the runs fails."""

    def chance(*what):
        told = " ".join(f"{one:.6g}" for one in (*what, salt))
        return np.random.default_rng(zlib.crc32(told.encode())).random()

    def fails(rate, seed, steps):
        """What fails in the short run does so in the long run, too."""
        lost = chance(rate, seed) < share or (steps > HORIZON and chance(rate, seed, 1) < share)
        return "DIVERGED" if lost else None

    fake = Fake(chance, fails=fails)
    grids = {"coarse": (0.1, 0.01), "fine": (0.8, 1.0, 1.25), "limits": (1e-3, 1.0)}
    try:
        found = found_by(fake, seeds=seeds, **grids)
    except SearchError:
        assert share > 0
        return
    assert 0.9e-3 < found.lr < 1.1
    assert found.frame["verdict"].isin(["too low", "good", "high", "diverged"]).all()
    assert found.verified == bool(found.checks["passed"].iloc[-seeds:].all())
    assert not found.verified or found.frame.set_index("lr").loc[found.lr, "verdict"] == "good"


# --- on the real thing ----------------------------------------------------------------------------


def real(seed):
    brought = Task(zoo.MODELS["dropout"], zoo.DATA["loader"](), val=zoo.vectors())
    grids = {"coarse": (0.1, 0.01), "fine": (0.8, 1.0, 1.5)}
    return search(brought, steps=16, seeds=2, seed=seed, budget=math.inf, **grids)


def test_the_same_seed_gives_the_same_answer():
    assert real(0).to_json() == real(0).to_json() != real(1).to_json()


def test_its_short_runs_are_those_that_train_gives():
    brought = Task(zoo.MODELS["dropout"], zoo.vectors(), batch_size=8)
    found = search(brought, steps=16, seeds=2, coarse=(0.1, 0.01), fine=(1.0,), budget=math.inf)
    trace = train(brought, [Run("a", 0.01, seed=1)], found.horizon)
    ours = found.curves[(found.curves["lr"] == 0.01) & (found.curves["seed"] == 1)]
    assert ours["loss"].tolist() == trace.frame["loss"].tolist()


def test_progress_is_told():
    told = []
    search(bowl(4.0), steps=12, seeds=1, budget=math.inf, progress=lambda *one: told.append(one))
    assert list(dict.fromkeys(stage for stage, _, _ in told))[:3] == ["coarse", "between", "fine"]
    assert told[-1][0] == "verify"
    assert all(done <= total for _, done, total in told)
