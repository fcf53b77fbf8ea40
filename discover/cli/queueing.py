"""Commands on the queue: submit, worker, workers, cancel, retry, wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from discover.cli.options import (
    behaviour_options,
    block_option,
    db_option,
    device_option,
    draft_option,
    engine_option,
    json_option,
    make_spec,
    memory_option,
    metric_option,
    open_store,
    order_option,
    threads_option,
    with_options,
)
from discover.cli.waiting import named_runs, wait_for
from discover.errors import InputError, RunError
from discover.report import json_number, print_json, print_table
from discover.sizes import parse_size
from discover.thresholds import parse_taus

if TYPE_CHECKING:
    from discover.store import Store

refs_argument = click.argument("refs", metavar="RUN|SWEEP...", nargs=-1, required=True)


@click.command()
@behaviour_options
@metric_option
@click.option("--tau", type=float, help="Remove an edge if its score is below this (default 0.02).")
@click.option(
    "--taus", help="A sweep instead of a run: 0.01,0.03,0.1 or 0.001:1:20log or 0.1:1:10lin."
)
@order_option
@engine_option
@with_options(threads_option, memory_option, block_option)
@draft_option
@click.option("--note", default="", help="What you want to remember of it.")
@db_option
@json_option
def submit(
    tau: float | None, taus: str | None, engine: str, note: str, db: str | None, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Put a run, or with --taus a sweep, into the queue, for a `discover worker` to take.

    A prompts file goes into the database, so that the worker may be on another machine; a model
    that is a path must be at that path there too.
    """
    if taus is not None and tau is not None:
        raise InputError("--tau is for one run and --taus for a sweep; give one of them")
    if taus is not None and given["draft"] is not None:
        raise InputError("a sweep drafts each threshold from its neighbour; drop --draft")
    thresholds = None if taus is None else parse_taus(taus)
    spec = make_spec(thresholds[0] if thresholds else 0.02 if tau is None else tau, given)
    from discover.working.asking import check_asked, with_stored_files

    options = {k: given[k] for k in ("block", "memory", "threads") if given[k] is not None}
    check_asked(spec, engine, {**options, "draft": given["draft"]})
    with open_store(db) as store:
        if given["draft"] is not None:
            options["draft"] = _draft(store, given["draft"])
        spec = with_stored_files(store, spec)
        sweep_id, runs = store.submit(
            spec, taus=thresholds, engine=engine, options=options, note=note
        )
        alive = sum(worker.alive for worker in store.workers())
        where = store.label
    if as_json:
        print_json({"sweep": sweep_id, "runs": runs, "workers_alive": alive})
    else:
        _told(sweep_id, runs, thresholds)
    _warn_of_no_worker(alive, where)


def _draft(store: Store, draft: str) -> str:
    """A method's name, or the full id of a run that has decisions."""
    from discover.methods import METHODS

    return draft if draft in METHODS else store.run(draft).id


def _told(sweep_id: str | None, runs: list[str], taus: tuple[float, ...] | None) -> None:
    if sweep_id is None or taus is None:
        click.echo(f"run {runs[0]} is queued")
    else:
        click.echo(f"sweep {sweep_id} of {len(runs)} runs is queued")
        print_table([("tau", "run"), *((f"{t:g}", r) for t, r in zip(taus, runs, strict=True))])
    ref = (sweep_id or runs[0])[:8]
    click.echo(f"\nwait for it: discover wait {ref}; call it off: discover cancel {ref}", err=True)


def _warn_of_no_worker(alive: int, where: str) -> None:
    if not alive:
        click.echo(
            f"warning: no worker is alive on {where}; start one with `discover worker`, here or on "
            "another machine that has the same database",
            err=True,
        )


@click.command()
@device_option
@threads_option
@memory_option
@click.option("--once", is_flag=True, help="End after one run, or at once if none waits.")
@click.option(
    "--drain", is_flag=True, help="End when every submitted run has ended, whoever was at it."
)
@click.option(
    "--lease",
    type=click.FloatRange(min=1, max=86_400),
    default=30.0,
    show_default=True,
    help="Seconds without a heartbeat after which this worker counts as dead.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0.05, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds between looks at an empty queue.",
)
@db_option
def worker(
    device: str, threads: int | None, memory: str | None, once: bool, drain: bool, lease: float,
    poll: float, db: str | None,
) -> None:  # fmt: skip
    """Take submitted runs one by one and run them, until stopped by Ctrl-C or SIGTERM.

    Stopped once, it finishes the receiver at hand and gives the run back to the queue, for any
    worker to go on with; stopped twice, it does so at the next decision. --threads and --memory
    are this machine's, and come before what a run asks for.
    """
    import time

    from discover.store import default_url, normalise_url
    from discover.working.stopping import Stopping

    def say(line: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)

    size = None if memory is None else parse_size(memory)
    url = normalise_url(db) if db else default_url()
    stopping = Stopping()
    with stopping.installed():
        # Seconds of importing torch, in which an interruption might be swallowed or be an error.
        from discover.working.loop import Habits, Worker

        if stopping.asked:
            return
        habits = Habits(device, threads, size, lease, poll, once, drain)
        Worker(url, habits, stopping=stopping, say=say).work()


