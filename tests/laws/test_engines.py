"""The laws of the fast engines: law 5 (twins), 6 and 9 in a stack, and what `auto` may choose."""

import functools
import itertools

import numpy as np
import pytest
import torch
import zoo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from lrtune import Cohort, Evaluator, Run, Task, train
from lrtune.errors import EngineError, TaskError
from lrtune.schedules import FEEDBACK, cosine, one_cycle
from lrtune.task import memory
from lrtune.training.engines.fastest import GAIN, EngineBenchmark, EngineConfig, Fastest
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.stacked import VmappedModels
from lrtune.training.engines.vmapped import Vmapped

STEPS = 40
TOLERANCE = 1e-4
"""Of a loss, relative: rounding errors of 1e-7 that 60 steps have amplified."""

REFUSED = {"weight_norm", "spectral_norm"}
"""Of the zoo: vmap has no batching rule for what they do."""


def adam_in_groups(model, lr):
    first, *others = (p for p in model.parameters() if p.requires_grad)
    return torch.optim.AdamW([{"params": [first], "lr": lr / 10}, {"params": others}], lr=lr)


def nesterov(model, lr):
    weights = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-3)


OPTIMIZERS = {"sgd": None, "nesterov": nesterov, "adam": adam_in_groups}


def brought(name, optimizer="sgd", **options):
    inputs, labels = zoo.tensors(name)
    return Task(
        zoo.model(name), (inputs, labels), optimizer=OPTIMIZERS[optimizer], val=(inputs, labels),
        batch_size=8, **options,
    )  # fmt: skip


RUNS = [
    Run(f"{rate}/{shape}/{seed}", rate, schedule, seed)
    for seed in (0, 1)
    for shape, schedule in {"cosine": cosine(), "cycle": one_cycle()}.items()
    for rate in (0.003, 0.03, 0.1)
]


def trained(task, engine, runs=RUNS, steps=STEPS):
    return Cohort(task, runs, steps, engine=engine(task)).advance().validate().trace


def assert_twins(one, other, tolerance=TOLERANCE):
    assert one.runs.equals(other.runs)
    assert one.frame.drop(columns="loss").equals(other.frame.drop(columns="loss"))
    np.testing.assert_allclose(one.frame["loss"], other.frame["loss"], tolerance, tolerance / 10)


# --- 5. twins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", sorted(set(zoo.MODELS) - REFUSED))
def test_stack_and_loop_are_twins(name, optimizer):
    task = brought(name, optimizer)
    one, other = trained(task, Vmapped), trained(task, Loop)
    assert_twins(one, other)
    if name not in ("convolution", "evaluated"):
        # A bias in front of BatchNorm has no gradient: Adam walks at random there, and only the
        # statistics of batches, not the running ones, take that out again.
        np.testing.assert_allclose(one.validations["loss"], other.validations["loss"], 1e-3)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_stacked_is_refused_with_a_reason(name):
    with pytest.raises(EngineError, match="atch"):  # batching rule
        train(brought(name), RUNS, 3, engine="vmapped")


def test_auto_goes_on_with_the_loop_where_the_stack_refuses():
    task = brought("spectral_norm")
    evaluator = Evaluator(task, engine="auto")
    assert_twins(evaluator(RUNS, 20, stage="a"), trained(task, Loop, steps=20), 1e-12)
    (note,) = evaluator.engine_notes
    assert "6 runs: loop" in note
    assert "refuses these runs" in note


class Asks(nn.Module):
    """Looks at a number, which a stack does not have."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs):
        outputs = self.layer(inputs)
        return outputs if outputs.sum().item() < 1e9 else outputs * 0


class Counts(nn.Module):
    """Keeps a number that is no buffer, and answers by it."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(3, 3), 0

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs) / self.calls


def hooked():
    model = nn.Linear(3, 3)
    model.weight.register_hook(lambda gradient: gradient * 2)
    return model


def post_hooked():
    model = nn.Linear(3, 3)
    model.weight.register_post_accumulate_grad_hook(lambda weight: None)
    return model


