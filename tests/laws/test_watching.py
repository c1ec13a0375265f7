"""Runs whose schedule watches the validation loss: the laws of a cohort, for each engine."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrtune import Cohort, Evaluator, Run, Task, compare, search, to_torch, train
from lrtune.errors import ScheduleError
from lrtune.results import read
from lrtune.results.runs import Trace
from lrtune.schedules import ReduceOnPlateau, constant
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped
from tests.sampling import law

STEPS = 24
ENGINES = {"loop": Loop, "vmapped": Vmapped}


def watching(every=3, patience=0.0, **more):
    return ReduceOnPlateau(on="val", every=every, patience=patience, **more)


RUNS = [
    Run("a", 0.3, watching()),
    Run("b", 0.3, watching(5, factor=0.5), seed=1),
    Run("c", 0.3, watching(0.2, patience=0.3)),
    Run("d", 0.03, constant()),
    Run("fails", 1e30, watching()),
]


@functools.cache
def task():
    images, labels = zoo.images()

    def model():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
            nn.Linear(12, 3),
        )  # fmt: skip

    val = images[:21], labels[:21]
    return Task(model, (images, labels), val=val, batch_size=8, device="cpu")


def cohort(runs, engine="loop", **more):
    return Cohort(task(), runs, STEPS, engine=ENGINES[engine](task()), **more)


def rows(trace, name):
    return trace.frame[trace.frame["run"] == name].reset_index(drop=True)


def same(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


# --- solo: a loop as its owner would write it -----------------------------------------------------


def plain_loop(run, steps=STEPS):
    """Rates and losses of torch's own scheduler, stepped with the loss of the selection half."""
    own, losses, rates = task(), [], []
    every, selection = run.schedule.validate_every(steps), own.val_counts["selection"]
    with preserve_random_state():
        state, batches = own.init_state(run.seed, run.lr), own.batches(run.seed)
        scheduler = to_torch(run.schedule, state.optimizer, steps)
        assert isinstance(scheduler, ReduceLROnPlateau)
        for step in range(steps):
            if step and step % every == 0:
                (measured,) = own.validate({"it": state}, selection)["it"]
                scheduler.step(measured.loss)
            rates.append(state.optimizer.param_groups[0]["lr"])
            seed_everything(derive_seed(run.seed, NOISE, step))
            state.optimizer.zero_grad()
            loss = own.loss(state, next(batches))
            loss.backward()
            state.optimizer.step()
            losses.append(loss.item())
    return rates, losses, every, selection


@pytest.mark.parametrize("run", RUNS[:3], ids=lambda run: run.name)
def test_alone_it_is_a_plain_loop_with_torchs_scheduler(run):
    rates, losses, every, selection = plain_loop(run)
    assert len(set(rates)) > 1, "it has to cut, or this shows nothing"
    one = cohort([run]).advance()
    frame = one.trace.frame
    assert frame["loss"].tolist() == losses
    assert frame["lr"].tolist() == pytest.approx(rates, rel=1e-12)
    assert one.val_samples[run.name] == (STEPS - 1) // every * selection


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbours_change_nothing(engine):
    whole = cohort(RUNS, engine).advance().trace
    assert whole.runs.set_index("run")["outcome"]["fails"] != "FINISHED"
    for run in RUNS[:4]:
        alone = cohort([run], engine).advance().trace
        if engine == "loop":
            same(rows(whole, run.name), rows(alone, run.name))
        else:
            one, other = rows(whole, run.name), rows(alone, run.name)
            assert one["loss"].to_numpy() == pytest.approx(other["loss"].to_numpy(), rel=1e-3)
            assert one["lr"].tolist() == other["lr"].tolist()


def test_engines_agree():
    loop, stacked = (cohort(RUNS[:4], engine).advance().trace.frame for engine in ENGINES)
    assert np.allclose(loop["loss"], stacked["loss"], rtol=1e-3)
    assert loop["lr"].tolist() == stacked["lr"].tolist()


@law(
    few=8,
    cases=60,
    stops=st.lists(st.integers(0, STEPS), max_size=5).map(sorted),
    samples=st.sampled_from([None, 3, 10]),
)
def test_pauses_and_validations_between_change_nothing(stops, samples):
    whole, paused = cohort(RUNS).advance(), cohort(RUNS)
    for stop in stops:
        paused.advance(stop).validate(samples)
    same(paused.advance().trace.frame, whole.trace.frame)
    both = task().val_counts["selection"] + task().val_counts["test"]
    each = both if samples is None else samples
    assert paused.val_samples["a"] == whole.val_samples["a"] + each * len(set(stops))