@click.command()
@db_option
@json_option
def workers(db: str | None, as_json: bool) -> None:
    """List the workers: alive, or silent for longer than their --lease and so perhaps dead."""
    with open_store(db, create=False) as store:
        found = store.workers()
    if as_json:
        keys = ("id", "host", "pid", "device", "run_id", "alive")
        times = ("started_at", "heartbeat_at")
        print_json(
            {
                "workers": [
                    {key: getattr(w, key) for key in keys}
                    | {key: getattr(w, key).isoformat() for key in times}
                    for w in found
                ]
            }
        )
        return
    if not found:
        click.echo("no worker is at work here; start one with `discover worker`", err=True)
        return
    rows = [
        (
            w.id, w.device, "alive" if w.alive else "silent", (w.run_id or "")[:8],
            f"{w.started_at:%Y-%m-%d %H:%M}", f"{w.heartbeat_at:%Y-%m-%d %H:%M:%S}",
        )
        for w in found
    ]  # fmt: skip
    print_table([("worker", "device", "", "run", "started (UTC)", "last heard of (UTC)"), *rows])


@click.command()
@refs_argument
@db_option
def cancel(refs: tuple[str, ...], db: str | None) -> None:
    """Take runs out of the queue, or ask their workers to stop; what is decided stays stored.

    Of a sweep, all runs that have not ended.
    """
    with open_store(db, create=False) as store:
        for ref in refs:
            _cancel(store, ref)


def _cancel(store: Store, ref: str) -> None:
    ids, is_sweep = named_runs(store, ref)
    stopped = 0
    for run_id in ids:
        if is_sweep and store.listed_run(run_id).status not in ("queued", "running"):
            continue
        found = store.cancel(run_id)
        stopped += 1
        how = "is being cancelled by its worker" if found.cancelling else "is cancelled"
        click.echo(f"run {run_id[:8]} {how}")
    if not stopped:
        click.echo(f"all runs of sweep {ref} had ended already; nothing to cancel", err=True)


@click.command()
@refs_argument
@db_option
def retry(refs: tuple[str, ...], db: str | None) -> None:
    """Put runs that failed, or were cancelled or interrupted, back into the queue.

    Each goes on from its last stored decision. Of a sweep, all such runs.
    """
    with open_store(db, create=False) as store:
        queued = 0
        for ref in refs:
            ids, is_sweep = named_runs(store, ref)
            for run_id in ids:
                if is_sweep and store.listed_run(run_id).status in ("queued", "running", "done"):
                    continue
                store.retry(run_id)
                queued += 1
                click.echo(f"run {run_id[:8]} is queued again")
        if not queued:
            click.echo("no run of it failed or was cancelled; nothing to retry", err=True)
            return
        _warn_of_no_worker(sum(w.alive for w in store.workers()), store.label)


@click.command()
@refs_argument
@db_option
@json_option
def wait(refs: tuple[str, ...], db: str | None, as_json: bool) -> int:
    """Wait until runs have ended; exit 0 if all are done, 3 if one failed or was cancelled.

    Ctrl-C ends the waiting and leaves the runs alone.
    """
    with open_store(db, create=False) as store:
        ids = list(dict.fromkeys(i for ref in refs for i in named_runs(store, ref)[0]))
        ended = wait_for(store, ids)
    if as_json:
        keys = ("id", "status", "tau", "kept", "damage", "seconds", "circuit_hash", "error")
        print_json({"runs": [{k: json_number(getattr(r, k)) for k in keys} for r in ended]})
    else:
        for run in ended:
            reason = f": {run.error}" if run.error else ""
            how = "failed" if run.status == "failed" else f"is {run.status}"
            click.echo(f"run {run.id[:8]} (tau {run.tau:g}) {how}{reason}")
    return 0 if all(run.status == "done" for run in ended) else RunError.exit_code


COMMANDS = (submit, worker, workers, cancel, retry, wait)