def hooked_whole():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].register_full_backward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Asks, "item"),
        (Counts, "attributes"),
        (hooked, "weight has a gradient hook"),
        (post_hooked, "weight has a gradient hook"),
        (hooked_whole, "has a backward hook"),
    ],
)
def test_a_model_that_is_more_than_its_tensors_is_refused(make, why):
    task = Task(make, zoo.vectors(), batch_size=8)
    with pytest.raises(EngineError, match=f"{why}.*engine='loop'"):
        train(task, RUNS, 2, engine="vmapped")
    assert train(task, RUNS, 2, engine="auto").runs["steps"].eq(2).all()


def test_a_batch_that_is_a_dict_and_an_objective_can_be_stacked():
    task = Task(zoo.model("dropout"), zoo.DATA["dicts"](), objective=zoo.by_name)
    assert_twins(train(task, RUNS, 30, engine="vmapped"), train(task, RUNS, 30))


class Remembering(nn.Module):
    """A loss with a buffer, which depends on all that it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, outputs, labels):
        loss = nn.functional.cross_entropy(outputs, labels)
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * loss)
        return loss * (1 + self.mean)


def test_a_loss_that_remembers_does_so_for_each_run():
    task = Task(zoo.model("linear"), zoo.vectors(), loss=Remembering(), batch_size=8)
    assert_twins(train(task, RUNS, 30, engine="vmapped"), train(task, RUNS, 30))


@pytest.mark.parametrize("name", FEEDBACK)
def test_schedules_that_react_do_so_in_a_stack(name):
    runs = [Run(f"{rate}", rate, FEEDBACK[name]()) for rate in (0.01, 0.1)]
    task = brought("linear")
    assert_twins(train(task, runs, 30, engine="vmapped"), train(task, runs, 30))


def test_a_single_run_can_be_stacked():
    task = brought("convolution")
    assert_twins(train(task, RUNS[:1], 20, engine="vmapped"), train(task, RUNS[:1], 20))


# --- what else the laws ask of a stack ------------------------------------------------------------


@functools.cache
def dropping():
    images, labels = zoo.images()
    model = zoo.born(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
            nn.Linear(12, 3),
        )
    )  # fmt: skip
    return Task(model, (images, labels), val=(images, labels), batch_size=8)


@functools.cache
def whole():
    return trained(dropping(), Vmapped, steps=12)


@settings(max_examples=15)
@given(chunk=st.integers(1, 7))
def test_the_size_of_the_chunks_does_not_matter(chunk):
    one = trained(dropping(), functools.partial(Vmapped, chunk=chunk), steps=12)
    assert_twins(one, whole(), 1e-5)


@settings(max_examples=15)
@given(at=st.integers(0, 12), kept=st.lists(st.sampled_from(RUNS), min_size=1, unique=True))
def test_retiring_runs_does_not_disturb_those_that_are_kept(at, kept):
    cohort = Cohort(dropping(), RUNS, 12, engine=Vmapped(dropping()))
    names = [run.name for run in kept]
    cohort.advance(at).retain(names).advance()
    assert_twins(cohort.trace.select(names), whole().select(names), 1e-5)


def test_a_fork_goes_on_from_its_parent_in_a_stack():
    cohort = Cohort(dropping(), RUNS, 12, engine=Vmapped(dropping())).advance(5)
    twin = Run("twin", RUNS[2].lr, RUNS[2].schedule, RUNS[2].seed)
    frame = cohort.fork(RUNS[2].name, [twin]).advance().trace.frame
    ours = frame[frame["run"] == "twin"]["loss"].to_numpy()
    parents = frame[frame["run"] == RUNS[2].name]["loss"].to_numpy()[5:]
    np.testing.assert_allclose(ours, parents, 1e-5)


@pytest.mark.parametrize("rate", [1e30, 1e36])
def test_a_run_that_goes_non_finite_touches_no_other(rate):
    absurd = [*RUNS, Run("absurd", rate, seed=0)]
    trace = trained(dropping(), Vmapped, absurd, 12)
    assert trace.runs.set_index("run")["outcome"]["absurd"] in ("NONFINITE", "DIVERGED")
    names = [run.name for run in RUNS]
    assert_twins(trace.select(names), whole(), 1e-5)


def test_a_loss_that_refuses_nan_ends_one_run_and_not_all():
    inputs, labels = zoo.vectors()
    model = zoo.born(lambda: nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Flatten(0)))
    task = Task(
        model, (inputs, labels.gt(0).float()), loss=nn.BCELoss(), batch_size=8,
    )  # fmt: skip
    runs = [Run("a", 0.1), Run("b", 0.2), Run("absurd", 1e38)]
    assert_twins(train(task, runs, 40, engine="vmapped"), train(task, runs, 40))


def test_random_layers_draw_what_they_draw_in_the_loop():
    """Noise differs from step to step, not from run to run, and is the loop's."""
    task = Task(zoo.model("Noisy"), zoo.vectors(), batch_size=8)
    drawn = {}
    for engine in (Loop, Vmapped):
        cohort = Cohort(task, RUNS[:3], 3, engine=engine(task))
        drawn[engine] = [(cohort.advance(step), zoo.Noisy.drawn)[1] for step in (1, 2, 3)]
    assert drawn[Loop] == drawn[Vmapped]
    assert len(set(drawn[Loop])) == 3


