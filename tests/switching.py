"""Optimizers that validate with other weights than they train with."""

import torch
from torch.optim import Optimizer


class ScheduleFreeSGD(Optimizer):
    """SGD of Defazio et al. 2024, arXiv:2405.15682, written like their package `schedulefree`.

    The parameters are y while it trains, and the average x while it validates; z is its state.
    """

    def __init__(self, params, lr=1.0, momentum=0.9, weight_decay=0.0):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        defaults |= {"k": 0, "weight_sum": 0.0, "lr_max": -1.0, "train_mode": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def _switch(self, train, weight_of):
        for group in self.param_groups:
            if group["train_mode"] is train:
                continue
            for p in group["params"]:
                if "z" in self.state[p]:
                    p.lerp_(end=self.state[p]["z"], weight=weight_of(group["momentum"]))
            group["train_mode"] = train

    def eval(self):
        self._switch(False, lambda momentum: 1 - 1 / momentum)

    def train(self):
        self._switch(True, lambda momentum: 1 - momentum)

    @torch.no_grad()
    def step(self, closure=None):
        if not self.param_groups[0]["train_mode"]:
            raise RuntimeError("Optimizer was not in train mode when step is called.")
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            group["lr_max"] = max(lr, group["lr_max"])
            weight = group["lr_max"] ** 2
            group["weight_sum"] += weight
            share = weight / group["weight_sum"] if group["weight_sum"] else 0.0
            for p in group["params"]:
                if p.grad is None:
                    continue
                z = self.state[p].setdefault("z", p.clone())
                grad = p.grad + group["weight_decay"] * p
                p.lerp_(end=z, weight=share)
                p.add_(grad, alpha=lr * (momentum * (1 - share) - 1))
                z.sub_(grad, alpha=lr)
            group["k"] += 1


class Averaged(torch.optim.SGD):
    """SGD with a moving average, which it puts in the place of the weights, in other memory."""

    training = True

    @torch.no_grad()
    def step(self, closure=None):
        assert self.training
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", p.clone())
                average.lerp_(p, 0.2)

    def eval(self):
        self._swap(training=False)

    def train(self):
        self._swap(training=True)

    def _swap(self, *, training):
        if training is self.training:
            return
        self.training = training
        for group in self.param_groups:
            for p in group["params"]:
                if "average" in self.state[p]:
                    p.data, self.state[p]["average"] = self.state[p]["average"], p.data.clone()


SWITCHING = {"schedule-free": ScheduleFreeSGD, "averaged": Averaged}
