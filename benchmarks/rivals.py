"""Other finders' sweeps, each called as its own documentation has it; they are optional.

Every function takes what is trained, a loader and the number of updates, and returns a function
without arguments that sweeps a fresh model and returns how many losses it has recorded.
"""

import math
from collections.abc import Callable, Iterable

import torch
from models import Setting
from torch import Tensor, nn

Sweep = Callable[[], int]


def fresh(chosen: Setting) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = chosen.model()
    return model, torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)


def torch_lr_finder(chosen: Setting, loader: Iterable, steps: int) -> Sweep:
    from torch_lr_finder import LRFinder

    def sweep() -> int:
        finder = LRFinder(*fresh(chosen), chosen.loss, device="cpu")
        finder.range_test(loader, end_lr=1, num_iter=steps, diverge_th=math.inf)
        finder.reset()
        return len(finder.history["loss"])

    return sweep


def ignite(chosen: Setting, loader: Iterable, steps: int) -> Sweep:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    def sweep() -> int:
        model, optimizer = fresh(chosen)
        trainer = create_supervised_trainer(model, optimizer, chosen.loss)
        finder, kept = FastaiLRFinder(), {"model": model, "optimizer": optimizer}
        ends = {"num_iter": steps, "start_lr": 1e-6, "end_lr": 1.0, "diverge_th": 1e9}
        with finder.attach(trainer, kept, **ends) as attached:
            attached.run(loader)
        return len(finder.get_results()["loss"])

    return sweep


def lightning(chosen: Setting, loader: Iterable, steps: int) -> Sweep:
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = chosen.model(), 1e-6

        def training_step(self, batch: list[Tensor]) -> Tensor:
            return chosen.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def sweep() -> int:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(max_epochs=9, accelerator="cpu", **quiet)
        ends = {"min_lr": 1e-6, "max_lr": 1, "num_training": steps, "early_stop_threshold": None}
        return len(Tuner(trainer).lr_find(Module(), loader, **ends).results["loss"])

    return sweep


def fastai(chosen: Setting, loader: Iterable, steps: int) -> Sweep:
    from fastai.callback.schedule import Learner
    from fastai.data.core import DataLoaders
    from fastai.optimizer import OptimWrapper

    def optimizer(params: object, lr: float) -> OptimWrapper:
        return OptimWrapper(params, torch.optim.SGD, lr=lr, momentum=0.9)

    def sweep() -> int:
        loaders = DataLoaders(loader, loader)
        learner = Learner(loaders, chosen.model(), chosen.loss, opt_func=optimizer)
        with learner.no_bar():
            learner.lr_find(1e-6, 1, steps, stop_div=False, show_plot=False)
        return len(learner.recorder.losses)

    return sweep
