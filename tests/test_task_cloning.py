"""Copies of models: what they contain, and which models are refused because a copy would leak."""

import functools

import pytest
import torch
import zoo
from torch import nn

from lrtune import Cohort, Run, Task, train
from lrtune.errors import TaskError
from lrtune.task.cloning import deepcopy_module
from lrtune.task.random_state import preserve_random_state

RUNS = [Run("a", 0.1), Run("b", 0.2), Run("c", 0.1, seed=1)]


def task(model, **more):
    return Task(model, zoo.vectors(), batch_size=8, device="cpu", **more)


def halved(gradient):
    return gradient / 2


# --- what comes along -----------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_hooks_and_attributes_of_a_parameter_are_copied(frozen):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    weight = model[0].weight
    weight.register_hook(halved)
    weight.register_post_accumulate_grad_hook(seen := Seen())
    weight.group, weight.layer = "slow", model[0]
    weight.requires_grad_(requires_grad=not frozen)
    made = deepcopy_module(model)[0].weight
    assert (made.group, made.requires_grad) == ("slow", not frozen)
    assert made.layer.weight is made
    made.requires_grad_()
    made.sum().backward()
    assert made.grad.unique().tolist() == [0.5]
    assert not seen.calls
    assert next(iter(made._post_accumulate_grad_hooks.values())).calls == [made]


class Seen:
    def __init__(self):
        self.calls = []

    def __call__(self, parameter):
        self.calls.append(parameter)


def test_a_gradient_hook_of_an_instance_works_as_that_of_a_factory():
    """torch forgets it at each deep copy."""

    def make():
        model = zoo.model("linear")
        model.weight.register_hook(halved)
        return model

    traces = [train(task(one), RUNS[:2], 9).frame for one in (make(), make, zoo.model("linear"))]
    assert traces[0].equals(traces[1])
    assert not traces[0].equals(traces[2])


def test_a_fork_keeps_the_hooks():
    model = zoo.model("linear")
    model.weight.register_hook(halved)
    cohort = Cohort(task(model), RUNS[:1], 9).advance(4).fork("a", [Run("twin", 0.1)]).advance()
    rows = cohort.trace.frame.set_index("run")["loss"]
    assert rows["twin"].tolist() == rows["a"].tolist()[4:]


def test_lazy_buffers_are_copied_though_torch_refuses_to():
    model = nn.Sequential(nn.Linear(3, 4), nn.LazyBatchNorm1d(), nn.LazyLinear(3))
    with zoo.untouched(model):
        assert train(task(model), RUNS, 3).runs["steps"].eq(3).all()


def test_bound_methods_and_partials_are_bound_to_the_copy():
    model = zoo.model("linear")
    model.forward = functools.partial(doubled, model.forward)
    made = deepcopy_module(model)
    with torch.no_grad():
        made.weight.zero_()
        made.bias.zero_()
    assert not made(torch.ones(1, 3)).any()
    with zoo.untouched(model):
        train(task(model), RUNS, 3)


def doubled(call, inputs):
    return call(inputs) * 2


# --- when there is no copy ------------------------------------------------------------------------


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        return self


class SameWeight(nn.Linear):
    def __deepcopy__(self, memo):
        made = nn.Linear(3, 3)
        made.weight.data = self.weight.data
        return made


class Latest(nn.Linear):
    def forward(self, inputs):
        self.latest = super().forward(inputs)
        return self.latest


class Closed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))
        self.scaled = lambda inputs: inputs * self.scale

    def forward(self, inputs):
        return self.scaled(self.layer(inputs))


def latest():
    model = nn.Sequential(Latest(3, 3))
    model(torch.ones(1, 3))
    return model


def hooked(hook_of):
    model = nn.Sequential(nn.Linear(3, 3))
    model.seen = {}
    model[0].register_forward_hook(hook_of(model))
    return model


def patched():
    model = nn.Linear(3, 3)
    plain = model.forward
    model.forward = lambda inputs: plain(inputs) * 2
    return model


def weight_hook():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].weight.register_hook(lambda gradient: gradient * model[0].bias.norm())
    return model


