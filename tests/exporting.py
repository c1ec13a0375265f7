"""Shared by the tests of to_torch and snippets: optimizers, a training loop, the laws."""

from itertools import pairwise

import pytest
import torch
from torch.optim import lr_scheduler as native

from lrtune.schedules import momenta, multipliers, snippet

AFTER = 10
PEAKS = [0.1, 0.003]  # of two parameter groups


def sgd(peaks=PEAKS):
    groups = [{"params": [torch.zeros(1)], "lr": peak} for peak in peaks]
    return torch.optim.SGD(groups, momentum=0.5)


def adam(peaks=PEAKS):
    groups = [{"params": [torch.zeros(1)], "lr": peak} for peak in peaks]
    return torch.optim.AdamW(groups, betas=(0.5, 0.99))


def walk(optimizer, scheduler, steps):
    """Rates and momenta that an ordinary training loop trains with: one row for each step."""
    rates, moments = [], []
    for _ in range(steps):
        groups = optimizer.param_groups
        rates.append([float(group["lr"]) for group in groups])
        moments.append(
            [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
        )
        optimizer.step()
        scheduler.step()
    return rates, moments


def paste(schedule, optimizer, steps, lr=PEAKS[0]):
    """Run the snippet as a script would that has an optimizer and no lrtune."""
    source = snippet(schedule, lr, steps)
    assert "import lrtune" not in source
    assert "from lrtune" not in source
    script = {"optimizer": optimizer}
    exec(source, script)  # noqa: S102 - it is what users do with it
    assert isinstance(script["scheduler"], native.LRScheduler)
    return script["scheduler"]


def check(schedule, scheduler, optimizer, steps):
    """The laws of every torch scheduler and snippet."""
    rates, moments = walk(optimizer, scheduler, steps + AFTER)
    expected = multipliers(schedule, steps)
    for group, peak in enumerate(PEAKS):
        mine = [row[group] for row in rates]
        assert mine[:steps] == pytest.approx(
            [peak * m for m in expected], rel=1e-9, abs=1e-12 * peak
        )
        assert min(mine) >= 0
        assert all(b <= a * (1 + 1e-12) for a, b in pairwise(mine[steps - 1 :]))
    wanted = momenta(schedule, steps) or [0.5] * steps
    for row, value in zip(moments, wanted + wanted[-1:] * AFTER, strict=True):
        assert row == pytest.approx([value] * len(PEAKS))
