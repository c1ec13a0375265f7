"""What fails in the user's own code is told with run, rate and step; what was finished stays."""

import gc
import json
import random
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrtune.cli.commands import app
from tests.faults.searching import recorded

TASK = """
import os, signal, torch
from pathlib import Path
from torch import nn
from torch.utils.data import DataLoader, Dataset
import lrtune

KIND, AT = "{kind}", {at}
draw = torch.Generator().manual_seed(0)
inputs = torch.randn(96, 4, generator=draw)
targets = inputs.sum(1, keepdim=True)
seen = []

def due(what):
    # Only what trains in the search counts, and only as long as there is a file `broken`.
    if KIND == what and Path("broken").exists():
        seen.append(0)
        return len(seen) > AT
    return False

class Examples(Dataset):
    def __len__(self):
        return len(inputs)

    def __getitem__(self, place):
        if KIND == "worker" and Path("broken").exists():
            with Path("fetched").open("ab") as count:  # a worker is a process of its own
                count.write(b".")
            if Path("fetched").stat().st_size > AT:
                os.kill(os.getpid(), signal.SIGKILL)
        return inputs[place], targets[place]

class Batches:
    def __iter__(self):
        for start in range(0, 96, 16):
            if due("loader"):
                raise OSError("the network drive is gone")
            yield inputs[start : start + 16], targets[start : start + 16]

def loss(output, target):
    if due("memory"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if due("loss"):
        raise ValueError("the loss has had enough")
    return (output - target).square().mean()

def model():
    torch.manual_seed(3)
    return nn.Linear(4, 1)

worker = DataLoader(Examples(), 16, num_workers=1) if KIND == "worker" else Batches()
task = lrtune.Task(model, worker, loss=loss, val=[(inputs, targets)], device="cpu")
"""
NAN = """
import torch
from torch import nn
import lrtune

draw = torch.Generator().manual_seed(0)
inputs = torch.randn(12, 8, 4, generator=draw)
targets = inputs.sum(2, keepdim=True)
inputs[{at}] = torch.nan
task = lrtune.Task(
    lambda: nn.Linear(4, 1), list(zip(inputs, targets)), loss=nn.MSELoss(), device="cpu",
)
"""
SAYS = {
    "loader": "OSError: the network drive is gone",
    "memory": r"a single run \(.*CUDA out of memory.*Use smaller batches",
    "loss": "ValueError: the loss has had enough",
    # Its pipe may break before torch hears of its death.
    "worker": "DataLoader worker|ConnectionResetError|EOFError",
}
FAULT = {
    "loader": "a loader that raises at batch n",
    "memory": "CUDA out of memory (simulated) at step k",
    "loss": "a loss that raises at step k",
    "worker": "a loader worker that dies",
}
WITHIN = {"loader": (80, 140), "memory": (64, 184), "loss": (64, 184), "worker": (1800, 2500)}
"""After how many batches, losses or examples it breaks: within what the search takes."""

LINE = ["search", "train.py", "--steps", "40", "--json"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke a search in a folder of its own, in which `train.py` is read anew each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))

    def invoke(*more):
        sys.modules.pop("train", None)
        return CliRunner().invoke(app, [*LINE, *more])

    yield invoke
    sys.modules.pop("train", None)


def results_of(result):
    """The results, without the places of checkpoints, which depend on the study."""
    plain = json.loads(
        result.stdout,
        object_hook=lambda one: {name: one[name] for name in one if name != "checkpoint"},
    )
    return [one for one in plain["results"] if one["kind"] != "trace"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a dead worker
@pytest.mark.parametrize("kind", SAYS)
def test_the_error_says_where_and_the_search_resumes_once_it_is_mended(run, tally, times, kind):
    draw = random.Random(kind)
    for n in range(times(5, 1) if kind == "worker" else times(12, 2)):
        at = draw.randint(*WITHIN[kind])
        Path("train.py").write_text(TASK.format(kind=kind, at=at))
        plain = run("--no-study")
        assert plain.exit_code == 0, plain.output
        Path("broken").touch()
        study = ["--study", f"{kind}-{n}"]
        broken = run(*study)
        Path("broken").unlink()
        Path("fetched").unlink(missing_ok=True)
        message = " ".join(broken.stderr.split())
        assert broken.exit_code == 1, (kind, at, broken.output)
        assert re.search(SAYS[kind], message), message
        at_once = re.search(r"after \d+ of \d+ updates of the stage", message)
        if kind != "worker" or not at_once:  # a death comes as a signal, wherever we are
            assert re.search(r"run '[^']+' \(lr [\d.e+-]+, seed \d\)", message), message
            assert re.search(r"at step \d+ of \d+", message), message
        before = recorded(Path(".lrtune") / f"{kind}-{n}.db")
        assert before, "what was finished before it broke"
        assert results_of(broken) == []
        again = run(*study)
        assert again.exit_code == 0, again.output
        lost = len(before - recorded(Path(".lrtune") / f"{kind}-{n}.db"))
        count = int((re.search(r"remembered (\d+)", again.stderr) or [0, 0])[1])
        tally(
            FAULT[kind],
            1,
            lost + abs(count - len({key for _, key, *_ in before})),
            results_of(again) != results_of(plain),
        )
    del broken, again, plain
    gc.collect()  # the loaders of dead workers complain here, and not in the next test


def test_a_batch_on_which_the_loss_is_nan_is_named_and_nothing_of_it_is_recorded(run, tally, times):
    draw = random.Random(0)
    for n in range(times(12, 2)):
        at = draw.randrange(1, 10)
        Path("train.py").write_text(NAN.format(at=at))
        told = []
        for _ in range(2):
            failed = run("--study", f"nan-{n}", "--steps", "40")
            assert failed.exit_code == 1
            seen = " ".join(failed.stderr.split())
            assert f"the loss of the untrained model on batch {at} of epoch 0 (seed 0) is" in seen
            assert "holds NaN in the inputs" in seen or "hold NaN in the inputs" in seen
            assert "clip" not in seen
            assert "Traceback" not in seen
            told.append(seen.partition("Error:")[2].partition("Study")[0].strip())

        tally("a loss that becomes NaN at step k", 1, 0, told[0] != told[1])


def test_the_task_is_the_only_code_that_is_run(run, tmp_path):
    """A study's folder may hold anything: nothing in it is imported."""
    Path("train.py").write_text(NAN.format(at="0:0"))
    Path(".lrtune").mkdir()
    for name in ("lrtune.py", "torch.py", "sitecustomize.py", "conftest.py", "train.py"):
        Path(".lrtune", name).write_text("open('owned', 'w')")
    assert run().exit_code == 0
    assert not Path("owned").exists()
