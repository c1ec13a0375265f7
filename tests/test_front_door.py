"""What is public is listed, documented, and light to import."""

import subprocess
import sys

import pytest

import lrtune
from lrtune.errors import ArgumentError


def test_every_public_name_is_there_and_documented():
    assert lrtune.__all__ == sorted(lrtune.__all__)
    assert all(getattr(lrtune, name).__doc__ for name in lrtune.__all__)
    assert dir(lrtune) == lrtune.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        lrtune.serach  # noqa: B018 - the access is the test


@pytest.mark.parametrize("verb", ["search", "range_test", "compare", "train", "Cohort", "Study"])
def test_a_model_in_place_of_a_task_is_told_what_a_task_is(verb, tmp_path):
    from torch import nn

    more = {"compare": (0.1,), "train": ([lrtune.Run("a", 0.1)], 5)}
    arguments = (nn.Linear(2, 1), *more.get("train" if verb == "Cohort" else verb, ()))
    if verb == "Study":
        arguments = (f"sqlite:///{tmp_path}/x.db", *arguments)
    with pytest.raises(ArgumentError, match=r"task is a Linear, expected an lrtune\.Task"):
        getattr(lrtune, verb)(*arguments)


@pytest.mark.parametrize(
    "code",
    [
        "import lrtune",
        "import lrtune.schedules, lrtune.analysis, lrtune.figures, lrtune.results.runs",
        "import lrtune.reporting",
        "import typer.testing as t, lrtune.cli.commands as c; t.CliRunner().invoke(c.app, ['-h'])",
    ],
)
def test_it_imports_neither_torch_nor_optuna(code):
    spy = "import sys; print([name for name in ('torch', 'optuna') if name in sys.modules])"
    seen = subprocess.run(
        [sys.executable, "-c", f"{code}\n{spy}"], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "[]"
