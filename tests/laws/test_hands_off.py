"""Law 7: what the user brings, and the global random states, are bit-identical afterwards."""

import copy
import re

import pytest
import torch
import zoo
from torch import nn
from zoo import untouched

import lrtune
from lrtune import Cohort, Run, Task, train
from lrtune.errors import SearchError

CALM = [Run("a", 0.1), Run("b", 0.1, seed=1)]
RUNS = [*CALM, Run("absurd", 1e30)]


class Stop(Exception):  # noqa: N818 - it is what a user's code may raise
    """An error of the user's own."""


def sweep(task):
    return lrtune.range_test(task, steps=12, seeds=2)


def search(task):
    grids = {"coarse": (0.1, 0.01), "fine": (1.0,), "limits": (1e-3, 1.0)}
    try:
        return lrtune.search(task, steps=8, budget=12.0, **grids)
    except SearchError as error:  # so short a training may learn nothing
        return str(error)


def cohort(task, runs=RUNS):
    whole = Cohort(task, runs, 6).advance(2).validate(4).fork("a", [Run("c", 0.2)])
    return whole.advance(4).retain(["a", "c"]).validate().advance().validate(7).validate().trace


def resumed(task):
    one = Cohort(task, CALM, 6).advance(3)
    saved = {run.name: one.checkpoint(run.name) for run in CALM}
    return Cohort(task, CALM, 6, resume=saved).advance().validate().trace


VERBS = {
    "nothing": lambda task: task,
    "train": lambda task: train(task, RUNS, 6),
    "cohort": cohort,
    "resumed": resumed,
    "range test": sweep,
    "search": search,
}
CALM_VERBS = {
    "train": lambda task: train(task, CALM, 6),
    "cohort": lambda task: cohort(task, CALM),
    "resumed": resumed,
    "range test": sweep,
    "search": search,
}


# --- models, data, losses -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_model_stays_as_it_is(name, verb):
    model, data = zoo.model(name), zoo.tensors(name)
    with untouched(model, data):
        VERBS[verb](Task(model, data, val=data, batch_size=8))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [*zoo.DATA, *zoo.ORDERED])
def test_data_stay_as_they_are(name, verb):
    source, val = (zoo.DATA | zoo.ORDERED)[name](), (zoo.DATA | zoo.ORDERED)[name]()
    options = zoo.options(name)
    with untouched(source, val):
        VERBS[verb](Task(zoo.model("InPlace"), source, val=val, **options))


@pytest.mark.parametrize("verb", VERBS)
def test_batches_stay_as_they_are_though_a_lazy_model_overwrites_them(verb):
    """It is tried on the first batch before it has weights."""
    batches = zoo.ORDERED["list"]()
    with untouched(batches):
        VERBS[verb](Task(zoo.model("lazy_in_place"), batches, val=batches))


def test_a_loader_in_the_middle_of_a_pass_goes_on_with_it():
    loader, other = zoo.DATA["generator"](), zoo.DATA["generator"]()
    mine, same = iter(loader), iter(other)
    next(mine), next(same)
    with untouched(loader):
        train(Task(zoo.model("linear"), loader), RUNS, 6)
    for ours, theirs in zip(mine, same, strict=True):
        assert torch.equal(ours[0], theirs[0])
    assert torch.equal(next(iter(loader))[0], next(iter(other))[0])