def test_the_random_states_and_the_task_stay_as_they_are():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    inputs, labels = torch.randn(24, 4), torch.arange(24) % 3
    mine = Task(model, (inputs, labels), val=(inputs, labels), batch_size=8, device="cpu")
    before = [one.clone() for one in model.state_dict().values()], torch.get_rng_state()
    train(mine, [Run("a", 0.3, watching(2))], 9)
    assert all(map(torch.equal, before[0], model.state_dict().values()))
    assert before[1].equal(torch.get_rng_state())
    assert model.training


# --- checkpoints ----------------------------------------------------------------------------------


@settings(max_examples=12)
@given(at=st.integers(0, STEPS), run=st.sampled_from(RUNS[:3]))
def test_torch_goes_on_from_a_checkpoint(at, run):
    """With the state of the optimizer and that of the scheduler, as everybody saves them."""
    rates, losses, every, selection = plain_loop(run)
    saved, own = cohort([run]).advance(at).checkpoint(run.name), task()
    assert saved["val_losses"].shape == (max(0, at - 1) // every,)
    with preserve_random_state():
        state, batches = own.init_state(run.seed, run.lr), own.batches(run.seed)
        scheduler = to_torch(run.schedule, state.optimizer, STEPS)
        scheduler.load_state_dict(saved["scheduler"])
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        for _ in range(at):
            next(batches)
        for step in range(at, STEPS):
            if step and step % every == 0:
                (measured,) = own.validate({"it": state}, selection)["it"]
                scheduler.step(measured.loss)
            assert state.optimizer.param_groups[0]["lr"] == pytest.approx(rates[step], rel=1e-12)
            seed_everything(derive_seed(run.seed, NOISE, step))
            state.optimizer.zero_grad()
            loss = own.loss(state, next(batches))
            assert loss.item() == losses[step]
            loss.backward()
            state.optimizer.step()


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=8)
@given(at=st.integers(0, STEPS))
def test_a_cohort_resumes_bit_for_bit(engine, at):
    runs = RUNS[:4]
    whole = cohort(runs, engine).advance(at)
    saved = {run.name: whole.checkpoint(run.name) for run in runs}
    resumed = cohort(runs, engine, resume=saved).advance()
    same(resumed.trace.frame, whole.advance().trace.frame)
    assert resumed.checkpoint("a")["val_losses"].equal(whole.checkpoint("a")["val_losses"])


