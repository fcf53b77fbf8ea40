"""Commands that change what is stored of a run: note, delete."""

from __future__ import annotations

import click

from discover.cli.options import db_option, open_store


@click.command()
@click.argument("run_ref", metavar="RUN")
@click.argument("text")
@db_option
def note(run_ref: str, text: str, db: str | None) -> None:
    """Write what you want to remember of a run; an empty TEXT takes it away."""
    with open_store(db, create=False) as store:
        run = store.listed_run(run_ref)
        store.set_note(run.id, text)
    click.echo(f"run {run.id[:8]}: {'note written' if text else 'note taken away'}", err=True)


@click.command()
@click.argument("run_ref", metavar="RUN")
@click.option("--yes", is_flag=True, help="Do not ask.")
@db_option
def delete(run_ref: str, yes: bool, db: str | None) -> None:
    """Remove a run with its decisions and evaluations; there is no way back."""
    with open_store(db, create=False) as store:
        run = store.listed_run(run_ref)
        if not yes:
            click.confirm(
                f"delete run {run.id[:8]} ({run.model}, {run.task}, tau {run.tau:g}, {run.status}, "
                f"{run.decided:,} decisions)?",
                abort=True,
                err=True,
            )
        store.delete(run.id)
    click.echo(f"run {run.id[:8]} is deleted", err=True)


COMMANDS = (note, delete)
