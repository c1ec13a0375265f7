"""What is said of model, loss and gradients: each name on broken tasks and their healthy twins."""

import copy

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lrtune
from benchmarks.diagnosis import (
    broken_layers,
    broken_outputs,
    broken_parameters,
    broken_states,
    broken_updates,
)
from benchmarks.diagnosis.healthy import DIGITS, conv, mlp
from benchmarks.diagnosis.methods import METHODS
from lrtune.diagnosis.checks import (
    depth,
    direction,
    modes,
    outputs,
    parameters,
    repeating,
    units,
)
from lrtune.diagnosis.checks.depth import total_change
from lrtune.diagnosis.observations.losses import what_holds
from lrtune.diagnosis.observations.origins import graph_leaves, made_by
from lrtune.diagnosis.observations.passes import first_batches, watched_passes
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.registry import CHECKS, TRIALS
from lrtune.diagnosis.trials import Trials

pytestmark = [  # torch warns of some of these tasks, and only warns
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("Using a target size", "None of the inputs have", "Sparse invariant checks")
]

F = nn.functional
FILES = (broken_layers, broken_outputs, broken_parameters, broken_states, broken_updates)
BROKEN = {name: cases for file in FILES for name, cases in file.BROKEN.items()}
CASES = [(name, *case) for name, cases in BROKEN.items() for case in cases]
OURS = {
    check.__module__ for check in (
        depth.check_depth, direction.check_sign, modes.check_modes, outputs.check_activation,
        parameters.check_gradients, repeating.check_state, units.check_units,
    )
}  # fmt: skip
CHEAP = [check for check in CHECKS if check.__module__ in OURS]
TRAINING = [check for check in TRIALS if check.__module__ in OURS]
TRAINED = {  # cases that show after some updates only
    "a branch times zero", "rounded features", *(case[0] for case in BROKEN["eval-differs"]),
}  # fmt: skip


def found(task, checks=CHEAP):
    seen = Trials(task)
    return [finding for check in checks for finding in check(seen)]


def names(task, checks=CHEAP):
    return {finding.name for finding in found(task, checks)}


def against(task, checks=CHEAP):
    return [finding.sentence for finding in found(task, checks) if finding.severity != "note"]


@pytest.mark.parametrize(
    ("name", "broken", "healthy", "checks"),
    [
        pytest.param(name, broken, healthy, TRAINING if title in TRAINED else CHEAP, id=title)
        for name, title, broken, healthy in CASES
    ],
)
def test_a_broken_task_is_told_from_its_healthy_twin(name, broken, healthy, checks):
    told = [one for one in found(broken(), checks) if one.name == name]
    assert told
    assert all(one.evidence.endswith(".") and one.remedy.endswith(".") for one in told)
    assert any(character.isdigit() for character in told[0].evidence)
    assert against(healthy(), checks) == []


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_said_against_methods_that_look_odd(name):
    seen = Observed(METHODS[name]())
    assert seen.first_pass is not None
    assert [f.sentence for check in CHEAP for f in check(seen) if f.severity != "note"] == []


@pytest.mark.parametrize("name", ["LayerDrop", "spectral norm", "a network of signs"])
def test_nothing_is_said_against_them_after_a_short_training(name):
    assert against(METHODS[name](), TRAINING) == []


def test_every_name_has_three_broken_tasks():
    listed = [one for check, some in (CHECKS | TRIALS).items() if check.__module__ in OURS
              for one in some]  # fmt: skip
    assert set(BROKEN) == set(listed)
    assert all(len(cases) >= 3 for cases in BROKEN.values())


# --- what may not change what is said -------------------------------------------------------------


class Scaled(nn.Module):
    """A loss times a number."""

    def __init__(self, loss, scale):
        super().__init__()
        self.loss, self.scale = loss, scale

    def forward(self, given, wanted):
        return self.scale * self.loss(given, wanted)


MODELS = {
    "a softmax": (lambda: nn.Sequential(*conv(), nn.Softmax(1)), F.cross_entropy),
    "a deep tower": (lambda: broken_layers.tower(8, nn.ReLU, std=0.01), F.cross_entropy),
    "large weights": (lambda: broken_layers.tower(8, nn.ReLU, std=1.0), F.cross_entropy),
    "dead units": (lambda: broken_layers.low_bias(-5.0), F.cross_entropy),
    "a negated loss": (mlp, broken_updates.likelihood),
    "a forgotten layer": (lambda: broken_parameters.Forgotten(True), F.cross_entropy),
    "a kept state": (lambda: broken_states.Remembering(True), F.cross_entropy),
    "nothing": (mlp, F.cross_entropy),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4, deadline=None)
@given(power=st.integers(-6, 6))
def test_the_scale_of_the_loss_does_not_matter(name, power):
    model, loss = MODELS[name]
    plain = names(lrtune.Task(model, **DIGITS, loss=loss))
    assert names(lrtune.Task(model, **DIGITS, loss=Scaled(loss, 4.0**power))) == plain


@pytest.mark.parametrize("name", MODELS)
def test_the_precision_does_not_matter(name):
    model, loss = MODELS[name]
    data = tuple(DIGITS["train"])
    twice = (data[0].double(), data[1])
    assert names(lrtune.Task(lambda: model().double(), twice, loss=loss, device="cpu")) == names(
        lrtune.Task(model, data, loss=loss, device="cpu")
    )


