"""Other tools' range tests, each called as its own documentation has it, with its own defaults."""

import matplotlib as mpl
from matplotlib import pyplot as plt
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.quality.answers import Answer, Answers, Setup
from lrtune import range_test

ITERATIONS = 100
"""The default of all of them but ignite, which by default sweeps one epoch."""

mpl.use("Agg")

# They are optional, and slow to import: each stands where it is needed.
# ruff: noqa: PLC0415


def torch_lr_finder(setup: Setup) -> Answers:
    """Its README: an optimizer at 1e-7, end_lr 100, 100 iterations, and what plot() suggests."""
    from torch_lr_finder import LRFinder

    model = setup.model()
    optimizer = setup.optimizer(model, 1e-7)
    finder = LRFinder(model, optimizer, setup.spec.loss, device="cpu")
    finder.range_test(setup.loader(), end_lr=100, num_iter=ITERATIONS)
    _, axes = plt.subplots()
    _, lr = finder.plot(ax=axes)
    plt.close("all")
    return {"torch-lr-finder": Answer(float(lr))}


def ignite(setup: Setup) -> Answers:
    """Its documentation's example: attach, run, lr_suggestion()."""
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    model = setup.model()
    optimizer = setup.optimizer(model, 1e-6)
    trainer = create_supervised_trainer(model, optimizer, setup.spec.loss)
    finder, kept = FastaiLRFinder(), {"model": model, "optimizer": optimizer}
    with finder.attach(trainer, to_save=kept, num_iter=ITERATIONS) as attached:
        attached.run(setup.loader())
    return {"ignite": Answer(float(finder.lr_suggestion()))}


def lightning(setup: Setup) -> Answers:
    """Tuner(trainer).lr_find(model), suggestion()."""
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = setup.model(), 1e-3

        def training_step(self, batch: list[Tensor]) -> Tensor:
            return setup.spec.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Optimizer:
            return setup.optimizer(self.model, self.lr)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=100, accelerator="cpu", **quiet)
    found = Tuner(trainer).lr_find(Module(), train_dataloaders=setup.loader())
    lr = None if found is None else found.suggestion()
    return {"Lightning": "suggested None" if lr is None else Answer(float(lr))}


FASTAI = ("minimum", "steep", "valley", "slide")


def fastai(setup: Setup) -> Answers:
    """learn.lr_find(suggest_funcs=(minimum, steep, valley, slide)): one sweep, four answers."""
    from fastai.callback import schedule
    from fastai.data.core import DataLoaders
    from fastai.optimizer import OptimWrapper

    def optimizer(params: object, lr: float) -> OptimWrapper:
        return OptimWrapper(params, setup.spec.optimizer, lr=lr)

    loaders = DataLoaders(setup.loader(), setup.loader())
    learner = schedule.Learner(loaders, setup.model(), setup.spec.loss, opt_func=optimizer)
    rules = tuple(getattr(schedule, name) for name in FASTAI)
    with learner.no_bar():
        found = learner.lr_find(show_plot=False, suggest_funcs=rules)
    return {f"fastai {name}": Answer(float(getattr(found, name))) for name in FASTAI}


def lrtune_range_test(setup: Setup) -> Answers:
    """Ours, with its defaults."""
    told = range_test(setup.spec.task(), seed=10 * setup.repeat).suggestion
    return {"lrtune range_test": "suggested None" if told is None else Answer(told.lr)}


def default_rate(_: Setup) -> Answers:
    """What torch.optim's SGD, Adam and AdamW take when nothing is said."""
    return {"PyTorch's default 1e-3": Answer(1e-3)}


FINDERS = (
    (default_rate, ("PyTorch's default 1e-3",)),
    (lrtune_range_test, ("lrtune range_test",)),
    (torch_lr_finder, ("torch-lr-finder",)),
    (ignite, ("ignite",)),
    (lightning, ("Lightning",)),
    (fastai, tuple(f"fastai {name}" for name in FASTAI)),
)
