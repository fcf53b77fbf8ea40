"""The command that serves: API, page and one local worker."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from discover.cli.options import db_option, device_option, memory_option, open_store, threads_option
from discover.errors import InputError

if TYPE_CHECKING:
    from discover.service.local import LocalWorker

INSTALL = "pip install 'discover-circuits[serve]'"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port; 0: any free one.",
)
@db_option
@click.option("--no-worker", is_flag=True, help="Start no worker; others work the queue off.")
@click.option(
    "--allow-model", multiple=True, metavar="NAME", help="A further model that may be submitted."
)
@click.option(
    "--allow-any-model",
    is_flag=True,
    help="Any hub name, and any path on the worker's machine, may be submitted.",
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="A further name that the server goes by."
)
@click.option(
    "--root-path", default="", metavar="PREFIX", help="Where a proxy shows it, e.g. /discover."
)
@click.option(
    "--max-queued",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="So many runs may wait at once.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open a browser.")
@device_option
@threads_option
@memory_option
def serve(
    host: str,
    port: int,
    db: str | None,
    no_worker: bool,
    allow_model: tuple[str, ...],
    allow_any_model: bool,
    allow_host: tuple[str, ...],
    root_path: str,
    max_queued: int,
    open_browser: bool,
    **worker: Any,
) -> None:
    """Serve the page and the HTTP API, with one worker, over the command line's own database.

    On 127.0.0.1 only this machine comes in. Any other address demands a token in DISCOVER_TOKEN;
    docs/service.md says how to put https in front.
    """
    from discover.service.settings import Settings, is_loopback, names_of, token_for

    if no_worker:
        _refuse_worker_options(worker)
    hosts, any_address = names_of(host, allow_host)
    settings = Settings(
        token=token_for(host),
        models=allow_model,
        any_model=allow_any_model,
        hosts=hosts,
        any_address=any_address,
        root_path=root_path.rstrip("/"),
        max_queued=max_queued,
    )
    try:
        from discover.service.app import make_app
        from discover.service.serving import address_of, ended_by_signals, listen
        from discover.service.serving import serve as run_server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "pydantic"):
            raise
        raise InputError(f"`discover serve` needs {error.name}: {INSTALL}") from error
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    with open_store(db) as store, listen(host, port) as sock:
        url = address_of(sock) + "/"
        local = None if no_worker else _local_worker(db, worker)

        def ready() -> None:
            click.echo(f"discover is at {url} (database {store.label}); Ctrl-C ends it", err=True)
            if not is_loopback(host):
                click.echo(
                    "anyone on the way can read what is sent without https, the token too; see "
                    "docs/service.md",
                    err=True,
                )
            if open_browser:
                import webbrowser

                webbrowser.open(url)

        try:
            with ended_by_signals():
                if local is not None:
                    local.start()
                run_server(make_app(store, settings), sock, ready)
        finally:
            if local is not None:
                click.echo("stopping the worker ...", err=True)
                local.stop()
    click.echo("stopped", err=True)


def _refuse_worker_options(worker: dict[str, Any]) -> None:
    usual = {"device": "cpu", "threads": None, "memory": None}
    for name, value in worker.items():
        if value != usual[name]:
            raise InputError(f"--{name} is the local worker's; drop it, or drop --no-worker")


def _local_worker(db: str | None, worker: dict[str, Any]) -> LocalWorker:
    """The local worker: on the same database, with the options that were given."""
    from discover.service.local import LocalWorker
    from discover.sizes import parse_size
    from discover.store import default_url, normalise_url

    command = [sys.executable, "-m", "discover.cli.attached", "worker", "--poll", "0.5"]
    if worker["memory"] is not None:
        parse_size(worker["memory"])
    for name, value in worker.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    # Not among the arguments: those are for all on the machine to read, and a URL has a password.
    url = default_url() if db is None else normalise_url(db)
    return LocalWorker(command, {"DISCOVER_DB": url})


COMMANDS = (serve,)
