"""found.scheduler(optimizer): whether the optimizer gets the rates that were recommended."""

import warnings

import pytest
import torch
from reporting import a_search
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lrtune.errors import AnswerWarning, ArgumentError

FOUND = a_search()


def optimizer(lr=FOUND.lr, **group):
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], **group}], lr=lr)


@pytest.mark.parametrize("made", [optimizer(), optimizer(1.001 * FOUND.lr), optimizer(lr=FOUND.lr)])
def test_the_recommended_rate_is_scheduled_without_a_word(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = FOUND.scheduler(made)
    rates = []
    for _ in range(FOUND.steps):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        scheduler.step()
    assert max(rates) == pytest.approx(FOUND.lr, rel=0.01)


def test_of_several_groups_one_has_the_recommended_rate():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": parameters[:1], "lr": FOUND.lr / 10}, {"params": parameters[1:]}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FOUND.scheduler(SGD(groups, lr=FOUND.lr))


@pytest.mark.parametrize("lr", [0.001, 0.5 * FOUND.lr, 10 * FOUND.lr])
def test_another_rate_is_told_with_both(lr):
    with pytest.warns(AnswerWarning, match=f"has lr {lr:.3g}, .* with lr={FOUND.lr:g}"):
        FOUND.scheduler(optimizer(lr))


def test_a_second_scheduler_is_told():
    stepped = optimizer()
    StepLR(stepped, 50)
    with pytest.warns(AnswerWarning, match="has a scheduler already"):
        FOUND.scheduler(stepped)
    again = optimizer()
    FOUND.scheduler(again)
    with pytest.warns(AnswerWarning, match=f"with lr={FOUND.lr:g}"):
        FOUND.scheduler(again)


@pytest.mark.parametrize("odd", [nn.Linear(1, 1), None, "sgd"])
def test_what_is_no_optimizer_is_refused(odd):
    with pytest.raises(ArgumentError, match=r"expected an optimizer of torch\. Make one with lr="):
        FOUND.scheduler(odd)


@pytest.mark.parametrize("odd", [500, 0.1, ["cosine"]])
def test_a_snippet_of_no_text_is_refused(odd):
    with pytest.raises(ArgumentError, match="expected the text of one, such as 'cosine'"):
        FOUND.snippet(odd)
