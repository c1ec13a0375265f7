"""However few runs are held at once, wherever idle ones wait, whenever memory runs out: one answer.

The device that is simulated here holds so many runs, and no more.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
import weakref
from pathlib import Path

import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW

import lrtune
from lrtune import Cohort, Evaluator, Run, Study, Task
from lrtune.errors import ArgumentError, TaskError, memory_text
from lrtune.schedules import ReduceOnPlateau, cosine, one_cycle
from lrtune.task import memory
from lrtune.task.memory import RunBytes, is_out_of_memory
from lrtune.testing import bowl
from lrtune.training.engines.fastest import EngineSwitch
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import VmappedModels
from tests.planted import without_checkpoints
from tests.sampling import law

STEPS = 9
RUNS = [
    Run("a", 0.03, one_cycle()),
    Run("b", 0.1, ReduceOnPlateau(patience=0.4), seed=1),
    Run("c", 0.2, cosine()),
    Run("d", 0.03, lambda p: 1 - p / 2, seed=1),
    Run("e", 0.05),
    Run("fails", 1e30),
]
ALLOCATORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 64 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
}


def a_task(**more):
    given = {"val": zoo.vectors(), "optimizer": Adam, "batch_size": 8} | more
    return Task(zoo.model("dropout"), zoo.vectors(), **given)


TASK = a_task()


class Device:
    """Counts the runs that are held at once, and the updates; holds no more than it has room for.

    Memory runs out where a run begins, at the `at`-th update, or in the `at`-th validation.
    """

    def __init__(self, monkeypatch, room=99, at=None, error=ALLOCATORS["cuda"], breaks="begin"):
        self.room, self.at, self.error, self.breaks = room, at, error, breaks
        self.most = self.updates = self.calls = 0
        self._loops = weakref.WeakSet()
        plain = {name: getattr(Loop, name) for name in ("begin", "update", "validate")}

        def begin(loop, run, **more):
            self._loops.add(loop)
            if self.held >= self.room:
                raise copy.copy(self.error)
            plain["begin"](loop, run, **more)
            self.most = max(self.most, self.held)

        def update(loop, runs, *more):
            self._fail("update")
            losses = plain["update"](loop, runs, *more)
            self.updates += len(runs)
            return losses

        def validate(loop, *more):
            self._fail("validate")
            return plain["validate"](loop, *more)

        for name, method in (("begin", begin), ("update", update), ("validate", validate)):
            monkeypatch.setattr(Loop, name, method)

    @property
    def held(self):
        return sum(len(loop.states) for loop in self._loops)

    def _fail(self, what):
        if self.breaks == what:
            self.calls += 1
            if self.calls == self.at:
                raise copy.copy(self.error)


def same(one, other):
    """All that two traces say, but for their costs."""
    for part in ("frame", "runs", "validations"):
        pd.testing.assert_frame_equal(getattr(one, part), getattr(other, part), check_exact=True)


calls = st.lists(
    st.tuples(
        st.sets(st.sampled_from(range(len(RUNS))), min_size=1),
        st.integers(1, STEPS),
        st.sampled_from([0, 4, None]),
    ),
    min_size=1,
    max_size=4,
)


def asked(evaluate, questions):
    """The traces of some calls, each of some runs up to a step."""
    return [
        evaluate([RUNS[n] for n in sorted(some)], STEPS, stage="s", until=until, validate=validate)
        for some, until, validate in questions
    ]


# --- how many are held, and where -----------------------------------------------------------------


@law(
    few=12, cases=150, questions=calls, most=st.integers(1, 7),
    offload=st.sampled_from([None, "cpu"]), folder=st.booleans(),
)  # fmt: skip
def test_the_answer_does_not_depend_on_how_many_runs_are_held_and_where(
    questions, most, offload, folder
):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as where:
        expected = asked(Evaluator(TASK), questions)
        device = Device(patch)
        more = {"checkpoints": Path(where)} if folder else {}
        traces = asked(Evaluator(TASK, max_runs=most, offload=offload, **more), questions)
        for one, other in zip(traces, expected, strict=True):
            same(one, other)
        assert device.most <= most
        assert device.updates == sum(trace.cost.updates for trace in traces)


@given(questions=calls)
@settings(max_examples=8)
def test_with_room_for_all_nothing_is_made_twice(questions):
    plain, limited = (Evaluator(TASK, **more) for more in ({}, {"max_runs": 99}))
    for one, other in zip(asked(plain, questions), asked(limited, questions), strict=True):
        assert one.costs["updates"].tolist() == other.costs["updates"].tolist()


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
@pytest.mark.parametrize("name", zoo.MODELS)
def test_runs_that_waited_on_the_cpu_go_on_as_if_they_had_not(name, optimizer):
    data = zoo.tensors(name)
    task = Task(zoo.model(name), data, val=data, batch_size=8, optimizer=optimizer)
    offloaded = Evaluator(task, offload="cpu")
    traces = [offloaded(RUNS, STEPS, stage="s", until=until) for until in (2, 5, STEPS)]
    same(traces[-1], Evaluator(task)(RUNS, STEPS, stage="s"))
    live = traces[-1].costs.set_index("run")["updates"].drop("fails")
    assert (live == STEPS - 5).all(), "they went on, instead of beginning anew"


@pytest.mark.parametrize("offload", [None, "cpu"])
def test_a_run_goes_on_in_each_of_its_horizons(offload):
    evaluate, run = Evaluator(TASK, offload=offload), RUNS[:1]
    made = [
        evaluate(run, steps, stage="s", until=until).cost.updates
        for steps, until in ((40, 6), (30, 8), (40, 9), (30, 12), (40, 7), (40, 11))
    ]
    assert made == [6, 8, 3, 4, 7, 2], "asked for an earlier step, it begins anew beside the other"


def test_offloaded_runs_leave_the_device(monkeypatch):
    device = Device(monkeypatch)
    evaluate = Evaluator(TASK, offload="cpu")
    for until in (2, 5):
        evaluate(RUNS[:4], STEPS, stage="s", until=until)
        assert device.held == 0
    plain = Evaluator(TASK)
    plain(RUNS[:4], STEPS, stage="s", until=2)
    assert device.held == 4


def test_what_cannot_be_saved_stays_on_the_device_with_a_word():
    class Odd(SGD):
        def step(self, closure=None):
            super().step(closure)
            for state in self.state.values():
                state["odd"] = object()

    evaluate = Evaluator(a_task(optimizer=lambda m, lr: Odd(m.parameters(), lr)), offload="cpu")
    with pytest.warns(UserWarning, match=r"holds a .*object.* Its run is not offloaded"):
        evaluate(RUNS[:1], STEPS, stage="s", until=3)
    assert evaluate(RUNS[:1], STEPS, stage="s").cost.updates == STEPS - 3


def test_a_trained_part_is_gone_when_the_next_one_begins(monkeypatch):
    device = Device(monkeypatch)
    Evaluator(TASK, max_runs=2)(RUNS, STEPS, stage="s")
    assert device.most == 2
    assert device.held == 0


@pytest.mark.parametrize("verb", ["search", "compare", "range test"])
@pytest.mark.parametrize("more", [{"max_runs": 1}, {"max_runs": 3, "offload": "cpu"}])
def test_no_verb_answers_otherwise_with_few_runs(verb, more, monkeypatch):
    def answer(**options):
        if verb == "search":
            return lrtune.search(a_task(), steps=40, budget=3.0, **options)
        if verb == "compare":
            return lrtune.compare(a_task(), 0.05, schedules=["step"], steps=16, seeds=2, **options)
        return lrtune.range_test(a_task(), steps=40, seeds=2, max_runs=options.get("max_runs"))

    expected, device = answer(), Device(monkeypatch)
    assert answer(**more).to_json() == expected.to_json()
    assert device.most <= more["max_runs"]


# --- memory that runs out -------------------------------------------------------------------------


def quietly(evaluate, questions):
    """The traces of some calls, and what was warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        traces = asked(evaluate, questions)
    return traces, [str(one.message) for one in told]


