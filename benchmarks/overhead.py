"""What a cohort of one costs over the hand-written loop: both in one process, taking turns.

    python benchmarks/overhead.py [--steps 6000]

Both train the same small CNN on the embedded digits, on the same batches, and end with the same
losses, bit for bit; that is checked. The cohort also seeds the random layers, takes a digest of
each batch, and watches for divergence; the loop does none of it. They take turns every 200 steps,
so that what else the machine does falls on both. Printed are the medians per step, and as the
figure to quote the median of the paired ratios, with the quartiles and with what a cohort costs
once: checking, starting, and making the trace.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Iterator

import torch
from torch import nn

from lrtune import Cohort, Run, Task
from lrtune.demo import SmallCNN, images
from lrtune.randomness import ORDER, WEIGHTS, derive, preserved, seed_all

BATCH, TURN = 64, 200


def by_hand(data: tuple[torch.Tensor, torch.Tensor], steps: int) -> Iterator[list[float]]:
    inputs, targets = data
    seed_all(derive(0, WEIGHTS))
    model, loss = SmallCNN(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses, epoch = [], 0
    yield []
    while True:
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
            if len(losses) % TURN == 0:
                yield []
            if len(losses) == steps:
                yield torch.stack(losses).tolist()
        epoch += 1


def by_cohort(task: Task, steps: int) -> Iterator[list[float]]:
    cohort = Cohort(task, [Run("one", 0.05)], steps)
    yield []
    for step in range(TURN, steps + 1, TURN):
        cohort.advance(step)
        yield []
    yield cohort.trace.frame["loss"].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="a multiple of 200")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data, _ = images()
    task = Task(SmallCNN, data, device="cpu")
    for _ in by_cohort(task, 2 * TURN):  # a warm-up
        pass
    with preserved():
        ways = [by_hand(data, arguments.steps), by_cohort(task, arguments.steps)]
        times: list[list[float]] = [[], []]
        for turn in range(arguments.steps // TURN + 2):
            ends = []
            for way in (0, 1) if turn % 2 else (1, 0):
                begin = time.perf_counter()
                ends.append(next(ways[way]))
                times[way].append(time.perf_counter() - begin)
    assert ends[0] == ends[1], "the two must train alike, bit for bit"
    hand, cohort = times
    ratios = [one / other for one, other in zip(cohort[1:-1], hand[1:-1], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    micro = 1e6 / TURN
    steady = statistics.median(cohort[1:-1])
    once = cohort[0] - hand[0] + cohort[-1] - hand[-1]
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {platform.machine()}")
    print(f"by hand    {statistics.median(hand[1:-1]) * micro:7.1f} us per step")
    print(f"cohort     {steady * micro:7.1f} us per step, and {once * 1e3:.1f} ms once")
    print(f"ratio      {middle:7.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} pairs)")


if __name__ == "__main__":
    main()
