"""What `discover wait` does: follow runs until they have ended."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from discover.errors import InputError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from discover.store import ListedRun, Store

EVERY = 1.0
"""Seconds between looks."""

_ACTIVE = ("queued", "running")


def named_runs(store: Store, ref: str) -> tuple[list[str], bool]:
    """The runs that a reference names, tau ascending, and whether it is a sweep's.

    Raises:
        StoreError: it names neither a run nor a sweep, or several.
        InputError: it is the beginning of a run's id and of a sweep's.
    """
    sweep = run = None
    problem: StoreError | None = None
    try:
        run = store.listed_run(ref).id
    except StoreUnavailableError:
        raise
    except StoreError as error:
        problem = error
    try:
        sweep = store.sweep(ref)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        # Of a reference that names nothing, what is said is of runs.
        problem = error if str(error).startswith("several") else problem
    if run is not None and sweep is not None and ref not in (run, sweep.id):
        raise InputError(f"{ref!r} is the beginning of a run's id and of a sweep's; write more")
    if sweep is not None and ref != run:
        return [run_id for _, run_id in sweep.runs], True
    if run is None:
        assert problem is not None
        raise problem
    return [run], False


def wait_for(store: Store, ids: list[str]) -> list[ListedRun]:
    """Look at runs until all have ended, and say on stderr how they are getting on.

    Returns them in the order of `ids`; those that were deleted meanwhile are left out.
    """
    last, live, warned, away = "", sys.stderr.isatty(), False, False
    try:
        while True:
            try:
                found = {run.id: run for run in store.listed(ids=ids)[1]}
                alive = any(worker.alive for worker in store.workers())
            except StoreUnavailableError as error:
                if not away:
                    click.echo(f"{error}; waiting for it", err=True)
                away = True
                time.sleep(EVERY)
                continue
            away = False
            text = progress([found[i] for i in ids if i in found], live)
            if text != last:
                click.echo(f"\r\033[K{text}" if live else text, nl=not live, err=True)
                last = text
            if not any(run.status in _ACTIVE for run in found.values()):
                return [found[i] for i in ids if i in found]
            queued = any(run.status == "queued" for run in found.values())
            if queued and not alive and not warned:
                warned = True
                click.echo(
                    f"{chr(10) if live else ''}no worker is alive on {store.label}; start one with "
                    "`discover worker`",
                    err=True,
                )
            time.sleep(EVERY)
    finally:
        if live and last:
            click.echo(err=True)


def progress(runs: list[ListedRun], live: bool) -> str:
    """How many runs are in which state and, for a live line, how far those under way are."""
    count = {s: sum(r.status == s for r in runs) for s in dict.fromkeys(r.status for r in runs)}
    text = ", ".join(f"{n} {status}" for status, n in sorted(count.items()))
    going = [run for run in runs if run.status == "running" and run.edges]
    if live and going:
        edges = sum(run.edges or 0 for run in going)
        text += f" ({sum(run.decided for run in going):,} of {edges:,} edges decided)"
    return text
