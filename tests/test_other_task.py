"""What was made with another task is refused: evaluators, studies, and what a search found."""

import dataclasses
import functools

import pytest
import torch
from torch import nn

import lrtune
from lrtune import Evaluator, Study, Task
from lrtune.errors import ArgumentError
from lrtune.results import read

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=DRAW)
Y = (X @ torch.randn(3, 3, generator=DRAW)).argmax(1)


def task(model=lambda: nn.Linear(3, 3), train=(X, Y), **more):
    return Task(model, train, device="cpu", **{"val": (X, Y), **more})


OTHERS = {
    "data": lambda: task(train=(30 * X, Y)),
    "labels": lambda: task(train=(X, (Y + 1) % 3)),
    "rows": lambda: task(train=(X[:50], Y[:50])),
    "batch size": lambda: task(batch_size=10),
    "model": lambda: task(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))),
    "weights": lambda: task(functools.partial(nn.Linear, 3, 3, bias=True), optimizer=None),
    "optimizer": lambda: task(optimizer=torch.optim.Adam),
    "momentum": lambda: task(optimizer=functools.partial(torch.optim.SGD, momentum=0.5)),
    "loss": lambda: task(loss=nn.CrossEntropyLoss(label_smoothing=0.3)),
    "validation": lambda: task(val=(X[:20], Y[:20])),
}
SAME = OTHERS.pop("weights")

VERBS = {
    "search": lambda one, **more: lrtune.search(one, steps=40, rate_only=True, **more),
    "range_test": lambda one, **more: lrtune.range_test(one, steps=20, seeds=1, **more),
    "compare": lambda one, **more: lrtune.compare(one, 0.1, steps=40, seeds=2, **more),
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_evaluator_of_another_task_is_refused(other):
    for verb in VERBS.values():
        for evaluate in (Evaluator(OTHERS[other]()), Evaluator(OTHERS[other]()).__call__):
            with pytest.raises(ArgumentError, match=r"evaluate trains another task: it.*Expected"):
                verb(task(), evaluate=evaluate)


def test_a_study_of_another_task_is_refused(tmp_path):
    study = Study(f"sqlite:///{tmp_path}/a.db", OTHERS["data"]())
    with pytest.raises(ArgumentError, match="its first training batch is another one"):
        VERBS["search"](task(), evaluate=study.evaluate)
    with pytest.raises(ArgumentError, match="evaluate trains another task"):
        study.evaluator(Evaluator(task()))


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
def test_an_evaluator_of_the_same_task_trains_for_it(tmp_path):
    """Made anew, or a task whose weights come from a generator of its own."""
    alone = VERBS["search"](task()).lr
    assert VERBS["search"](task(), evaluate=Evaluator(task())).lr == alone
    assert VERBS["search"](task(), evaluate=Evaluator(SAME())).lr == alone
    study = Study(f"sqlite:///{tmp_path}/a.db", task())
    assert VERBS["search"](task(), evaluate=study.evaluate).lr == alone
    own = torch.Generator().manual_seed(1)

    def drawn():
        model = nn.Linear(3, 3)
        nn.init.normal_(model.weight, std=0.1, generator=own)
        return model

    assert lrtune.search(task(drawn), steps=150, evaluate=Evaluator(task(drawn))).lr > 0


@pytest.fixture(scope="module")
def found():
    return lrtune.search(task(), steps=60, budget=4)


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
@pytest.mark.parametrize("other", ["data", "labels", "model", "optimizer", "loss", "batch size"])
def test_a_search_of_another_task_is_not_compared_with(found, other):
    """Also one that was read from a file."""
    kept = read(found.to_json())[0]
    for one in (found, kept):
        with pytest.raises(
            ArgumentError, match=r"another task.*Expected|another task: search with"
        ):
            lrtune.compare(OTHERS[other](), one, schedules=["step"], seeds=2)


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
def test_a_search_of_the_same_task_is_compared_with(found):
    ranked = lrtune.compare(task(), found, schedules=["step"], seeds=2, budget=4)
    assert ranked.runs["run"].isin(found.runs["run"]).any()
    elsewhere = dataclasses.replace(found, manifest={**found.manifest, "device": "cuda:0"})
    assert lrtune.compare(task(), elsewhere, schedules=["step"], seeds=2, budget=4).lr == ranked.lr


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
def test_a_sum_and_drawn_weights_are_no_other_task():
    summed = functools.partial(task, loss=nn.CrossEntropyLoss(reduction="sum"))
    own = torch.Generator().manual_seed(1)

    def drawn():
        model = nn.Linear(3, 3)
        nn.init.normal_(model.weight, generator=own)
        return model

    for make in (summed, functools.partial(task, drawn)):
        result = lrtune.search(make(), steps=40, budget=2)
        assert lrtune.compare(make(), result, schedules=["step"], seeds=2, budget=4).lr > 0