def test_the_order_of_the_parameters_does_not_matter():
    class Turned(nn.Module):
        """Lists its last layers first, and calls them last."""

        def __init__(self, body):
            super().__init__()
            self.parts, self.body = nn.ModuleList(reversed(body)), (lambda: reversed(self.parts))

        def forward(self, inputs):
            for part in self.body():
                inputs = part(inputs)
            return inputs

    for name, (model, loss) in MODELS.items():
        if isinstance(model(), nn.Sequential):
            turned = lrtune.Task(lambda model=model: Turned(model()), **DIGITS, loss=loss)
            assert names(turned) == names(lrtune.Task(model, **DIGITS, loss=loss)), name


def test_a_coincidence_of_sizes_is_no_broadcast():
    """A kernel has 64 centres, and a batch 64 rows; with other batches nothing is odd at all."""
    seen = Observed(METHODS["waves"]())
    assert seen.calls.broadcasts
    assert not seen.calls_with_fewer_rows.broadcasts
    assert list(outputs.check_broadcast(seen)) == []


def test_only_what_all_losses_say_is_a_wrong_sign():
    def drawn_apart(model, batch):
        one, other = model(batch[0]), model(batch[0].flip(-1))
        far = F.mse_loss(one.softmax(1), other.softmax(1))
        return F.cross_entropy(one, batch[1]) - 0.01 * far

    task = lrtune.Task(mlp, **DIGITS, objective=drawn_apart)
    assert [call.reversed for call in Observed(task).calls.losses] == [True, False]
    assert "wrong-sign" not in names(task)


def test_a_model_that_cannot_be_looked_at_is_passed_over():
    class Choosy(nn.Module):
        """Raises in eval mode, and once it was called a few times."""

        def __init__(self):
            super().__init__()
            self.body, self.calls = mlp(), 0

        def forward(self, inputs):
            self.calls += 1
            if not self.training or self.calls > 1:
                raise RuntimeError("not again")
            return self.body(inputs)

    task = lrtune.Task(Choosy, DIGITS["train"], device="cpu", batch_size=1438)
    assert against(task) == []
    with pytest.raises(RuntimeError, match="not again"):  # as training does
        lrtune.diagnose(task)


# --- what looking leaves as it is -----------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.MODELS)
def test_looking_changes_nothing_of_the_user(name):
    model, data = zoo.model(name), zoo.tensors(name)
    with zoo.untouched(model, data):
        found(lrtune.Task(model, data, val=data, batch_size=8), [*CHEAP, *TRAINING])


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_watched_pass_has_the_loss_and_the_gradients_of_a_plain_one(name):
    """So nothing that is raised inside is taken for an error of the user's."""
    from lrtune.task.random_state import NOISE, derive_seed, seed_everything

    task = lrtune.Task(zoo.model(name), zoo.tensors(name), batch_size=8)
    (batch,) = first_batches(task, 1)
    (watched,) = watched_passes(task, [batch])
    state = task.init_state(0, 1e-3)
    seed_everything(derive_seed(0, NOISE, 0))
    loss = task.loss(state, task.to_device(batch))
    loss.backward()
    assert watched.loss == loss.item()
    for weight, parameter in zip(watched.weights, state.model.parameters(), strict=True):
        assert weight.reached == (parameter.grad is not None)
        if weight.reached:
            assert weight.gradient == float(parameter.grad.double().norm())


# --- parts ----------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=12),
    st.floats(-5, 5),
    st.floats(-2, 2),
)
def test_a_trend_is_shifted_by_nothing_and_tilted_by_a_slope(values, shift, slope):
    tilted = [value + shift + slope * place for place, value in enumerate(values)]
    expected = total_change(values) + slope * (len(values) - 1)
    assert total_change(tilted) == pytest.approx(expected, abs=1e-6)
    assert total_change(tilted[::-1]) == pytest.approx(-expected, abs=1e-6)


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_what_numbers_are_does_not_depend_on_the_axis(classes, rows, seed):
    scores = torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))
    for axis, numbers in ((1, scores), (0, scores.T)):
        assert what_holds(numbers.softmax(axis), [[axis]]) == "probabilities"
        assert what_holds(numbers.log_softmax(axis), [[axis]]) == "log-probabilities"
        assert what_holds(numbers - 9, [[axis]]) == "scores"


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, 0],
        lambda x: x.squeeze(),
        lambda x: x.view(-1),
        lambda x: x.permute(1, 0).reshape(3, 2),
        lambda x: x.double().half(),
        lambda x: x.clamp(0.1, 0.9),
        lambda x: x.clone()[None].expand(2, -1, -1),
        torch.Tensor.flatten,
    ],
)
def test_the_shape_does_not_hide_what_made_a_tensor(change):
    inputs = torch.randn(2, 3, requires_grad=True)
    assert made_by(change(torch.sigmoid(inputs))) == "Sigmoid"
    assert made_by(change(2 * inputs)) == "Mul"
    assert list(graph_leaves(change(torch.tanh(inputs)))) == [id(inputs)]


def test_a_state_that_is_meant_is_a_note():
    """A running mean in a buffer, which each run has for itself."""
    broken = broken_states.Smoothing(True)
    assert [f.severity for f in found(lrtune.Task(broken, **DIGITS))] == ["warning"]
    (note,) = found(METHODS["codes as running means"]())
    assert (note.name, note.severity) == ("state-between-batches", "note")


def test_frozen_parameters_are_a_note():
    model = copy.deepcopy(conv())
    for parameter in list(model.parameters())[:4]:
        parameter.requires_grad_(requires_grad=False)
    (note,) = found(lrtune.Task(model, **DIGITS))
    assert (note.name, note.severity) == ("no-gradient", "note")
    assert "4 of 10 parameters" in note.evidence