@law(
    few=5, cases=150, questions=calls, room=st.integers(1, 6),
    offload=st.sampled_from([None, "cpu"]), error=st.sampled_from(sorted(ALLOCATORS)),
)  # fmt: skip
def test_a_device_that_holds_fewer_runs_gives_the_same_answer(questions, room, offload, error):
    with pytest.MonkeyPatch.context() as patch:
        expected = asked(Evaluator(TASK), questions)
        device = Device(patch, room, error=ALLOCATORS[error])
        traces, told = quietly(Evaluator(TASK, offload=offload), questions)
        for one, other in zip(traces, expected, strict=True):
            same(one, other)
        assert device.most <= room
        assert device.updates == sum(trace.cost.updates for trace in traces)
        assert len(told) <= 1
        assert all("Out of memory on cpu with" in text for text in told)


@law(
    few=12, cases=150, questions=calls, at=st.integers(1, 40), folder=st.booleans(),
    breaks=st.sampled_from(["update", "validate"]), offload=st.sampled_from([None, "cpu"]),
)  # fmt: skip
def test_wherever_memory_runs_out_the_answer_is_the_same_and_its_cost_is_told(
    questions, at, breaks, offload, folder
):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as where:
        expected = asked(Evaluator(TASK), questions)
        device = Device(patch, at=at, breaks=breaks)
        more = {"checkpoints": Path(where)} if folder else {}
        try:
            traces, told = quietly(Evaluator(TASK, offload=offload, **more), questions)
        except TaskError as refused:
            assert "a single run" in str(refused)  # noqa: PT017 - it was the only one that was held
            return
        for one, other in zip(traces, expected, strict=True):
            same(one, other)
        assert len(told) == (device.calls >= at)
        assert device.updates == sum(trace.cost.updates for trace in traces)


