"""`lrtune studies`: list, show, delete and export what was measured before, without torch."""

from pathlib import Path
from typing import Annotated

import typer

studies = typer.Typer(
    no_args_is_help=True, help="List, show, delete and export what was measured before."
)

Named = Annotated[
    str, typer.Argument(metavar="STUDY", help="A name in .lrtune/, or a URL followed by #NAME.")
]


@studies.command("list")
def list_all(
    where: Annotated[
        str | None, typer.Argument(help="A URL; all of .lrtune/ when left out.", show_default=False)
    ] = None,
) -> None:
    """List the studies, with the number of runs in each.

    Example: lrtune studies list
    """
    from lrtune.cli.output import exit_on_error, print_studies
    from lrtune.study.catalog import list_studies

    with exit_on_error():
        print_studies(list_studies(where))


@studies.command()
def show(study: Named) -> None:
    """Show what a study holds: its task, its sessions, its results.

    Example: lrtune studies show digits
    """
    from lrtune.cli.output import exit_on_error, print_contents
    from lrtune.study.contents import open_study

    with exit_on_error():
        print_contents(open_study(study))


@studies.command()
def delete(
    study: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study, after asking.

    Example: lrtune studies delete digits --yes
    """
    from lrtune.cli.output import exit_on_error
    from lrtune.errors import quantity
    from lrtune.study.catalog import delete_study
    from lrtune.study.contents import open_study

    with exit_on_error():
        if not yes:
            runs = quantity(len(open_study(study).outcomes), "recorded run")
            typer.confirm(f"Delete {study} with {runs}?", abort=True)
        typer.echo(f"Deleted {delete_study(study)}")


@studies.command()
def export(
    study: Named,
    out: Annotated[
        Path | None,
        typer.Option(help="A file that ends in .csv, .parquet or .json.", show_default=False),
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="One row per run and step.")] = False,
    optuna: Annotated[
        str | None,
        typer.Option(help="URL of an Optuna storage to add trials to.", show_default=False),
    ] = None,
) -> None:
    """Write a study to a file, one row per run, or add its finished runs to an Optuna study.

    Example: lrtune studies export digits --out digits.csv
    """
    from lrtune.cli.output import exit_on_error
    from lrtune.errors import ArgumentError
    from lrtune.study.contents import open_study

    with exit_on_error():
        if out is None and optuna is None:
            raise ArgumentError("an export needs --out FILE or --optuna URL.")
        contents = open_study(study)
        if out is not None:
            typer.echo(contents.to_file(out, curves=curves))
        if optuna is not None:
            trials = len(contents.to_optuna(optuna).trials)
            typer.echo(f"The Optuna study {contents.name!r} holds {trials} trials")
