"""What is public is listed, documented, and light to import."""

import subprocess
import sys

import pytest

import lrtune


def test_every_public_name_is_there_and_documented():
    assert lrtune.__all__ == sorted(lrtune.__all__)
    assert all(getattr(lrtune, name).__doc__ for name in lrtune.__all__)
    assert dir(lrtune) == lrtune.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        lrtune.serach  # noqa: B018 - the access is the test


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