def test_it_is_said_once_with_what_to_do(monkeypatch):
    device = Device(monkeypatch, room=2)
    told = []
    evaluate = Evaluator(TASK, say=told.append)
    evaluate(RUNS, STEPS, stage="s")
    evaluate(RUNS, STEPS, stage="s")
    (text,) = told
    assert text.startswith("Out of memory on cpu with 6 runs held at once: from now on at most 3")
    assert "Give max_runs=3 next time" in text
    assert device.most == 2


@pytest.mark.parametrize("error", ALLOCATORS)
@pytest.mark.parametrize("breaks", ["begin", "update", "validate"])
def test_at_a_single_run_it_is_refused_in_a_sentence(monkeypatch, breaks, error):
    device = Device(monkeypatch, room=0 if breaks == "begin" else 9, breaks=breaks, at=1)
    device.error = ALLOCATORS[error]
    evaluate = Evaluator(TASK)
    for runs in (RUNS[:1], RUNS[1:2]):
        with pytest.raises(TaskError, match=r"a single run .* needs more memory than") as caught:
            evaluate(runs, STEPS, stage="s")
        text = str(caught.value)
        size = memory_text(TASK.run_bytes.total)
        assert f"({size} with gradients and optimizer, besides its batch)" in text
        assert "Use smaller batches (batch_size)" in text
        assert "device='cpu'" in text
        assert text.count("\n") == 0
        device.calls = 0


def test_the_refusal_tells_the_run_and_the_step(monkeypatch):
    Device(monkeypatch, breaks="update", at=4)
    with pytest.raises(TaskError) as caught:
        Evaluator(TASK)(RUNS[:1], STEPS, stage="s")
    assert any("at step 3 of 9" in note and "run 'a' (lr 0.03" in note
               for note in caught.value.__notes__)  # fmt: skip


def test_batches_that_were_cached_make_room_before_a_run_is_refused(monkeypatch):
    task = Task(zoo.model("dropout"), zoo.DATA["loader"](), optimizer=Adam)
    expected = Evaluator(task)(RUNS[:1], STEPS, stage="s")
    evaluate = Evaluator(task)
    Device(monkeypatch, breaks="update", at=4)
    same(evaluate(RUNS[:1], STEPS, stage="s"), expected)
    Device(monkeypatch, breaks="update", at=1)
    with pytest.raises(TaskError, match="a single run"):
        evaluate(RUNS[:1], STEPS, stage="s")


