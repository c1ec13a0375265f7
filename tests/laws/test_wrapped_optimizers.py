"""An optimizer goes on from a checkpoint as it was, or not at all."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from lrtune import Evaluator, Run, Task
from lrtune.schedules import cosine

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(64, 3, generator=DRAW)
BATCHES = list(zip(X.split(16), (X.sum(1) > 0).long().split(16), strict=True))
RUNS, STEPS = [Run("a", 0.1, cosine())], 20


class Wrapper(Optimizer):
    """Shares its groups with the optimizer that it wraps."""

    def __init__(self, params, lr):
        self.base = SGD(params, lr=lr, momentum=0.9)
        self.defaults, self.state = self.base.defaults, self.base.state
        self.param_groups = self.base.param_groups

    def zero_grad(self):
        self.base.zero_grad()

    def step(self, closure=None):
        self.base.step()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)


class Linked(Wrapper):
    """The same, and shares them after loading, too."""

    def load_state_dict(self, state):
        self.base.load_state_dict(state)
        self.param_groups, self.state = self.base.param_groups, self.base.state


class Lookahead(Linked):
    """Keeps slow weights and a count, which its `state_dict` leaves out."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        weights = [one for group in self.param_groups for one in group["params"]]
        self.slow, self.count = {one: one.detach().clone() for one in weights}, 0

    def step(self, closure=None):
        self.base.step()
        self.count += 1
        if self.count % 5 == 0:
            with torch.no_grad():
                for weight, slow in self.slow.items():
                    weight.copy_(slow.lerp_(weight, 0.5))


class Remembering(Lookahead):
    """The same with a `state_dict` that holds everything."""

    def state_dict(self):
        own = {"slow": [one.clone() for one in self.slow.values()], "count": self.count}
        return self.base.state_dict() | {"own": own}

    def load_state_dict(self, state):
        super().load_state_dict({key: state[key] for key in ("state", "param_groups")})
        for slow, saved in zip(self.slow.values(), state["own"]["slow"], strict=True):
            slow.copy_(saved)
        self.count = state["own"]["count"]


class Counted(SGD):
    """A count in an object of the user's own."""

    class Count:
        steps = 0

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.counted = self.Count()

    def step(self, closure=None):
        self.counted.steps += 1
        for group in self.param_groups:
            for one in group["params"]:
                one.grad.mul_(1 if self.counted.steps % 3 else 2)
        super().step(closure)


def losses(optimizer, folder):
    """Those of a training at once, of one in two processes, and what was said in the second."""

    def task():
        torch.manual_seed(0)
        return Task(nn.Linear(3, 3), BATCHES, optimizer=optimizer, device="cpu")

    whole = Evaluator(task())(RUNS, STEPS, stage="s").frame["loss"].tolist()
    Evaluator(task(), checkpoints=folder)(RUNS, STEPS, stage="s", until=9, checkpoint=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rest = Evaluator(task(), checkpoints=folder)(RUNS, STEPS, stage="s")
    updates = rest.costs["updates"].item()
    return whole, rest.frame["loss"].tolist(), [str(one.message) for one in told], updates


FORGETFUL = {
    "groups that were shared": (Wrapper, "param_groups of the Wrapper are no longer those"),
    "slow weights": (Lookahead, r"what the Lookahead holds in count, slow is not what was saved"),
    "a count in an object": (Counted, "what the Counted holds in counted is not what was saved"),
}


@pytest.mark.parametrize(("optimizer", "why"), FORGETFUL.values(), ids=FORGETFUL)
def test_what_a_state_dict_leaves_out_is_told_and_the_run_trains_from_its_start(
    tmp_path, optimizer, why
):
    whole, rest, told, updates = losses(optimizer, tmp_path)
    assert whole == rest
    assert updates == STEPS
    (said,) = told
    assert why in said
    assert said.endswith("Its runs train from the start.")


@pytest.mark.parametrize("optimizer", [Linked, Remembering, SGD, torch.optim.AdamW])
def test_an_optimizer_that_gives_all_back_goes_on(tmp_path, optimizer):
    whole, rest, told, updates = losses(optimizer, tmp_path)
    assert whole == rest
    assert (told, updates) == ([], STEPS - 9)
