"""The command line: a thin twin of the Python interface, in the same words."""

import math
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrtune.cli.studies import studies
from lrtune.results.runs import STEPS

if TYPE_CHECKING:
    from lrtune.cli.session import Memory
    from lrtune.task.task import Task

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

app.add_typer(studies, name="studies")

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK]",
        help="train.py:task or package.module:task; the embedded digits when left out.",
        show_default=False,
    ),
]
Steps = Annotated[
    int, typer.Option(min=1, help="Length of training the answer is for, in updates.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds: weights, order of data, dropout.")]
Seed = Annotated[int, typer.Option(min=0, help="The first seed.")]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="the task's own")
]
Engine = Annotated[
    Literal["loop", "stacked", "auto"],
    typer.Option(help="One run after the other, or all at once; auto: what is faster."),
]
Out = Annotated[Path, typer.Option(help="Where the HTML report goes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Study = Annotated[
    str | None,
    typer.Option(
        help="Where to keep what is measured: a name in .lrtune/, or a database's URL.",
        show_default="one per task",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin the study anew; what is there is kept as NAME~1.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on though the task differs.")]
NoStudy = Annotated[bool, typer.Option("--no-study", help="Keep nothing, remember nothing.")]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - how typer calls it
    if wanted:
        typer.echo(f"lrtune {version('lrtune')}")
        raise typer.Exit


@app.callback()
def lrtune(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Find the learning rate for a PyTorch model by short, honest experiments on your own task."""


@app.command()
def search(
    task: Target = None,
    steps: Steps = STEPS,
    seeds: Seeds = 3,
    seed: Seed = 0,
    device: Device = None,
    engine: Engine = "loop",
    study: Study = None,
    fresh: Fresh = False,
    force: Force = False,
    no_study: NoStudy = False,
    out: Out = Path("report.html"),
    no_compare: Annotated[bool, typer.Option("--no-compare", help="Stop at the rate.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Find the rate with at most so many full trainings (inf: the lecture's whole "
            "grid), and nothing else.",
            show_default="4, and the rest",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Find the learning rate, then the schedule: range test, coarse and fine search, comparison.

    Example: lrtune search train.py:task --steps 2000 --budget 1
    """
    from lrtune import compare, plan, range_test, search
    from lrtune.cli.session import Session

    kept = _kept(task, device, study, fresh=fresh, force=force, no_study=no_study)
    with Session(out, as_json=json, memory=kept) as session:
        given = _task(task, device)
        if budget is not None and budget < math.inf:
            session.say(f"Plan: {plan(steps, budget, seeds=seeds)}")
        evaluate = session.evaluator(given, seed, engine)
        if budget is None:
            session.add(range_test(given, seeds=seeds, seed=seed, evaluate=evaluate))
        found = search(given, steps=steps, seeds=seeds, seed=seed, budget=budget, evaluate=evaluate)
        session.add(found)
        if budget is None and not no_compare:
            session.add(compare(given, found.lr, steps=steps, seed=seed, evaluate=evaluate))
    raise typer.Exit(session.code)


@app.command("range-test")
def range_test(
    task: Target = None,
    low: Annotated[float, typer.Option(help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="The rate that the sweep approaches.")] = 10.0,
    steps: Annotated[int, typer.Option(min=2, help="Updates of each sweep.")] = 200,
    seeds: Seeds = 3,
    seed: Seed = 0,
    device: Device = None,
    engine: Engine = "loop",
    study: Study = None,
    fresh: Fresh = False,
    force: Force = False,
    no_study: NoStudy = False,
    out: Out = Path("report.html"),
    json: Json = False,
) -> None:
    """Raise the rate through every decade, and see where the loss stops falling.

    Example: lrtune range-test train.py:task --low 1e-6 --high 1 --seeds 5
    """
    from lrtune import range_test
    from lrtune.cli.session import Session

    kept = _kept(task, device, study, fresh=fresh, force=force, no_study=no_study)
    with Session(out, as_json=json, memory=kept) as session:
        given = _task(task, device)
        train = session.evaluator(given, seed, engine)
        session.add(
            range_test(
                given, low=low, high=high, steps=steps, seeds=seeds, seed=seed, evaluate=train
            )
        )
    raise typer.Exit(session.code)


@app.command()
def compare(
    lr: Annotated[float, typer.Option(help="Where to look for peak rates: what search found.")],
    task: Target = None,
    schedules: Annotated[
        str | None,
        typer.Option(help="Names, with commas between; `all` for all.", show_default="the usual"),
    ] = None,
    steps: Steps = STEPS,
    seeds: Annotated[int, typer.Option(min=1, help="How many fresh seeds they are judged on.")] = 5,
    seed: Seed = 0,
    samples: Annotated[
        int, typer.Option(min=0, help="Samples of each schedule's own parameters.")
    ] = 0,
    device: Device = None,
    engine: Engine = "loop",
    study: Study = None,
    fresh: Fresh = False,
    force: Force = False,
    no_study: NoStudy = False,
    out: Out = Path("report.html"),
    json: Json = False,
) -> None:
    """Rank schedules for the task, each at its own peak rate.

    Example: lrtune compare train.py:task --lr 0.05 --schedules cosine,one-cycle,step
    """
    from lrtune import compare
    from lrtune.cli.session import Session

    names = schedules.split(",") if schedules else None
    kept = _kept(task, device, study, fresh=fresh, force=force, no_study=no_study)
    with Session(out, as_json=json, memory=kept) as session:
        given = _task(task, device)
        train = session.evaluator(given, seed, engine)
        session.add(
            compare(
                given,
                lr,
                schedules=names,
                steps=steps,
                seeds=seeds,
                seed=seed,
                samples=samples,
                evaluate=train,
            )
        )
    raise typer.Exit(session.code)


@app.command()
def schedules() -> None:
    """List the schedules, each with its shape.

    Example: lrtune schedules
    """
    from lrtune.cli.output import print_schedules

    print_schedules()


@app.command()
def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="What --json printed, or reports made before.", show_default=False),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Report what this study holds.", show_default=False)
    ] = None,
    out: Out = Path("report.html"),
) -> None:
    """Make one HTML report of saved results or of a study, without torch and without your code.

    Example: lrtune report --study digits --out digits.html
    """
    from lrtune.cli.output import usage
    from lrtune.reporting import load, report
    from lrtune.study.archive import opened

    with usage():
        given = [one for path in results or () for one in load(path)]
        archive = opened(study) if study else None
        typer.echo(report([*given, *(archive.reported if archive else ())], out))
        if archive and archive.left_out:
            told = f"{archive.left_out} runs are left out; `lrtune studies export` has them all"
            typer.echo(told, err=True)


def _kept(
    target: str | None,
    device: str | None,
    study: str | None,
    *,
    fresh: bool,
    force: bool,
    no_study: bool,
) -> "Memory | None":
    from lrtune.cli.session import Memory
    from lrtune.study.location import default_name

    return None if no_study else Memory(study or default_name(target, device), fresh, force)


def _task(target: str | None, device: str | None) -> "Task":
    import torch

    from lrtune.cli.task_file import load
    from lrtune.demo import digits

    if target is None:
        torch.set_num_threads(1)  # the digits' CNN is too small to share out
        return digits(device or "auto")
    return load(target) if device is None else load(target).on(device)


def main() -> None:
    """Run the command line; an answer is exit code 0, a failed task 1, wrong usage 2."""
    app()