def test_an_error_of_the_users_own_is_no_lack_of_memory(monkeypatch):
    Device(monkeypatch, breaks="update", at=2, error=RuntimeError("out of memory, he said"))
    with pytest.raises(RuntimeError, match="he said"):
        Evaluator(TASK)(RUNS, STEPS, stage="s")


@pytest.mark.parametrize("error", ["cuda", "cpu"])
def test_a_stack_that_does_not_fit_is_cut(monkeypatch, error):
    """The vmapped engine makes smaller stacks; only then are fewer runs held."""
    plain = VmappedModels.step

    def scarce(self, batch, noise):
        if len(self._states) > 1:
            raise copy.copy(ALLOCATORS[error])
        return plain(self, batch, noise)

    expected = lrtune.train(TASK, RUNS, STEPS, engine="vmapped")
    monkeypatch.setattr(VmappedModels, "step", scarce)
    got = lrtune.train(TASK, RUNS, STEPS, engine="vmapped")
    assert got.frame["loss"].to_numpy() == pytest.approx(
        expected.frame["loss"].to_numpy(), rel=1e-4, nan_ok=True
    )


def test_a_benchmark_that_runs_out_of_memory_is_charged_as_well(monkeypatch):
    """The choice of an engine for a study is made on updates that are discarded."""
    made, plain = [], EngineSwitch.update_by

    def update_by(self, config, runs, *more, **named):
        losses = plain(self, config, runs, *more, **named)
        made.extend(runs)
        return losses

    monkeypatch.setattr(EngineSwitch, "update_by", update_by)
    Device(monkeypatch, breaks="update", at=3)
    evaluate = Evaluator(TASK, engine="auto", decide=lambda _name, make: make())
    runs = [Run(str(n), 0.01 * (n + 1)) for n in range(6)]
    with pytest.warns(UserWarning, match="with 6 runs held at once"):
        trace = evaluate(runs, STEPS, stage="s")
    assert trace.cost.updates == len(made) > 2 * 6 + 6 * STEPS


# --- in a study -----------------------------------------------------------------------------------


def test_a_search_whose_memory_runs_out_ends_like_one_that_had_enough(monkeypatch, tmp_path):
    def found(evaluate):
        return without_checkpoints(lrtune.search(a_task(), steps=40, budget=3.0, evaluate=evaluate))

    plain = found(Study(f"sqlite:///{tmp_path}/plain.db", a_task()).evaluate)
    study = Study(f"sqlite:///{tmp_path}/short.db", a_task())
    device = Device(monkeypatch, room=3)
    with pytest.warns(UserWarning, match="Out of memory"):
        assert found(study.evaluate) == plain
    assert device.most <= 3


def test_what_was_recorded_before_a_refusal_is_remembered(monkeypatch, tmp_path):
    where = f"sqlite:///{tmp_path}/study.db"
    first = Study(where, a_task())
    first.evaluate(RUNS[:2], STEPS, stage="s")
    Device(monkeypatch, room=0)
    with (
        pytest.warns(UserWarning, match="with 4 runs held at once"),
        pytest.raises(TaskError, match="a single run"),
    ):
        first.evaluate(RUNS, STEPS, stage="s")
    monkeypatch.undo()
    again = Study(where, a_task())
    same(again.evaluate(RUNS, STEPS, stage="s"), Evaluator(TASK)(RUNS, STEPS, stage="s"))
    assert (again.remembered, again.trained) == (2, 4)


# --- what is said beforehand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [(SGD, 0), (None, 1), (Adam, 2), (AdamW, 2), (torch.optim.RMSprop, 1)],
)
def test_the_bytes_of_a_run_are_those_of_its_tensors(optimizer, state):
    made = Task(nn.Linear(30, 20), [(torch.zeros(2, 30), torch.zeros(2).long())],
                optimizer=optimizer, device="cpu")  # fmt: skip
    weights = 4 * (30 * 20 + 20)
    assert made.run_bytes[:2] == (weights, weights)
    assert made.run_bytes.optimizer == pytest.approx(state * weights, abs=16)  # counters of steps
    assert made.run_bytes.total == sum(made.run_bytes)
    assert made.run_bytes.checkpoint == made.run_bytes.total - weights


