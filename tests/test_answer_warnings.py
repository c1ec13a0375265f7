"""`warnings` of results: what counts against an answer comes first, and a sound one has none."""

import json
import math
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from reporting import SAMPLES, a_search, a_sweep
from torch import nn

from lrtune import Run, Task, compare, range_test, report, search
from lrtune.analysis.scores import Scale
from lrtune.cli.answer_json import answer_object
from lrtune.cli.answers import print_results
from lrtune.demo import digits, images
from lrtune.errors import AnswerWarning, SearchError
from lrtune.results import ComparisonResult, read
from lrtune.testing import bowl
from lrtune.tuning.answer import assemble
from lrtune.tuning.answer_warnings import seed_warnings
from lrtune.tuning.history import Measured
from lrtune.tuning.scoring import Scoring
from tests.sampling import law
from tests.test_range_test import after_each_update, replay
from tests.worlds import Interrupted, World

STEPS = 400


def told(verb, *arguments, **settings):
    """What a verb returns; it warns once of all its warnings, or not at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = verb(*arguments, **settings)
    said = [str(one.message) for one in caught if one.category is AnswerWarning]
    assert said == ([" ".join(result.warnings)] if result.warnings else [])
    assert all(one.filename == __file__ for one in caught), "it is about the line of the caller"
    assert all(not one[0].islower() and one.endswith(".") for one in result.warnings)
    return result


# --- range tests: no rate


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture(scope="module")
def trained():
    """A task whose model is trained already: Adam at 0.003 for 60 epochs."""
    train, val = images()
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        for rows in torch.randperm(len(train[0])).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
    return Task(model, train, val=val, device="cpu")


def test_a_model_that_is_trained_already_has_no_rate(trained):
    """Every rule gave one, and only a column that nobody prints said what it was worth."""
    sweep = told(range_test, trained)
    assert sweep.suggestion is None
    (warning,) = sweep.warnings
    assert warning.startswith("There is no rate: in 3 of 3 sweeps the loss never fell clear of its")
    assert "trained already" in warning
    (again,) = read(sweep.to_json())
    assert (again.suggestion, again.warnings) == (None, sweep.warnings)
    assert again.to_json() == sweep.to_json()


def test_the_same_model_untrained_has_one():
    train, val = images()
    sweep = told(range_test, Task(mlp, train, val=val, device="cpu"))
    assert sweep.suggestion.lr == pytest.approx(0.079, rel=0.02)
    assert sweep.warnings == ()


def test_a_search_of_a_trained_model_says_that_nothing_was_gained(trained):
    found = told(search, trained, steps=200)
    assert found.warnings[0].startswith("No whole training ended clearly below the loss before")


def test_a_comparison_says_what_counts_against_its_search(trained):
    found = search(trained, steps=40, budget=2.5)
    assert found.warnings
    ranked = told(compare, trained, found, schedules=["step"], seeds=2)
    assert ranked.warnings[: len(found.warnings)] == found.warnings


def test_a_dead_model_has_no_rate():
    """The loss depends on its weights, and yet nothing moves it."""
    data = torch.randn(64, 3), torch.randn(64, 1)

    def dead(output, target):
        return (0 * output + target).square().mean()

    task = Task(nn.Linear(3, 1), data, loss=dead, device="cpu")
    assert told(range_test, task, seeds=2).suggestion is None


@pytest.mark.parametrize("low", [1e-4, 1e-2])
def test_a_sweep_that_begins_too_high_has_no_rate(low):
    sweep = told(range_test, bowl(curvature=1e6), low=low)  # diverges above 2e-6
    assert sweep.suggestion is None
    assert "in 3 of 3 sweeps the loss was not finite, or exploded, from" in sweep.warnings[0]
    assert "(lower `low`)" in sweep.warnings[0]


def test_a_loss_that_is_never_finite_again_has_no_rate():
    evaluate = replay(after_each_update(lambda before: np.nan if len(before) else 1.0))
    sweep = told(range_test, bowl(), evaluate=evaluate)
    assert sweep.suggestion is None
    assert "(lower `low`)" in sweep.warnings[0]


# --- range tests: a rate, and what counts against it


def falling(edges, level=()):
    """An evaluator whose loss falls, by seed, until the rate is at an edge; not for some seeds."""

    def swept(seed, rates):
        before = np.concatenate([[1e-30], rates[:-1]])
        noise = np.random.default_rng(seed).normal(size=len(rates)) * 0.01
        if seed in level:
            return 2.3 + noise
        losses = 2.3 - 2 / (1 + (edges[seed] / 20 / before) ** 2) + noise
        return np.where(before > edges[seed], losses + 100 * before / edges[seed], losses)

    return replay(swept, lambda seed, rates: np.full(len(rates), 2.3))


def test_seeds_that_agree_need_no_word():
    sweep = told(range_test, bowl(), evaluate=falling([0.1, 0.2, 0.4]))
    assert sweep.warnings == ()


def test_seeds_that_lie_decades_apart_are_named():
    sweep = told(range_test, bowl(), evaluate=falling([0.1, 1e-3, 0.4]))
    (warning,) = sweep.warnings
    assert warning.startswith("The seeds disagree: seed 1 suggests 0.000")
    assert ", and seed 2 0.0" in warning


def test_a_level_curve_is_told_and_most_of_them_are_no_answer():
    def swept(level, seeds):
        evaluate = falling([0.1] * seeds, level)
        return told(range_test, bowl(), seeds=seeds, evaluate=evaluate)

    half, most, one = swept([1], 2), swept([0, 2], 3), swept([2], 3)
    assert half.suggestion is not None
    assert half.warnings[0].startswith("In 1 of 2 sweeps the loss never fell clear of its noise")
    assert most.suggestion is None
    assert most.warnings[0].startswith("There is no rate: in 2 of 3 sweeps the loss never fell")
    assert "seed 2: the loss never fell clear of its noise" in one.notes
    apart = one.answers.groupby("seed")["lr"].median()
    disagree = apart.max() >= 10 * apart.min()
    assert any("seeds disagree" in warning for warning in one.warnings) == disagree


def test_a_best_rate_at_either_end_of_the_sweep_is_told():
    high = told(range_test, bowl(4.0), high=0.1)
    assert any("raise `high`" in warning for warning in high.warnings)
    low = told(range_test, bowl(4.0), low=0.2)
    assert any("below the lowest one that was swept, 0.2" in warning for warning in low.warnings)


def test_too_few_steps_are_told():
    (warning,) = told(range_test, bowl(4.0), steps=60, seeds=1).warnings
    assert warning.startswith("The sweep has 8.6 steps per decade")


@law(
    few=5,
    cases=60,
    curvature=st.floats(0.0, 4.0).map(lambda power: 10**power),
    noise=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_a_sound_sweep_has_no_warning(curvature, noise):
    assert told(range_test, bowl(curvature, noise)).warnings == ()


@law(few=5, cases=40, shift=st.floats(-1e3, 1e3), power=st.integers(-6, 6))
def test_units_of_the_loss_change_no_warning_of_a_sweep(shift, power):
    kinds = [falling([0.1, 1e-3, 0.4]), falling([0.1] * 3, [0]), falling([0.1] * 3, [0, 1])]
    for inner in kinds:

        def in_other_units(runs, steps, inner=inner, **more):
            trace = inner(runs, steps, **more)
            losses = trace.frame["loss"] * 2.0**power + shift
            return replace(trace, frame=trace.frame.assign(loss=losses))

        plain, other = (
            told(range_test, bowl(), evaluate=one).warnings for one in (inner, in_other_units)
        )
        assert [one.split()[:4] for one in plain] == [one.split()[:4] for one in other]


# --- searches


@dataclass
class Moody(World):
    """A world in which whole trainings of some seeds fail, learn nothing, or end high."""

    fails: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()
    worse: dict[int, float] = field(default_factory=dict)

    def losses(self, run, steps, end):
        losses, outcome = super().losses(run, steps, end)
        if end < steps or run.name.startswith("untrained"):
            return losses, outcome
        if run.seed in self.fails:
            return self.told(np.array([self.start, 9.0, 99.0, math.nan])), "NONFINITE"
        if run.seed in self.idle:
            return self.told(np.full(end, self.start)), ""
        return losses * self.worse.get(run.seed, 1.0), outcome


def searched(world, **settings):
    return told(search, steps=STEPS, evaluate=world, **settings)


@law(
    few=10,
    cases=100,
    world=st.builds(
        World,
        best=st.floats(-8.0, 0.0).map(math.exp),
        noise=st.floats(0.0, 0.2),
        validates=st.booleans(),
        scale=st.sampled_from([1e-6, 1.0, 1e6]),
    ),
)
def test_a_sound_search_has_no_warning(world):
    assert searched(world).warnings == ()


@pytest.mark.slow
def test_the_embedded_digits_have_no_warning():
    assert told(search, digits("cpu")).warnings == ()
    assert told(range_test, digits("cpu")).warnings == ()


@pytest.mark.parametrize(("limits", "edge"), [((1e-5, 0.1), "highest"), ((0.1, 1.0), "lowest")])
def test_a_best_rate_at_a_limit_is_told(limits, edge):
    world = World(best=3.0 if edge == "highest" else 0.02)
    (warning,) = searched(world, limits=limits, coarse=[limits[0], limits[1]]).warnings
    assert warning.startswith(f"The best rate lies at the {edge} one allowed, 0.1,")


def test_an_answer_that_nothing_verifies_is_told_unless_that_was_asked_for():
    (warning,) = searched(World(), budget=0.9).warnings
    assert warning.startswith("No whole training was made to verify the answer, as the budget")
    assert searched(World(), rate_only=True).warnings == ()


def test_seeds_that_fail_near_the_answer_are_counted():
    """With a seed that fails at the best peak, a search goes lower, until nothing fails there."""
    assert searched(Moody(fails=(2,)), around=0.05, min_gain=0.0, budget=6).warnings == ()
    runs = [
        Measured(Run(f"a {seed}", lr, seed=seed), "fine", 9, 9, outcome)
        for seed, (lr, outcome) in enumerate(
            [(0.1, "DIVERGED"), (0.1, "FINISHED"), (1.0, "NONFINITE")]
        )
    ]
    assert list(seed_warnings(runs, Scoring(Scale(None)), 0.12)) == [
        "1 of 2 whole trainings near lr 0.12 diverged."
    ]


def test_seeds_that_learn_nothing_where_others_do_are_counted():
    found = searched(Moody(idle=(2,)), around=0.05, min_gain=0.0, budget=6)
    assert any("learned nothing: it depends on the seed" in one for one in found.warnings)


@pytest.mark.parametrize(("factor", "said"), [(15.0, True), (3.0, False)])
def test_seeds_that_end_far_apart_are_told(factor, said):
    world = Moody(worse={2: factor})
    floor = Task(nn.Linear(1, 1), (2 * torch.randn(99, 1),) * 2, loss=nn.MSELoss(), device="cpu")
    found = told(search, floor, steps=STEPS, evaluate=world, around=0.05, min_gain=0.0, budget=6)
    assert any(one.startswith("The seeds disagree") for one in found.warnings) == said


def test_a_wide_interval_is_told(monkeypatch):
    found = searched(World())
    low, high = found.interval
    monkeypatch.setattr("lrtune.tuning.answer_warnings.WIDE", 0.99 * high / low)
    (warning,) = searched(World()).warnings
    assert warning.endswith(f"its 90 % interval is {low:.2g} to {high:.2g}.")


def test_an_interrupted_search_says_so_once():
    calls = World()
    searched(calls)
    last = Interrupted(World(), len(calls.calls) - 1)
    warning = searched(last).warnings[0]
    assert warning.startswith("The search was interrupted after ")


def test_what_is_known_before_anything_trains_comes_first(monkeypatch):
    def assembled(*arguments, **_):
        return assemble(*arguments, warnings=["It is known already."])

    monkeypatch.setattr("lrtune.tuning.search.assemble", assembled)
    limited = searched(World(best=3.0), limits=(1e-5, 0.1)).warnings
    assert limited[0] == "It is known already."
    assert len(limited) == 2


def test_the_evidence_of_an_error_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SearchError):
            search(steps=STEPS, evaluate=World(learns=False))


# --- comparisons


def compared(world, **settings):
    return told(compare, None, 0.05, schedules=["step"], steps=STEPS, evaluate=world, **settings)


def test_a_sound_comparison_has_no_warning():
    assert compared(World(noise=0.05)).warnings == ()


def test_failed_trainings_of_the_recommended_schedule_are_counted():
    ranked = compared(Moody(fails=(1,)))
    assert ranked.warnings == ("1 of 3 whole trainings near lr 0.05 diverged.",)


def test_an_interrupted_comparison_says_so():
    (warning,) = compared(Interrupted(World(), 0)).warnings
    assert warning.startswith("The comparison was interrupted after 0.00 of 6.00 trainings")


# --- where they are shown


def test_the_terminal_shows_them_before_the_answer(capsys):
    results = [replace(a_search(), warnings=("One thing.", "Another."))]
    print_results(results)
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["Warning         One thing.", "Warning         Another."]
    assert said[3].startswith("lr 0.02 with trapezoid")


def test_two_results_say_the_same_thing_once(capsys):
    ranked = replace(SAMPLES[ComparisonResult]("one-cycle"), warnings=("One thing.", "Another."))
    print_results([replace(a_search(), warnings=("One thing.",)), ranked])
    assert capsys.readouterr().out.count("One thing.") == 1


@pytest.mark.parametrize("sample", [a_search(), a_sweep(), SAMPLES[ComparisonResult]("cosine")])
def test_json_has_them_and_a_sound_answer_has_none(sample):
    assert answer_object([replace(sample, warnings=("One.",))])["warnings"] == ["One."]
    assert answer_object([replace(sample, warnings=())])["warnings"] == []


@pytest.mark.parametrize("sample", [a_search(), a_sweep(), SAMPLES[ComparisonResult]("cosine")])
def test_the_report_has_them_at_the_top_of_the_section(sample, tmp_path):
    page = report(replace(sample, warnings=("Beware of <this>.",)), tmp_path / "page.html")
    text = page.read_text()
    section = text[text.index("<main>") :]
    assert section.index("Beware of &lt;this&gt;.") < section.index('<p class="lead">')
    plain = report(replace(sample, warnings=()), tmp_path / "plain.html").read_text()
    assert 'class="warnings"' not in plain


TRAINED = """
import torch
from torch import nn
import lrtune

torch.manual_seed(0)
data = torch.randn(64, 3), torch.randn(64, 1)
task = lrtune.Task(
    nn.Linear(3, 1), data, loss=lambda output, target: (0 * output + target).square().mean(),
    device="cpu",
)
"""


def test_a_range_test_without_a_rate_fails_with_the_reason_in_its_first_line(run):
    Path("dead.py").write_text(TRAINED)
    command = ["range-test", "dead.py", "--seeds", "2", "--no-study"]
    result = run(*command)
    assert result.exit_code == 1
    first = " ".join(result.stdout.split())
    assert first.startswith("Warning There is no rate: in 2 of 2 sweeps the loss never fell clear")
    assert "Range test no rate" in first
    assert "AnswerWarning" not in result.output
    answer = json.loads(run(*command, "--json").stdout)
    assert (answer["lr"], answer["interval"]) == (None, None)
    assert answer["warnings"][0].startswith("There is no rate")
    page = Path("report.html").read_text()
    assert "No rate is shown to train this model" in page
    assert run("report", "report.html", "--out", "again.html").exit_code == 0