def test_without_memory_for_all_it_does_them_in_parts(monkeypatch):
    """The device that is simulated here holds two runs at once."""
    plain, most = VmappedModels.step, 0

    def scarce(self, batch, noise):
        nonlocal most
        if len(self._states) > 2:
            raise torch.OutOfMemoryError
        most = max(most, len(self._states))
        return plain(self, batch, noise)

    monkeypatch.setattr(VmappedModels, "step", scarce)
    assert_twins(trained(dropping(), Vmapped, steps=12), whole(), 1e-5)
    assert most == 2


def test_a_run_too_large_for_the_device_is_an_error(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(VmappedModels, "step", full)
    with (
        pytest.warns(UserWarning, match="Out of memory on cpu with 12 runs"),
        pytest.raises(TaskError, match="a single run"),
    ):
        train(dropping(), RUNS, 3, engine="vmapped")


def test_activations_that_would_not_fit_are_never_made(monkeypatch):
    sizes = []
    plain = VmappedModels.step
    room = 3 * memory.BACKWARD_FACTOR * ACTIVATIONS
    monkeypatch.setattr(memory, "available_bytes", lambda _: room)
    monkeypatch.setattr(
        VmappedModels,
        "step",
        lambda self, *a: (sizes.append(len(self._states)), plain(self, *a))[1],
    )
    assert_twins(trained(dropping(), Vmapped, steps=12), whole(), 1e-5)
    assert 1 <= max(sizes) < 6


ACTIVATIONS = 8 * (3 * 4 + 3 * 4 + 12) * 4
"""Bytes of a run's activations, roughly."""


# --- the evaluator --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["loop", "vmapped"])
@settings(max_examples=10)
@given(
    rungs=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    kept=st.lists(st.sampled_from(RUNS), min_size=1, unique=True),
)
@example(rungs=[3, 3], kept=RUNS[:2])
def test_training_in_rungs_equals_training_at_once(engine, rungs, kept):
    evaluator, names = Evaluator(dropping(), engine=engine), [run.name for run in kept]
    for rung in sorted(rungs):
        trace = evaluator(RUNS if rung < max(rungs) else kept, 12, stage="rung", until=rung)
    at_once = Evaluator(dropping(), engine=engine)(RUNS, 12, stage="once", until=max(rungs))
    assert_twins(trace, at_once.select(names), 1e-5)
    assert trace.validations["run"].unique().tolist() == names
    assert set(trace.validations["step"]) == {max(rungs)}


def test_what_was_trained_is_not_trained_again(monkeypatch):
    updates = []
    plain = Loop.update
    monkeypatch.setattr(
        Loop, "update", lambda self, runs, *a: (updates.append(len(runs)), plain(self, runs, *a))[1]
    )
    evaluator = Evaluator(brought("linear"), engine="loop")
    evaluator(RUNS, 20, stage="a", until=5)
    assert sum(updates) == 12 * 5
    evaluator(RUNS[:3], 20, stage="b", until=10)
    assert sum(updates) == 12 * 5 + 3 * 5
    evaluator([RUNS[0], Run("new", 0.1)], 20, stage="c")
    assert sum(updates) == 12 * 5 + 3 * 5 + 10 + 20


def test_runs_that_do_not_fit_at_once_are_trained_in_parts(monkeypatch):
    task = brought("linear")
    whole_trace = Evaluator(task, engine="loop")(RUNS, 6, stage="a")
    room = 5 * (task.run_bytes.total + task.run_bytes.weights)
    monkeypatch.setattr(memory, "available_bytes", lambda _: room)
    evaluator, sizes = Evaluator(task, engine="loop"), []
    plain = Cohort.__init__
    monkeypatch.setattr(
        Cohort, "__init__", lambda self, t, runs, *a, **k: (sizes.append(len(runs)),
                                                            plain(self, t, runs, *a, **k))[1],
    )  # fmt: skip
    trace = evaluator(RUNS, 6, stage="a")
    assert sizes == [5, 5, 2]
    assert trace.frame.equals(whole_trace.frame)
    assert trace.runs.equals(whole_trace.runs)


def test_an_interrupted_evaluator_begins_again():
    class Interrupts(nn.Module):
        calls = itertools.count()

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, inputs):
            if self.training and next(self.calls) == 25:
                raise KeyboardInterrupt
            return self.layer(inputs)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Task(Interrupts(), zoo.vectors(), batch_size=8)
    evaluator = Evaluator(task, engine="loop")
    first = evaluator(RUNS[:2], 30, stage="a", until=5)
    with pytest.raises(KeyboardInterrupt):
        evaluator(RUNS[:2], 30, stage="a", until=20)
    again = evaluator(RUNS[:2], 30, stage="a", until=20).frame
    assert again.groupby("run", sort=False).head(5).reset_index(drop=True).equals(first.frame)


