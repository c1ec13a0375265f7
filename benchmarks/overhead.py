"""What a cohort of one costs over the hand-written loop: paired runs in one process, alternating.

    python benchmarks/overhead.py [--repeats 11] [--steps 1000]

Both train the same small CNN on the embedded digits, on the same batches, and end with the same
losses, bit for bit; that is checked. The cohort also seeds the random layers, takes a digest of
each batch, and watches for divergence; the loop does none of it. Printed are the medians
and, as the figure to quote, the median of the paired ratios with its quartiles.
"""

import argparse
import platform
import statistics
import time

import torch
from torch import nn

from lrtune import Run, train
from lrtune.demo import SmallCNN, images
from lrtune.randomness import ORDER, WEIGHTS, derive, preserved, seed_all
from lrtune.task import Task

BATCH = 64


def by_hand(data: tuple[torch.Tensor, torch.Tensor], steps: int) -> list[float]:
    inputs, targets = data
    seed_all(derive(0, WEIGHTS))
    model, loss = SmallCNN(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses, step, epoch = [], 0, 0
    while step < steps:
        order = torch.Generator().manual_seed(derive(0, ORDER, epoch))
        rows = torch.randperm(len(targets), generator=order)
        for start in range(0, len(targets) - BATCH + 1, BATCH):
            batch = rows[start : start + BATCH]
            x, y = inputs[batch], targets[batch]
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            losses.append(value.detach())
            step += 1
            if step == steps:
                break
        epoch += 1
    return torch.stack(losses).tolist()


def by_cohort(task: Task, steps: int) -> list[float]:
    return train(task, [Run("one", 0.05)], steps, validate=False).frame["loss"].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data, _ = images()
    task = Task(SmallCNN, data, device="cpu")
    hand, cohort = [], []
    for repeat in range(arguments.repeats + 1):
        ways = [(hand, lambda: by_hand(data, arguments.steps))]
        ways.append((cohort, lambda: by_cohort(task, arguments.steps)))
        losses = []
        with preserved():
            for times, way in ways if repeat % 2 else reversed(ways):
                begin = time.perf_counter()
                losses.append(way())
                times.append(time.perf_counter() - begin)
        assert losses[0] == losses[1], "the two must train alike, bit for bit"
    ratios = [one / other for one, other in zip(cohort[1:], hand[1:], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    micro = 1e6 / arguments.steps
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {platform.machine()}")
    print(f"by hand    {statistics.median(hand[1:]) * micro:7.1f} us per step")
    print(f"cohort     {statistics.median(cohort[1:]) * micro:7.1f} us per step")
    print(f"ratio      {middle:7.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} pairs)")


if __name__ == "__main__":
    main()