class Scaled(nn.Module):
    """A loss, or an objective, that counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, first, second):
        self.calls += 1
        if isinstance(first, nn.Module):
            first, second = first(second[0]), second[1]
        return nn.functional.cross_entropy(first, second)


@pytest.mark.parametrize("name", ["linear", "lazy"])
@pytest.mark.parametrize("kind", ["loss", "objective"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_loss_with_buffers_stays_as_it_is(kind, verb, name):
    loss, data = Scaled(), zoo.vectors()
    with untouched(loss):
        VERBS[verb](Task(zoo.model(name), data, val=data, batch_size=8, **{kind: loss}))


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_in_training_and_its_optimizer_stay_as_they_are(verb):
    """The optimizer has a state, and the gradients of the next step are there already."""
    model, data = zoo.model("convolution"), zoo.images()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    kind = type(optimizer)
    with untouched(model, optimizer):
        VERBS[verb](Task(model, data, val=data, batch_size=8, optimizer=kind))


def test_what_happens_to_the_model_afterwards_does_not_change_the_task():
    model = zoo.model("linear")
    task = Task(model, zoo.vectors(), batch_size=8)
    before = train(task, RUNS, 6).frame
    with torch.no_grad():
        model.weight.zero_()
    model.requires_grad_(requires_grad=False).eval()
    assert train(task, RUNS, 6).frame.equals(before)


def test_a_factorys_models_are_never_the_users():
    made = []

    def factory():
        made.append(nn.Linear(3, 3))
        return made[-1]

    with untouched():
        task = Task(factory, zoo.vectors(), batch_size=8)
        train(task, RUNS, 6)
    assert len(made) >= 4


# --- when it goes wrong ---------------------------------------------------------------------------


class Bomb:
    """A loss that raises from its nth call on, counted anew when it is armed.

    The first ones may be those of the diagnosis, which says nothing of what it cannot see.
    """

    def __init__(self, call, error):
        self.error = error
        self.arm(call)

    def arm(self, call):
        self.call, self.calls = call, 0

    def __call__(self, outputs, labels):
        self.calls += 1
        if self.call is not None and self.calls >= self.call:
            raise self.error
        return nn.functional.cross_entropy(outputs, labels)


@pytest.mark.parametrize("verb", CALM_VERBS)
@pytest.mark.parametrize("error", [Stop("enough"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("call", [5, 7, 16])  # after those of Task, and those that look at it
@pytest.mark.parametrize("name", ["convolution", "InPlace"])
def test_nothing_changes_when_the_loss_raises(name, call, error, verb):
    model, data = zoo.model(name), zoo.tensors(name)
    loss = Bomb(None, error)
    with untouched(model, data):
        task = Task(model, data, val=data, loss=loss, batch_size=8)
        loss.arm(call)
        with pytest.raises(type(error)) as caught:
            CALM_VERBS[verb](task)
    assert caught.value is error
    assert loss.calls >= call


@pytest.mark.parametrize("name", ["convolution", "pending", "lazy", "InPlace"])
def test_nothing_changes_when_the_task_is_refused(name):
    model, data = zoo.model(name), zoo.tensors(name)
    with untouched(model, data), pytest.raises(lrtune.LrtuneError, match="enough"):
        Task(model, data, loss=Bomb(1, Stop("enough")), batch_size=8)
    for call in (1, 2):  # the second is on the validation data
        with untouched(model, data), pytest.raises(KeyboardInterrupt):
            Task(model, data, val=data, loss=Bomb(call, KeyboardInterrupt()), batch_size=8)


class Torn:
    """Three batches a pass; each stream raises at the nth batch it is asked for, and shuffles."""

    def __init__(self, batch, error):
        self.batch, self.error, self.asked = batch, zoo.Tally([error]), 0

    def __iter__(self):
        for inputs, labels in zoo.Shuffled():
            self.asked += 1
            if self.asked == self.batch:
                raise self.error[0]
            yield inputs, labels


@pytest.mark.parametrize("verb", CALM_VERBS)
@pytest.mark.parametrize("error", [Stop("torn"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_nothing_changes_when_the_loader_raises(batch, error, verb):
    model, val = zoo.model("Counting"), [zoo.vectors()]
    with untouched(model, val), pytest.raises(type(error)) as caught:
        CALM_VERBS[verb](Task(model, Torn(batch, error), val=val))
    assert caught.value is error


def test_a_note_says_which_batch_was_torn():
    with pytest.raises(Stop) as caught:
        train(Task(zoo.model("linear"), Torn(3, Stop())), [Run("a", 0.1, seed=3)], 6)
    assert caught.value.__notes__ == [
        "while loading batch 2 of seed 3",
        "at step 2 of 6, in the stage 'training', with run 'a' (lr 0.1, seed 3)",
    ]


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_nothing_changes_when_the_progress_raises(error):
    def progress(*_told):
        raise error

    model, data = zoo.model("dropout"), zoo.vectors()
    task = Task(model, data, batch_size=8)
    for verb in (lrtune.range_test, lrtune.search):
        with untouched(model, data), pytest.raises(type(error)):
            verb(task, steps=12, progress=progress)


def test_what_was_trained_before_an_interruption_can_be_read():
    """And the cohort refuses to go on, as its runs are no longer in lockstep."""
    runs = [Run("a", 0.1), Run("b", 0.2)]
    whole = train(Task(zoo.model("linear"), zoo.vectors(), batch_size=8), runs, 20).frame
    loss = Bomb(None, KeyboardInterrupt())
    task = Task(zoo.model("linear"), zoo.vectors(), loss=loss, batch_size=8)
    cohort = Cohort(task, runs, 20)
    loss.arm(2 * 13 + 1)
    with pytest.raises(KeyboardInterrupt):
        cohort.advance()
    trace = cohort.trace
    assert trace.runs[["steps", "outcome"]].to_numpy().tolist() == [[13, "PAUSED"]] * 2
    for run in runs:
        ours, theirs = (frame[frame["run"] == run.name] for frame in (trace.frame, whole))
        assert ours.to_numpy().tolist() == theirs.iloc[:13].to_numpy().tolist()
    for going_on in (cohort.advance, cohort.validate, lambda: cohort.fork("a", [Run("c", 1.0)])):
        with untouched(), pytest.raises(lrtune.LrtuneError, match="interrupted within a step"):
            going_on()


# --- whatever the caller is in --------------------------------------------------------------------


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def numbers(result):
    """Return a result as JSON, without the seconds that its costs took."""
    text = result if isinstance(result, str) else result.to_json()
    return re.sub(r'"seconds": \[[^]]*\]', "", text)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("verb", CALM_VERBS)
@pytest.mark.parametrize("name", ["convolution", "lazy"])
def test_a_caller_in_any_grad_mode_gets_the_same_answer(name, verb, caller):
    model, data = zoo.model(name), zoo.tensors(name)
    options = {"val": data, "batch_size": 8}
    expected = VERBS[verb](Task(model, data, **options))
    with CALLERS[caller](), untouched(model, data):
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        got = VERBS[verb](Task(model, data, **options))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert numbers(got) == numbers(expected)


@pytest.mark.parametrize("name", ["linear", "InPlace"])
def test_models_and_batches_made_under_inference_mode_can_be_trained(name):
    plain = zoo.model(name), list(zip(*(one.split(8) for one in zoo.vectors()), strict=True))
    with torch.inference_mode():
        made = zoo.model(name), [tuple(part.clone() for part in batch) for batch in plain[1]]
        traces = [numbers(train(Task(model, data), RUNS, 6)) for model, data in (plain, made)]
    assert traces[0] == traces[1]


@pytest.mark.parametrize("caller", CALLERS)
def test_the_grad_mode_is_given_back_when_the_loss_raises(caller):
    with CALLERS[caller]():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        loss = Bomb(None, Stop())
        task = Task(zoo.model("linear"), zoo.vectors(), loss=loss, batch_size=8)
        loss.arm(2)
        with pytest.raises(Stop):
            train(task, RUNS, 6)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


def test_the_camera_sees_what_it_should():
    """Each of these changes shows, so that the laws above can fail."""

    def change_gradient(model):
        model[0].weight.grad = torch.zeros_like(model[0].weight)

    changes = {
        "weight": lambda model: model[0].weight.data.add_(1e-6),
        "buffer": lambda model: model[1].running_mean.add_(1e-6),
        "mode": lambda model: model[1].eval(),
        "requires_grad": lambda model: model[0].requires_grad_(requires_grad=False),
        "gradient": change_gradient,
        "hook": lambda model: model.register_forward_hook(lambda *_: None),
        "new weight": lambda model: setattr(model[0], "weight", copy.deepcopy(model[0].weight)),
        "torch": lambda _model: torch.rand(()),
        "numpy": lambda _model: zoo.np.random.random(),
        "python": lambda _model: zoo.random.random(),
    }
    for change in changes.values():
        model = zoo.model("convolution")
        with pytest.raises(AssertionError), untouched(model):
            change(model)
    for data in ("generator", "stateful sampler", "batch sampler"):
        loader = zoo.DATA[data]()
        with pytest.raises(AssertionError), untouched(loader):
            list(loader)
