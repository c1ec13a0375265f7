"""What all tests share: one thread, and examples that are the same each time."""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from typer.testing import CliRunner

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models run slower with more

patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", derandomize=True, **patient)
settings.register_profile("seeking", **patient)  # new examples each time
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke the command line in a folder of its own."""
    from lrtune.cli.commands import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    before = set(sys.modules)
    runner = CliRunner(env={"COLUMNS": "80"})
    yield lambda *arguments: runner.invoke(app, [str(one) for one in arguments])
    for name in set(sys.modules) - before:  # the files of tasks are modules of their name
        if (tmp_path / f"{name}.py").exists():
            sys.modules.pop(name)