@pytest.mark.parametrize(
    ("steps", "more"), [(150, {}), (150, {"around": 0.05}), (150, {"fine": "grid"}), (1100, {})]
)
def test_a_search_holds_as_many_runs_as_its_plan_says(steps, more, monkeypatch):
    task = a_task()
    planned = lrtune.plan(task, steps=steps, **more).memory
    device = Device(monkeypatch)
    lrtune.search(task, steps=steps, **more)
    assert planned.runs - 2 <= device.most <= planned.runs
    assert planned.device_bytes == planned.runs * task.run_bytes.total


@pytest.mark.parametrize("schedules", [["step"], ["step", "linear"]])
def test_a_comparison_holds_as_many_runs_as_its_plan_says(schedules, monkeypatch):
    from lrtune.tuning.compare import plan_comparison

    task, asked_for = a_task(), {"schedules": schedules, "steps": 30, "seeds": 2}
    planned = plan_comparison(task, 0.05, **asked_for).plan.memory
    device = Device(monkeypatch)
    lrtune.compare(task, 0.05, **asked_for)
    assert device.most == planned.runs


def test_the_plan_tells_what_memory_and_options_leave(monkeypatch):
    task = a_task()
    size = task.run_bytes.total
    whole = lrtune.plan(task, steps=300)
    assert (whole.memory.runs, whole.memory.wanted) == (8, 8)
    line = str(whole).splitlines()[-1]
    assert line == (
        f"Memory: about 8 runs at once, {memory_text(8 * size)} on cpu ({memory_text(size)} each "
        f"with gradients and optimizer, {memory_text(task.run_bytes.checkpoint)} in a checkpoint)"
    )
    few = lrtune.plan(task, steps=300, max_runs=3)
    assert "about 3 of 8 runs at once" in str(few)
    assert "trained later, or again" in str(few)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 5 * (size + task.run_bytes.weights))
    assert lrtune.plan(task, steps=300).memory.runs == 5
    assert lrtune.plan(task, steps=300, max_runs=6).memory.runs == 5
    assert lrtune.plan(steps=300).memory is None
    assert "Memory" not in str(lrtune.plan(steps=300))


def test_with_offload_the_plan_tells_what_waits_on_the_cpu(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda _: 1e9)
    task = a_task()
    task.device = torch.device("xpu")  # nothing is trained here
    planned = lrtune.plan(task, steps=300, offload="cpu").memory
    assert (planned.runs, planned.offloaded) == (4, 4)
    assert planned.offloaded_bytes == 4 * task.run_bytes.checkpoint
    assert f"4 more on the CPU, {memory_text(planned.offloaded_bytes)}" in str(planned)


def test_what_takes_more_than_there_is_on_a_device_counts_weights_twice(monkeypatch):
    """A stack of the weights is a copy of them."""
    monkeypatch.setattr(memory, "available_bytes", lambda _: 1000.0)
    one = RunBytes(100, 100, 200)
    assert memory.max_runs(one, torch.device("cpu")) == 2
    assert memory.max_runs(RunBytes(10**6, 0, 0), torch.device("cpu")) == 1


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"max_runs": 0}, {"max_runs": 2.5}, {"max_runs": True},
                                   {"offload": "disk"}, {"offload": True}])  # fmt: skip
def test_a_number_or_a_place_that_is_none_is_refused(wrong):
    ((name, value),) = wrong.items()
    verbs = {
        "search": lambda: lrtune.search(bowl(), steps=9, **wrong),
        "plan": lambda: lrtune.plan(bowl(), steps=900, **wrong),
        "compare": lambda: lrtune.compare(bowl(), 0.1, steps=9, **wrong),
        "evaluator": lambda: Evaluator(bowl(), **wrong),
    }
    if name == "max_runs":
        verbs["range test"] = lambda: lrtune.range_test(bowl(), **wrong)
    for verb in verbs.values():
        with pytest.raises(ArgumentError, match=name) as caught:
            verb()
        assert repr(value) in str(caught.value)


