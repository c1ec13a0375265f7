"""A loss may hide numbers that are not finite; weights that are not finite are a failed run."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import lrtune
from lrtune import Run, Task
from lrtune.errors import DataError
from lrtune.training import Cohort
from lrtune.training.engine_choice import ENGINES

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=DRAW)
T = X.sum(1, keepdim=True)
BAD = T.clone()
BAD[5] = float("nan")


def hiding(outputs, targets):
    return torch.nan_to_num(functional.mse_loss(outputs, targets))


class Breaks(torch.optim.SGD):
    """Breaks the weights at high rates, as a norm of 0 does in a backward pass."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for weight in group["params"] if group["lr"] > 0.5 else ():
                weight.data.fill_(float("nan"))


def task(targets=T, **more):
    return Task(lambda: nn.Linear(4, 1), (X, targets), loss=hiding, device="cpu", **more)


def test_a_batch_that_breaks_every_run_is_named():
    verbs = {
        "train": functools.partial(lrtune.train, runs=[Run("a", 1e-3)], steps=9),
        "search": functools.partial(lrtune.search, steps=60),
        "range_test": lrtune.range_test,
        "compare": functools.partial(lrtune.compare, found=0.1, steps=60, schedules=["step"]),
    }
    for verb in verbs.values():
        with pytest.raises(DataError, match=r"hides numbers .*Sample 5 \(.*NaN in the targets"):
            verb(task(BAD, val=(X, T), batch_size=10))


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_are_not_finite_are_a_failed_run(engine):
    """Its loss is then 0, and the other run is as it is alone."""
    low, high = Run("low", 0.01), Run("high", 0.6)
    trace = lrtune.train(task(val=(X, T), optimizer=Breaks), [low, high], steps=50, engine=engine)
    outcomes = trace.runs.set_index("run")["outcome"]
    assert outcomes.to_dict() == {"low": "FINISHED", "high": "NONFINITE"}
    assert set(trace.validations["run"]) == {"low"}
    alone = lrtune.train(task(optimizer=Breaks), [low], steps=50, engine=engine).frame["loss"]
    both = trace.frame.loc[trace.frame["run"] == "low", "loss"]
    assert both.to_numpy() == pytest.approx(alone.to_numpy(), rel=1e-4)


def test_a_search_takes_no_hidden_nan_for_the_best_training():
    found = lrtune.search(task(val=(X, T), optimizer=Breaks), steps=60)
    assert found.lr < 0.5
    assert 0 < found.best.selected < 0.1


def test_infinite_numbers_in_what_is_not_trained_are_no_failure():
    """Such as the mask of an attention."""

    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(4, 1)
            self.mask = nn.Parameter(torch.tensor([0.0, -torch.inf]), requires_grad=False)

    masked = Task(Masked, (X, T), loss=nn.MSELoss(), device="cpu")
    assert [run.name for run in Cohort(masked, [Run("a", 0.01)], 5).advance().live] == ["a"]