# --- auto -----------------------------------------------------------------------------------------

CONFIGS = [EngineConfig(engine, threads) for engine in ("loop", "vmapped") for threads in (2, 1)]


@given(st.fixed_dictionaries({config: st.floats(1e-6, 10) for config in CONFIGS}))
def test_auto_takes_the_fastest_configuration(seconds):
    """None is faster than what it takes by more than the gain it asks for, and none is left out."""
    benchmark = EngineBenchmark(9, CONFIGS)
    while (config := benchmark.next_config()) is not None:
        benchmark.add_time(config, seconds[config])
    assert seconds[benchmark.best] <= min(seconds.values()) * GAIN ** len(CONFIGS)
    assert all(len(benchmark.times[config]) >= 2 for config in CONFIGS)
    assert str(benchmark.best) in str(benchmark)


@given(st.floats(1e-6, 10))
def test_equal_times_leave_everything_as_it_was(seconds):
    benchmark = EngineBenchmark(9, CONFIGS)
    while (config := benchmark.next_config()) is not None:
        benchmark.add_time(config, seconds)
    assert benchmark.best == CONFIGS[0] == EngineConfig("loop", 2)


def test_a_slow_configuration_is_not_timed_twice():
    benchmark = EngineBenchmark(9, CONFIGS[1::2])
    while (config := benchmark.next_config()) is not None:
        benchmark.add_time(config, 1.0 if config.engine == "vmapped" else 0.1)
    assert len(benchmark.times[EngineConfig("vmapped", 1)]) == 2


def test_auto_times_each_size_of_cohort_once_and_leaves_the_threads_alone():
    task, benchmarks = dropping(), []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for runs in (RUNS, RUNS, RUNS[:1], RUNS[:2], RUNS[:3]):
            Cohort(task, runs, 20, engine=Fastest(task, benchmarks)).advance()
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert [benchmark.runs for benchmark in benchmarks] == [6, 3]


def test_auto_gives_the_losses_of_the_loop():
    task, benchmarks = dropping(), []
    auto = trained(task, functools.partial(Fastest, benchmarks=benchmarks), steps=30)
    assert_twins(auto, trained(task, Loop, steps=30))
    assert len(benchmarks) == 1
    assert not benchmarks[0].refused
    assert {config.engine for config in benchmarks[0].times} == {"loop", "vmapped"}


def test_there_are_three_engines():
    with pytest.raises(ValueError, match="engine='fast'; there are loop, vmapped, auto"):
        Evaluator(dropping(), engine="fast")