GLOBAL = nn.Linear(3, 3)


def global_hook():
    GLOBAL._forward_hooks.clear()
    GLOBAL.register_forward_hook(lambda *_: [GLOBAL.train() for _ in "x"])
    return GLOBAL


WITHOUT = {
    "a part": (lambda: nn.Sequential(Uncopied(3, 3)), "shares the part 0.*__deepcopy__"),
    "all of it": (lambda: Uncopied(3, 3), "shares everything"),
    "memory": (lambda: nn.Sequential(SameWeight(3, 3)), "shares 0.weight"),
    "result": (latest, r"0.latest=float32\[1, 3\] is the result.*Set it to None, or pass a"),
    "attribute": (Closed, "scaled is a function that holds the whole"),
    "hook": (
        lambda: hooked(lambda model: lambda *_: model.seen.clear()),
        "a forward hook of 0 is a function that holds the whole",
    ),
    "default": (
        lambda: hooked(lambda model: lambda *_, seen=model.seen: seen.clear()),
        "forward hook of 0 is a function that holds seen",
    ),
    "patched": (patched, "forward is a function that holds the whole"),
    "gradient hook": (weight_hook, "a hook of 0.weight is a function that holds the whole"),
    "global": (global_hook, "a forward hook is a function that holds the whole"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_whose_copy_would_change_it_is_refused_with_the_way_out(name):
    make, why = WITHOUT[name]
    model = make()
    with (
        zoo.untouched(model),
        pytest.raises(TaskError, match=rf"{why}.*function that makes it: Task"),
    ):
        task(model)


@pytest.mark.parametrize("name", sorted(set(WITHOUT) - {"global"}))
def test_the_way_out_in_the_message_works(name):
    assert train(task(WITHOUT[name][0]), RUNS, 3).runs["steps"].eq(3).all()


def test_a_fork_that_would_share_weights_is_refused():
    cohort = Cohort(task(lambda: Uncopied(3, 3)), RUNS[:1], 9).advance(2)
    with pytest.raises(TaskError, match="training one would change the other"):
        cohort.fork("a", [Run("twin", 0.1)])


def test_hooks_that_only_share_a_name_with_the_model_are_taken():
    """An attribute `GLOBAL`, or a function that holds other models."""
    other = nn.Linear(3, 3)
    GLOBAL._forward_hooks.clear()
    handle = GLOBAL.register_forward_hook(lambda part, *_: getattr(part, "GLOBAL", other) and None)
    task(GLOBAL)
    handle.remove()


# --- functions that make models -------------------------------------------------------------------


def test_what_the_models_of_a_function_share_stays_as_it_is():
    act, norm = nn.ReLU().eval(), nn.BatchNorm1d(3, affine=False)
    table, bias = torch.eye(3), torch.zeros(3)

    def make():
        inner = nn.Sequential(norm, act)
        model = nn.Sequential(inner, nn.Linear(3, 3), act, nn.Linear(3, 3))
        model[1].weight.data, model[3].bias.data = table, bias
        model.register_buffer("constant", bias)
        return model

    with zoo.untouched(act, norm, table, bias):
        brought = task(make)
        with preserve_random_state():
            one, other = (brought.init_state(0, 0.1).model for _ in range(2))
        assert one[0][1] is one[2] is not act
        assert one[0][0] is not other[0][0]
        assert one[1].weight.data_ptr() != other[1].weight.data_ptr()
        alone = train(brought, RUNS[:1], 9).frame
        together = train(brought, RUNS, 9).frame
    assert alone.equals(together[together["run"] == "a"].reset_index(drop=True))


def test_frozen_memory_may_be_shared_as_nobody_writes_into_it():
    table = torch.eye(3)

    def make():
        model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
        model[0].weight = nn.Parameter(table, requires_grad=False)
        return model

    brought = task(make)
    with preserve_random_state():
        assert brought.init_state(0, 0.1).model[0].weight.data_ptr() == table.data_ptr()
    with zoo.untouched(table):
        train(brought, RUNS, 9, engine="vmapped")
