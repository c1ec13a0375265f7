"""`lrtune studies`: what was measured before, listed, shown, deleted, exported; without torch."""

from pathlib import Path
from typing import Annotated

import typer

studies = typer.Typer(
    no_args_is_help=True, help="List, show, delete and export what was measured before."
)

Named = Annotated[
    str, typer.Argument(metavar="STUDY", help="A name in .lrtune/, or a URL with #NAME behind it.")
]


@studies.command("list")
def list_studies(
    where: Annotated[
        str | None, typer.Argument(help="A URL; all of .lrtune/ when left out.", show_default=False)
    ] = None,
) -> None:
    """List the studies, with how many runs each holds.

    Example: lrtune studies list
    """
    from lrtune.cli.output import print_studies, usage
    from lrtune.study.archive import listed

    with usage():
        print_studies(listed(where))


@studies.command()
def show(study: Named) -> None:
    """Show what a study holds: its task, its sessions, its results.

    Example: lrtune studies show digits
    """
    from lrtune.cli.output import print_archive, usage
    from lrtune.study.archive import opened

    with usage():
        print_archive(opened(study))


@studies.command()
def delete(
    study: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study, after asking.

    Example: lrtune studies delete digits --yes
    """
    from lrtune.cli.output import usage
    from lrtune.study.archive import deleted, opened

    with usage():
        if not yes:
            typer.confirm(
                f"Delete {study} with {len(opened(study).measured)} recorded runs?", abort=True
            )
        typer.echo(f"Deleted {deleted(study)}")


@studies.command()
def export(
    study: Named,
    out: Annotated[Path, typer.Option(help="A file that ends in .csv, .parquet or .json.")],
    curves: Annotated[bool, typer.Option("--curves", help="One row per run and step.")] = False,
) -> None:
    """Write what a study holds into a CSV, Parquet or JSON file: one row per run.

    Example: lrtune studies export digits --out digits.csv
    """
    from lrtune.cli.output import usage
    from lrtune.study.archive import opened
    from lrtune.study.export import export

    with usage():
        typer.echo(export(opened(study), out, curves=curves))
