"""The comparator on planted curves, where the truth is known, and on a real task."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

import lrtune
from lrtune import Task, schedules
from lrtune.analysis.rate_estimate import UNDERTRAINED_SHIFT
from lrtune.analysis.scores import Scale
from lrtune.demo import digits, images
from lrtune.errors import ArgumentError, ScheduleError, SearchError
from lrtune.testing import Bowl, bowl
from lrtune.tuning import candidates
from lrtune.tuning.summary import summarize
from tests.planted import hashed_run, planted

FIVE = ["constant", "linear", "cosine", "step", "rex"]


@pytest.fixture(scope="module")
def task():
    return bowl(1.0)


def compare(task, evaluate, **settings):
    given = {"schedules": FIVE, "steps": 32, "samples": 0, "evaluate": evaluate} | settings
    return lrtune.compare(task, given.pop("lr", 0.1), **given)


def better(name, by):
    return lambda text, steps: 1.0 - by * text.startswith(name)


@pytest.mark.slow
def test_a_schedule_that_is_truly_better_is_named_in_95_of_100_seeds(task):
    evaluate = planted(better("cosine", by=0.05))
    named = [compare(task, evaluate, seed=100 * k).winner for k in range(100)]
    assert named.count("cosine") >= 95
    assert set(named) <= {"cosine", ""}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("known", "recommended"), [({}, "constant"), ({"rex": 0.9, "cosine": 0.8}, "cosine")]
)
def test_equal_schedules_are_a_tie_in_95_of_100_seeds(task, monkeypatch, known, recommended):
    monkeypatch.setattr(candidates, "BENCHMARK_LOSS_RATIO", known)
    evaluate = planted(better("none", by=0.0))
    ranked = [compare(task, evaluate, seed=100 * k) for k in range(100)]
    assert [one.winner for one in ranked].count("") >= 95
    said = [one.schedule for one in ranked]
    assert max(set(said), key=said.count) == recommended


@pytest.mark.parametrize(("by", "winner"), [(0.05, "cosine"), (0.0, "")])
def test_most_of_eight_seeds_tell_a_better_schedule_from_a_tie(task, by, winner):
    """A sample of the slow laws above."""
    evaluate = planted(better("cosine", by=by))
    named = [compare(task, evaluate, seed=100 * k).winner for k in range(8)]
    assert named.count(winner) >= 6
    assert set(named) <= {winner, ""} or not by


def test_of_ties_the_one_that_did_best_elsewhere_is_recommended_and_that_is_said(task):
    evaluate = planted(better("none", by=0.0))
    ranked = compare(task, evaluate, schedules=["trapezoid"])
    assert ranked.schedule == "trapezoid"
    assert ranked.because.startswith("Tied with ")
    assert ranked.because.endswith("; trapezoid had the lowest loss of them in the benchmark.")
    ranked = compare(task, evaluate, schedules=["trapezoid", "multistep"])
    assert ranked.table["tied"].all()
    assert "of the 4 that are in the benchmark, trapezoid had the lowest loss" in ranked.because


@pytest.mark.slow
def test_the_truth_is_within_the_corrected_intervals_in_85_of_100_seeds(task):
    levels = {"constant": 1.0, "linear": 0.9, "cosine": 0.95, "step": 0.97, "rex": 0.9}
    evaluate = planted(lambda text, steps: levels[text.partition("(")[0]])
    held = 0
    for k in range(100):
        table = compare(task, evaluate, seed=100 * k).table.set_index("schedule")
        truth = [levels[name] - levels[table.index[0]] for name in table.index[1:]]
        rows = table.iloc[1:]
        held += all((rows["low"] <= truth) & (truth <= rows["high"]))
    assert held >= 85


def test_each_schedule_is_judged_between_its_own_best_rate_and_the_likely_one(task):
    best = {"cosine": 1.0}
    evaluate = planted(better("none", by=0.0), noise=1e-4)

    def at_its_best(runs, steps, *, stage, validate=None):
        shift = [0.1 / best.get(repr(run.schedule).partition("(")[0], 0.1) for run in runs]
        moved = [
            lrtune.Run(r.name, r.lr * by, r.schedule, r.seed)
            for r, by in zip(runs, shift, strict=True)
        ]
        trace = evaluate(moved, steps, stage=stage, validate=validate)
        trace.runs["lr"] = [run.lr for run in runs]
        return trace

    table = compare(task, at_its_best).table.set_index("schedule")
    early = UNDERTRAINED_SHIFT**0.5  # half of the loss is left
    for name, likely, own in [("cosine", 0.16, 1.0), ("linear", 0.16, 0.1), ("constant", 0.1, 0.1)]:
        between = likely ** (2 / 3) * (own * early) ** (1 / 3)
        assert table.loc[name, "lr"] == pytest.approx(between, rel=0.02)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 10.0])
def test_peaks_do_not_depend_on_the_unit_of_the_rate(task, factor):
    def peaks(by):
        evaluate = planted(better("cosine", by=0.05), best=0.2 * by, noise=1e-6)
        return compare(task, evaluate, lr=0.1 * by, limits=(1e-9, 1e3)).table.set_index("schedule")

    one, other = peaks(1.0), peaks(factor)
    assert (other["lr"] / factor).to_dict() == pytest.approx(one["lr"].to_dict(), rel=0.01)
    assert other["final"].to_dict() == pytest.approx(one["final"].to_dict(), abs=1e-3)


def test_a_rate_that_was_found_too_high_or_too_low_moves_the_peaks_by_two_thirds(task):
    def peak(lr):
        evaluate = planted(better("cosine", by=0.05), noise=1e-6)
        return compare(task, evaluate, lr=lr).table.set_index("schedule").loc["linear", "lr"]

    assert peak(0.2) / peak(0.1) == pytest.approx(2 ** (2 / 3), rel=0.02)
    assert peak(0.05) / peak(0.1) == pytest.approx(2 ** (-2 / 3), rel=0.02)


def test_samples_are_tried_at_the_peak_and_optuna_is_told_in_between(task):
    evaluate = planted(better("linear", by=0.05))
    ranked = compare(task, evaluate, schedules=["one-cycle"], samples=6)
    tried = ranked.candidates[ranked.candidates["schedule"] == "one-cycle"]
    sampled = tried[tried["call"] != repr(schedules.SCHEDULES["one-cycle"]())]
    assert sampled["call"].nunique() == 6
    assert sampled["lr"].nunique() == 1
    rounds = [runs for stage, runs, _ in evaluate.calls if stage == "compare: horizon 1"]
    sizes = [sum("one_cycle" in text for *_, text in runs) / 3 for runs in rounds]
    assert sizes == [4, 3], "the defaults and three samples, then the rest"


def test_what_diverges_on_the_fresh_seeds_steps_down_but_not_below_the_limits(task):
    def fails(run, steps):
        return steps == 8 and run.seed == 5 and repr(run.schedule).startswith("step")

    evaluate = planted(better("linear", by=0.05), fails=fails)
    ranked = compare(task, evaluate, limits=(0.02, 1.0))
    tried = ranked.candidates[ranked.candidates["schedule"] == "step"]
    final = tried[tried["horizon"] == 8]["lr"].tolist()
    assert final == pytest.approx([final[0], final[0] / math.sqrt(10)], rel=0.01)
    assert min(final) >= 0.02 > min(final) / math.sqrt(10)
    assert not any("lowered" in note for note in ranked.notes), "it failed at both"


def test_a_step_down_that_holds_is_told(task):
    def fails(run, steps):
        failing = run.seed == 5 and run.lr > 0.1 and repr(run.schedule).startswith("step")
        return steps == 8 and failing

    ranked = compare(task, planted(better("linear", by=0.05), fails=fails))
    row = ranked.table.set_index("schedule").loc["step"]
    assert (row["failed"], row["lr"] < 0.1) == (0, True)
    (told,) = [note for note in ranked.notes if "lowered" in note]
    assert f"step from {row['lr'] * math.sqrt(10):.2g}" in told
    assert told.endswith(f"to {row['lr']:.3g}")


def test_the_rate_grid_grows_at_both_edges_and_stops_at_the_limits(task):
    up = compare(task, planted(better("", by=0.0), best=1.0), limits=(1e-3, 0.5))
    assert up.candidates["lr"].max() == pytest.approx(0.316)
    down = compare(task, planted(better("", by=0.0), best=1e-6))
    assert down.candidates["lr"].min() == pytest.approx(0.1 / math.sqrt(10) ** 4, rel=1e-2)


def test_runs_are_complete_schedules_on_growing_horizons(task):
    evaluate = planted(better("cosine", by=0.05))
    ranked = compare(task, evaluate, steps=64)
    assert list(ranked.stability["horizon"]) == [4, 8]
    horizons = [steps for stage, _, steps in evaluate.calls if "pilot" not in stage]
    assert horizons == sorted(horizons)
    assert ranked.horizon == 16
    assert ranked.steps == 64


def test_horizons_before_the_loss_falls_are_left_out(task):
    evaluate = planted(better("cosine", by=0.05))

    def slow(runs, steps, *, stage, validate=None):
        trace = evaluate(runs, steps, stage=stage, validate=validate)
        falls = trace.frame["step"] >= 7
        trace.frame["loss"] = trace.frame["loss"].where(falls, 2.0)
        return trace

    ranked = compare(task, slow, steps=64)
    assert list(ranked.stability["horizon"]) == [8]


def test_a_late_bloomer_is_not_dropped_for_being_behind_early(task):
    def level(text, steps):
        return (3.0 if steps < 8 else 0.5) if text.startswith("rex") else 1.0

    assert compare(task, planted(level)).table["schedule"][0] == "rex"


def test_judging_seeds_are_fresh(task):
    evaluate = planted(better("cosine", by=0.05))
    compare(task, evaluate, seed=7, seeds=4)
    chosen = {seed for stage, runs, _ in evaluate.calls[:-1] for _, seed, _ in runs}
    judged = {seed for _, seed, _ in evaluate.calls[-1][1]}
    assert len(judged) == 4
    assert not chosen & judged
    assert min(chosen) == 7


def test_horizons_that_disagree_leave_no_winner(task):
    order = {name: place for place, name in enumerate(FIVE)}

    def level(text, steps):
        place = order[text.partition("(")[0]]
        return 1.0 + 0.1 * (place if steps >= 8 else -place)

    ranked = compare(task, planted(level))
    assert ranked.winner == ""
    assert ranked.stability["tau"].iloc[0] < 0
    assert any("no winner is named" in note for note in ranked.notes)
    assert any("longer runs (in Python, horizon=16)" in note for note in ranked.notes)


def test_a_schedule_that_fails_is_last_and_costs_nobody_else_the_race(task):
    evaluate = planted(
        better("linear", by=0.05), fails=lambda run, steps: repr(run.schedule).startswith("step")
    )  # fmt: skip
    table = compare(task, evaluate).table
    assert table["schedule"].iloc[-1] == "step"
    assert table["failed"].iloc[-1] == 5
    assert math.isnan(table["final"].iloc[-1])
    assert not table["tied"].iloc[-1]
    assert table["schedule"].iloc[0] == "linear"


def test_when_every_schedule_fails_that_is_said(task):
    with pytest.raises(SearchError, match="Give a lower lr"):
        compare(task, planted(better("", by=0.0), fails=lambda run, steps: True))


@pytest.mark.parametrize("names", [("b#0@0.1/3", "b/a@", "#/@ 1"), ("c", "b", "a")])
@pytest.mark.parametrize("hashed", [False, True])
def test_names_of_schedules_and_runs_are_only_labels(task, monkeypatch, names, hashed):
    """Whatever they are, the table, the curves and the recommendation stay the same."""
    shapes = [schedules.cosine(floor=0.1), schedules.rex(), lambda progress: 1 - progress**3]

    def fails(run, steps):
        return run.seed == 4 and steps == 8 and "lambda" in repr(run.schedule)

    def ranked(names):
        own = dict(zip(names, shapes, strict=True))
        result = compare(task, planted(better("cosine(floor", by=0.05), fails=fails), schedules=own)
        return {k: v for k, v in result.to_dict().items() if k not in texts}

    texts = {"because", "notes", "manifest"}
    expected = ranked(["mine/1", "mine/2", "mine/3"])
    if hashed:
        monkeypatch.setattr("lrtune.tuning.candidates.Run", hashed_run)
    renamed = json.dumps(ranked(names))
    for place, name in enumerate(names, start=1):
        renamed = renamed.replace(json.dumps(name), f'"mine/{place}"')
    assert json.loads(renamed) == expected


def test_the_baselines_are_always_in(task):
    ranked = compare(task, planted(better("rex", by=0.1)), schedules=["rex"])
    assert set(ranked.table["schedule"]) == {"constant", "linear", "cosine", "rex"}


def test_schedules_of_ones_own_take_part(task):
    def mine(progress):
        return 1 - progress**3

    own = {"mine": mine, "on-plateau": schedules.ReduceOnPlateau()}
    ranked = compare(task, planted(better("mine", by=0.05)), schedules=own, samples=5)
    assert ranked.winner == "mine"
    tried = ranked.candidates[ranked.candidates["horizon"] == ranked.horizon // 2]
    assert tried["schedule"].value_counts()[list(own)].tolist() == [1, 1], "nothing to sample"
    with pytest.raises(ArgumentError):
        ranked.snippet()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda progress: math.nan if progress > 0.5 else 1.0, "'bad' at step"),
        (lambda progress: 0.5 - progress, "finite multiplier >= 0"),
        (lambda progress: 1 / progress, "ZeroDivisionError"),
    ],
)
def test_a_bad_schedule_is_named_with_its_step_before_anything_trains(task, bad, says):
    bad.__name__ = "bad"
    evaluate = planted(better("", by=0.0))
    with pytest.raises(ScheduleError, match="step") as raised:
        compare(task, evaluate, schedules={"bad": bad})
    assert says in str(raised.value)
    assert evaluate.calls == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.0}, "lr must be a finite number > 0, got 0.0"),
        ({"lr": 100.0}, "lies outside the limits"),
        ({"schedules": ["cosin"]}, "no schedule is called 'cosin'. Closest: cosine"),
        ({"schedules": "cosine"}, "expected a list"),
        ({"seeds": 0}, "seeds must be a whole number >= 1"),
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"samples": -1}, "samples must be a whole number >= 0"),
        ({"horizon": 64}, "is longer than steps"),
    ],
)
def test_wrong_settings_are_told_before_anything_trains(task, settings, says):
    evaluate = planted(better("", by=0.0))
    with pytest.raises(ArgumentError) as raised:
        compare(task, evaluate, **settings)
    assert says in str(raised.value)
    assert evaluate.calls == []


def test_on_a_real_task_it_ranks_hands_out_code_and_repeats_itself():
    settings = {"schedules": ["one-cycle", "reduce-on-plateau"], "steps": 64, "seeds": 2}
    ranked = lrtune.compare(digits("cpu"), 0.05, **settings)
    again = lrtune.compare(digits("cpu"), 0.05, **settings)
    assert ranked.to_json() == again.to_json()
    assert sorted(ranked.table["rank"]) == [1, 2, 3, 4, 5]
    total = ranked.table["cost"].sum()
    assert total >= len(ranked.candidates) * 4
    assert "optimizer" in ranked.snippet()
    assert set(ranked.paths["schedule"]) == set(ranked.table["schedule"])


def test_the_snippet_gives_the_rates_that_the_comparison_used():
    import torch

    ranked = lrtune.compare(digits("cpu"), 0.05, schedules=["rex"], steps=48, seeds=2, horizon=48)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=ranked.lr, momentum=0.9)
    scope = {"optimizer": optimizer}
    exec(ranked.snippet(), scope)  # noqa: S102 - as a user would paste it
    rates = []
    for _ in range(48):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scope["scheduler"].step()
    paths = ranked.paths[ranked.paths["schedule"] == ranked.schedule]
    used = paths[paths["seed"] == paths["seed"].min()]["lr"]
    assert rates == pytest.approx(used.tolist(), rel=1e-9)


# --- where zero is ------------------------------------------------------------------------------


def test_the_early_decrease_is_a_share_of_the_fall_whatever_was_added_to_the_loss(
    task, monkeypatch
):
    given = []
    monkeypatch.setattr("lrtune.tuning.compare.summarize", lambda *args: given.append(args))
    compare(task, planted(better("cosine", by=0.2), noise=0.0))
    rounds, final, steps, made, scale = given.pop()
    assert scale == task.loss_kind.scale
    tables = {}
    for constant in (0.0, -2.0, 1e6):
        frame = final.trace.frame
        trace = dataclasses.replace(final.trace, frame=frame.assign(loss=frame["loss"] + constant))
        moved = dataclasses.replace(final, trace=trace)
        for floor in (None, constant):
            table = summarize(rounds, moved, steps, made, Scale(floor)).table
            tables[constant, floor] = table.set_index("schedule")["early"]
    # Planted curves fall to 1 and 0.8 from 2, by a factor of e at each step; the first quarter are
    # two losses: 2, and one of which 1 / e of the fall is left.
    shares = {"cosine": (1 - 1 / math.e) / 2, "linear": (1 - 1 / math.e) / 2 / 1.2}
    for name, share in shares.items():
        early = [tables[constant, None][name] for constant in (0.0, -2.0, 1e6)]
        assert early == pytest.approx([share] * 3, rel=0.05)
        assert early == pytest.approx([early[0]] * 3, rel=1e-6)
        known = [tables[constant, constant][name] for constant in (0.0, -2.0, 1e6)]
        assert known == pytest.approx([known[0]] * 3, rel=1e-6)
        assert known[0] < early[0]


def test_losses_whose_steps_hide_what_differs_get_a_note():
    bowls = (
        Task(
            Bowl(4.0).to(dtype),
            [None],
            objective=lambda m, _: m() + 1e6,
            optimizer=SGD,
            device="cpu",
        )
        for dtype in (torch.float32, torch.float64)
    )
    coarse, fine = (compare(one, None, lr=0.2, schedules=["step"], seeds=2) for one in bowls)
    (note,) = [note for note in coarse.notes if "float64" in note]
    assert note.startswith("near 1e+06 the losses have steps of 0.062, 3 % of their whole fall")
    assert not [note for note in fine.notes if "float64" in note]


def test_a_centred_loss_falls_by_no_more_than_all_of_its_fall():
    train, val = images()

    def centred(model, batch):
        return nn.functional.cross_entropy(model(batch[0].flatten(1)), batch[1]) - 2.3026

    brought = Task(lambda: nn.Linear(64, 10), train, val=val, objective=centred, device="cpu")
    table = compare(brought, None, lr=0.3, schedules=["step"], steps=40, seeds=2).table
    assert table["early"].between(0, 1).all()  # 148 % to 527 % of the loss at the start