def test_options_of_the_evaluator_go_with_no_evaluator_of_the_users_own():
    with pytest.raises(ArgumentError, match=r"Give them to yours: evaluate=lrtune\.Evaluator"):
        lrtune.search(bowl(), steps=9, max_runs=2, evaluate=Evaluator(bowl()))


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        *((error, True) for error in ALLOCATORS.values()),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator: can't"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(error, is_one):
    assert is_out_of_memory(error) is is_one


# --- a real limit ---------------------------------------------------------------------------------

LIMITED = """
import re, resource, warnings
import torch
from torch import nn
import lrtune

torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
data = torch.randn(64, 2000, generator=draw), torch.randint(0, 5, (64,), generator=draw)

def make():
    return nn.Sequential(nn.Linear(2000, 1000), nn.ReLU(), nn.Linear(1000, 5))

task = lrtune.Task(make, data, optimizer=torch.optim.Adam, device="cpu", batch_size=8)
runs = [lrtune.Run(str(n), 1e-3 * (n + 1), seed=n % 2) for n in range(6)]

def trained():
    evaluate = lrtune.Evaluator(task)
    evaluate(runs, 4, stage="short", until=2)
    print(evaluate(runs[2:], 4, stage="long").frame["loss"].to_list())

trained()
for room in (3.5, 0.3):  # in runs
    size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    limit = size + int(room * task.run_bytes.total)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            trained()
        except lrtune.LrtuneError as error:
            print(error)
        else:
            print(told[0].message)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="address space is Linux's")
def test_under_a_limit_of_address_space_the_answer_is_that_without_one():
    # So that every tensor of some size is given back to the system, and its address space is free.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    losses, same_losses, told, refused = done.stdout.splitlines()
    assert same_losses == losses
    assert told.startswith("Out of memory on cpu with 6 runs held at once")
    assert refused.startswith("a single run (")
    assert "you tried to allocate" in refused


def test_a_task_whose_first_batch_does_not_fit_is_refused_in_a_sentence():
    def hungry(outputs, targets):
        raise copy.copy(ALLOCATORS["cuda"])

    with pytest.raises(TaskError) as caught:
        a_task(loss=hungry)
    text = str(caught.value)
    assert "the loss of one batch, (float32[8, 3], int64[8]), needs more memory than" in text
    assert "Use smaller batches" in text


# --- on the command line --------------------------------------------------------------------------


def test_the_options_of_the_command_line_change_no_answer(run):
    plain = json.loads(run("search", "--steps", "40", "--no-study", "--json").stdout)
    few = run("search", "--steps", "40", "--no-study", "--json", "--max-runs", "2",
              "--offload", "cpu")  # fmt: skip
    assert "about 2 of 8 runs at once" in few.stderr
    assert json.loads(few.stdout)["results"] == plain["results"]
    swept = run("range-test", "--steps", "24", "--max-runs", "2", "--no-study")
    assert "about 2 of 6 runs at once" in " ".join(swept.stderr.split())


def test_the_command_says_that_memory_ran_out_in_its_own_words(run, monkeypatch):
    Device(monkeypatch, room=3)
    said = run("range-test", "--steps", "24", "--no-study").stderr
    assert "Out of memory on cpu with 6 runs held at once" in said
    assert "Give --max-runs 3 next time" in said
    assert "UserWarning" not in said


def test_a_cohort_that_ran_out_of_memory_is_not_trained_on(monkeypatch):
    Device(monkeypatch, breaks="update", at=3)
    cohort = Cohort(TASK, RUNS[:2], STEPS)
    with pytest.raises(torch.OutOfMemoryError):
        cohort.advance()
    with pytest.raises(ArgumentError, match="no longer in lockstep"):
        cohort.advance()