def test_an_evaluator_counts_what_it_validates_in_any_parts():
    evaluate, counted = Evaluator(task()), 0
    for until in (3, 4, 12, STEPS):
        trace = evaluate(RUNS[:2], STEPS, stage="s", until=until, validate=0)
        counted += int(trace.costs["val_samples"].sum())
        assert trace.validations.empty
    selection = task().val_counts["selection"]
    assert counted == selection * ((STEPS - 1) // 3 + (STEPS - 1) // 5)
    same(trace.frame, cohort(RUNS[:2]).advance().trace.frame)


@pytest.mark.parametrize("at", [5, 6])
def test_a_fork_begins_to_watch_where_it_begins(at):
    forked = cohort(RUNS[3:4]).advance(at).fork("d", [Run("e", 0.3, watching(3))]).advance()
    frame = rows(forked.trace, "e")
    assert frame["step"].iloc[0] == at
    due = [step for step in range(at + 1, STEPS) if step % 3 == 0]
    assert forked.val_samples["e"] == len(due) * task().val_counts["selection"]
    changed = frame["step"][frame["lr"].diff().fillna(0) != 0]
    assert set(changed) <= set(due)


class Counted:
    """A user's own schedule of that kind: a tenth once the validation loss is below a number."""

    def start(self, _steps):
        return 1.0

    def next(self, state, _loss):
        return state, state

    def validate_every(self, _steps):
        return 4

    def validated(self, state, loss):
        return state / 2 if np.isfinite(loss) else state


def test_a_schedule_of_the_users_own_may_watch_as_well():
    frame = cohort([Run("mine", 0.1, Counted())]).advance().trace.frame
    expected = [0.1 / 2 ** (step // 4) for step in range(STEPS)]
    assert frame["lr"].tolist() == pytest.approx(expected)


# --- without validation data ----------------------------------------------------------------------


class Bomb(nn.Module):
    """A loss that must not be asked for."""

    armed = False

    def forward(self, outputs, targets):
        assert not self.armed, "something trained"
        return nn.functional.cross_entropy(outputs, targets)


REFUSING = {
    "train": lambda one: train(one, [Run("a", 0.1), Run("b", 0.1, watching())], 9),
    "cohort": lambda one: Cohort(one, [Run("b", 0.1, watching())], 9),
    "evaluator": lambda one: Evaluator(one)([Run("b", 0.1, Counted())], 9, stage="s"),
    "search": lambda one: search(one, steps=60, schedule="reduce-on-plateau(on='val', every=9)"),
    "current": lambda one: search(one, steps=60, current=(0.1, repr(watching()))),
    "compare": lambda one: compare(one, 0.1, steps=60, schedules=[watching()]),
}


@pytest.mark.parametrize("ask", REFUSING)
def test_without_validation_data_it_is_refused_before_anything_trains(ask, monkeypatch):
    inputs, labels = torch.randn(24, 4), torch.arange(24) % 3
    made = Task(nn.Linear(4, 3), (inputs, labels), loss=Bomb(), batch_size=8, device="cpu")
    monkeypatch.setattr(Bomb, "armed", True)
    with pytest.raises(ScheduleError, match=r"no validation data. Pass val=\.\.\. to Task"):
        REFUSING[ask](made)


@pytest.mark.parametrize("every", [60, 61, 500])
def test_a_schedule_that_would_never_validate_is_refused(every):
    shape = f"reduce-on-plateau(on='val', every={every})"
    for ask in (
        lambda: search(task(), steps=60, schedule=shape),
        lambda: compare(task(), 0.1, steps=60, schedules=[shape]),
    ):
        with pytest.raises(ScheduleError, match=r"when all 60 steps are over. Give every=3, or"):
            ask()


# --- verbs ----------------------------------------------------------------------------------------


def test_a_search_finds_its_peak_exports_it_and_pays_for_its_validations():
    text = "reduce-on-plateau(on='val', every=10)"
    found = search(task(), steps=60, schedule=text, budget=6.0)
    shape = watching(10, patience=0.1)
    assert found.schedule == repr(shape)
    whole = found.runs[found.runs["stage"] == "fine"]
    assert (whole["schedule"] == repr(shape)).all()
    each = 1 + (5 * task().val_counts["selection"] + 21) / (3 * 8) / 60
    fine = found.spending.set_index("stage")["spent"]["fine"]
    assert fine == pytest.approx(len(whole) * each)
    assert found.cost <= 6.0
    for one in (found, *read(found.to_json())):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=one.lr)
        scheduler = one.scheduler(optimizer)
        assert isinstance(scheduler, ReduceLROnPlateau)
        assert (scheduler.patience, scheduler.factor, scheduler.threshold) == (1, 0.1, 0.0)
        assert "After every 10 optimizer steps call scheduler.step(val_loss)" in " ".join(
            one.snippet().replace("\n# ", " ").split()
        )
    kept = found.checkpoint()["scheduler"]
    assert kept["last_epoch"] == 5, "it was stepped after every ten of sixty updates"


def test_a_comparison_takes_its_text_and_prints_it():
    text = "reduce-on-plateau(on='val', every=6)"
    ranked = compare(
        task(), 0.1, steps=30, schedules=[text, "reduce-on-plateau"], seeds=2, budget=9
    )
    table = ranked.table.set_index("schedule")
    assert {text, "reduce-on-plateau"} <= set(table.index)
    assert table.loc[text, "call"] == repr(watching(6, patience=0.1))
    assert table.loc["reduce-on-plateau", "call"] == "reduce-on-plateau"
    assert "ReduceLROnPlateau(optimizer" in ranked.snippet(text)
    trained = table[table["runs"] > 0]
    assert text in trained.index
    selection = task().val_counts["selection"]
    extra = 4 * selection / (3 * 8) / 30
    assert table.loc[text, "cost"] - table.loc["reduce-on-plateau", "cost"] == pytest.approx(
        2 * extra
    )


def test_a_trace_of_the_users_own_training_does_not_know_its_rates():
    run = Run("a", 0.1, watching())
    trace = Trace.of([run], 9, {"a": [1.0] * 9})
    assert trace.frame["lr"].isna().all()
    trace = Trace.of([Run("a", 0.1, ReduceOnPlateau())], 9, {"a": [1.0] * 9})
    assert not trace.frame["lr"].isna().any()


def test_it_divides_the_rate_where_the_validation_loss_stalls_and_it_falls_again():
    """Noisy labels at a high rate: the loss of a constant rate stands still above its minimum."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(900, 8, generator=draw)
    targets = inputs.sum(1, keepdim=True) + torch.randn(900, 1, generator=draw)
    model = nn.Linear(8, 1)
    data, val = (inputs[:600], targets[:600]), (inputs[600:], targets[600:])
    noisy = Task(model, data, val=val, loss=nn.MSELoss(), optimizer=torch.optim.SGD, batch_size=4)
    trace = train(noisy, [Run("watches", 0.1, watching(25, 0.1)), Run("constant", 0.1)], 600)
    rates = rows(trace, "watches")["lr"]
    assert rates.iloc[-1] <= 0.01 + 1e-9
    assert (rates.diff().fillna(0) <= 0).all()
    ends = trace.validations.query("part == 'test'").set_index("run")["loss"]
    assert ends["watches"] < 0.95 * ends["constant"]
