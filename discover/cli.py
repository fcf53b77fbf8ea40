"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discover import __version__
from discover.errors import DiscoverError, InputError
from discover.report import (
    Reporter,
    facts,
    json_number,
    print_json,
    print_record,
    print_result,
    print_table,
)
from discover.spec import ABLATIONS, DTYPES, ENGINES, METRICS, RunSpec

if TYPE_CHECKING:
    from discover.export import CircuitExport
    from discover.graph import Edge
    from discover.run import How
    from discover.store import RunRecord, Store


def main() -> None:
    """Run the command line; exit 0 done, 2 wrong input, 3 the run failed, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
        # Flush here, where a reader that went away can still be told from a bug.
        sys.stdout.flush()
    except DiscoverError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="discover")
def cli() -> None:
    """Find circuits in language models by exact path patching (ACDC)."""


def _db_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--db",
        metavar="URL",
        help="Database: SQLAlchemy URL or SQLite file (default: DISCOVER_DB, else discover.db).",
    )(command)


def _json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout."
    )(command)


def _compute_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")(
        command
    )
    command = click.option(
        "--block",
        type=click.IntRange(min=1),
        help="Speculate on at most so many decisions at once (default 64; changes only the cost).",
    )(command)
    command = click.option(
        "--draft",
        metavar="RUN",
        help="Guess the decisions of an earlier run (changes the cost, not the circuit).",
    )(command)
    return click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads (default: 1 for a small model)."
    )(command)


def _choice(names: Any) -> click.Choice[str]:
    return click.Choice(list(names))


@cli.command()
@click.option(
    "--model",
    required=True,
    help="A name of `discover models`, a directory, a .gguf file or a hub name.",
)
@click.option("--task", help="A name of `discover tasks`.")
@click.option("--prompts-file", type=click.Path(path_type=Path), help="Your own prompts, JSONL.")
@click.option(
    "--prompts",
    type=int,
    help="How many prompt pairs (default: the task's usual number, or all of the file).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the task's prompts.")
@click.option("--corruption", help="The task's corruption, e.g. abc or flipped for ioi.")
@click.option(
    "--task-option", multiple=True, metavar="KEY=VALUE", help="Another option of the task."
)
@click.option("--bos", is_flag=True, help="Put a BOS token in front where there is none.")
@click.option("--metric", type=_choice(METRICS), default="kl", show_default=True)
@click.option("--ablation", type=_choice(ABLATIONS), default="resample", show_default=True)
@click.option(
    "--tau",
    type=float,
    default=0.02,
    show_default=True,
    help="Remove an edge if its score is below this (the metric's unit).",
)
@click.option("--dtype", type=_choice(DTYPES), default="float32", show_default=True)
@click.option("--engine", type=_choice(ENGINES), default=ENGINES[0], show_default=True)
@_compute_options
@_db_option
@_json_option
def run(
    model: str,
    task: str | None,
    prompts_file: Path | None,
    prompts: int | None,
    seed: int,
    corruption: str | None,
    task_option: tuple[str, ...],
    bos: bool,
    metric: str,
    ablation: str,
    tau: float,
    dtype: str,
    engine: str,
    device: str,
    threads: int | None,
    block: int | None,
    draft: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """Search the circuit of a behaviour and store every decision."""
    if task is None and prompts_file is None:
        raise InputError("give --task (see `discover tasks`) or --prompts-file")
    if prompts_file is not None and (corruption or task_option):
        raise InputError("--corruption and --task-option belong to tasks, not to a prompts file")
    spec = RunSpec(
        model=_model_name(model),
        task=task,
        prompts_file=None if prompts_file is None else str(prompts_file.resolve()),
        prompts=prompts,
        seed=seed,
        task_options=_task_options(task, corruption, task_option),
        bos=bos,
        metric=metric,
        ablation=ablation,
        tau=tau,
        dtype=dtype,
    )
    with _open(db) as store:
        from discover import run as running

        _check_device(device)
        with Reporter(store) as reporter:
            record = running.run(
                spec,
                store,
                engine=engine,
                how=_how(store, device, threads, block, draft),
                observer=reporter.observer(),
            )
        print_result(record, as_json)


@cli.command()
@click.argument("run_ref", metavar="RUN")
@_compute_options
@_db_option
@_json_option
def resume(
    run_ref: str,
    device: str,
    threads: int | None,
    block: int | None,
    draft: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """Go on with a run that was killed, interrupted or failed."""
    with _open(db, create=False) as store:
        if store.run(run_ref).status == "done":
            click.echo("this run is done already; nothing to resume", err=True)
            print_result(store.run(run_ref), as_json)
            return
        from discover import run as running

        _check_device(device)
        with Reporter(store) as reporter:
            record = running.resume(
                run_ref,
                store,
                how=_how(store, device, threads, block, draft),
                observer=reporter.observer(),
            )
        print_result(record, as_json)


@cli.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--status", help="Only runs with this status.")
@click.option("--model", help="Only runs on this model.")
@click.option("--task", help="Only runs of this task.")
@_db_option
@_json_option
def runs(
    limit: int,
    status: str | None,
    model: str | None,
    task: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """List the stored runs, newest first."""
    with _open(db, create=False) as store:
        found = store.runs(limit=limit, status=status, model=model, task=task)
    if as_json:
        print_json({"runs": [facts(record) for record in found]})
        return
    rows = [
        (
            record.id[:8],
            record.status,
            record.model,
            record.task if len(record.task) < 30 else "..." + record.task[-26:],
            f"{record.spec.metric} {record.spec.ablation} {record.spec.tau:g}",
            f"{record.decided:,}/{record.edges:,}",
            "" if record.kept is None else f"{record.kept:,}",
            "" if record.damage is None else f"{record.damage:.4g}",
            f"{record.created_at:%Y-%m-%d %H:%M}",
        )
        for record in found
    ]
    header = ("run", "status", "model", "task", "metric, ablation, tau", "decided", "kept",
              "damage", "created (UTC)")  # fmt: skip
    print_table([header, *rows])


@cli.command()
@click.argument("run_ref", metavar="RUN")
@click.option("--decisions", is_flag=True, help="Every decision: with --json one object a line.")
@_db_option
@_json_option
def show(run_ref: str, decisions: bool, db: str | None, as_json: bool) -> None:
    """Show a run: its settings, its result, what it cost; or its decisions."""
    with _open(db, create=False) as store:
        record = store.run(run_ref)
        if not decisions:
            print_json(facts(record)) if as_json else print_record(record)
            return
        if not as_json:
            click.echo("step\tsender\treceiver\tbefore\tafter\tscore\toutcome")
        keys = ("step", "sender", "receiver", "before", "after", "score", "outcome")
        for row in store.decision_rows(record.id):
            if as_json:
                click.echo(json.dumps({key: json_number(row[key]) for key in keys}))
            else:
                click.echo("\t".join(str(row[key]) for key in keys))


@cli.command()
@click.argument("run_ref", metavar="RUN")
@click.option(
    "--format",
    "fmt",
    help="dot, svg, pdf, png, json, graphml or prompts (default: by the file's suffix).",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file to write; - for stdout.",
)
@click.option("--all-edges", is_flag=True, help="Draw the unconnected edges too (figures only).")
@click.option("--width", type=float, help="Width of a figure in inches.")
@_db_option
def export(
    run_ref: str,
    fmt: str | None,
    output: Path,
    all_edges: bool,
    width: float | None,
    db: str | None,
) -> None:
    """Write a run's circuit as a figure or as data, or the prompts that it used."""
    from discover.export import FORMATS, render

    fmt = fmt or output.suffix.lstrip(".").lower()
    if fmt not in FORMATS and fmt != "prompts":
        raise InputError(f"unknown format {fmt!r}; choose one of {', '.join(FORMATS)}, prompts")
    options: dict[str, Any] = {"all_edges": True} if all_edges else {}
    options |= {} if width is None else {"width": width}
    with _open(db, create=False) as store:
        record = store.run(run_ref)
        if fmt == "prompts":
            if options:
                raise InputError("--all-edges and --width have no effect on prompts")
            content = store.prompts_jsonl(record.id).encode()
        else:
            content = render(stored_circuit(store, record), fmt, **options)
    _write(output, content)


@cli.command()
@_json_option
def models(as_json: bool) -> None:
    """List the models that need no model hub."""
    from discover.catalogue import KNOWN_MODELS

    if as_json:
        keys = ("name", "description", "task", "edges", "available")
        print_json({"models": [{k: getattr(m, k) for k in keys} for m in KNOWN_MODELS]})
        return
    rows = [
        (m.name, m.task, f"{m.edges:,}", "yes" if m.available else m.hint, m.description)
        for m in KNOWN_MODELS
    ]
    print_table([("model", "task", "edges", "available", "what it is"), *rows])
    click.echo("\nAlso: a local Hugging Face directory, a .gguf file, or a hub name such as gpt2.")


@cli.command()
@_json_option
def tasks(as_json: bool) -> None:
    """List the tasks and their options."""
    from discover.tasks import TASKS

    listed = [
        {
            "name": task.name,
            "description": task.description,
            "source": task.source,
            "prompts": task.prompts,
            "options": {
                key: list(value) if isinstance(value, tuple) else value.__name__
                for key, value in task.options.items()
            },
        }
        for task in TASKS.values()
    ]
    if as_json:
        print_json({"tasks": listed})
        return
    for task in listed:
        click.echo(f"{task['name']}: {task['description']}  [{task['source']}]")
        for key, value in dict(task["options"]).items():  # type: ignore[call-overload]
            click.echo(f"    {key}: {' | '.join(value) if isinstance(value, list) else value}")


@cli.group()
def db() -> None:
    """Look after the database's schema."""


@db.command()
@_db_option
def upgrade(db: str | None) -> None:
    """Bring the database to this version's schema; nothing stored is lost."""
    from discover.store import default_url, head, normalise_url
    from discover.store import upgrade as bring_up

    url = normalise_url(db) if db else default_url()
    bring_up(url)
    click.echo(f"{url} is at schema {head()}")


@db.command()
@_db_option
def current(db: str | None) -> None:
    """Show the schema of the database and that of this version."""
    from discover.store import current as current_of
    from discover.store import default_url, head, normalise_url

    url = normalise_url(db) if db else default_url()
    click.echo(f"{current_of(url) or 'no schema yet'} (this version: {head()})")


def _open(db: str | None, create: bool = True) -> Store:
    from discover.store import Store

    return Store.open(db, create=create)


def _how(
    store: Store, device: str, threads: int | None, block: int | None, draft: str | None
) -> How:
    from discover.run import How

    kept: Collection[Edge] | None = None
    if draft is not None:
        record = store.run(draft)
        kept = {d.edge for d in store.decisions(record.id) if not d.removed}
    return How(device, threads, block, kept)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}") from error


def _model_name(name: str) -> str:
    """Paths are stored absolute, so that a run can be resumed from anywhere."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and (path.is_dir() or path.suffix) else name


def _task_options(
    task: str | None, corruption: str | None, pairs: tuple[str, ...]
) -> dict[str, Any]:
    from discover.tasks import check_options, get_task

    options: dict[str, Any] = {} if corruption is None else {"corruption": corruption}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--task-option {pair!r} must look like KEY=VALUE")
        options[key] = value
    return {} if task is None else check_options(get_task(task), options)


def stored_circuit(store: Store, record: RunRecord) -> CircuitExport:
    """A finished run's circuit with all decisions, ready to export."""
    from discover.acdc import circuit_of
    from discover.export import CircuitExport

    if record.status != "done":
        raise InputError(
            f"run {record.id[:8]} is {record.status} with {record.decided:,} of {record.edges:,} "
            f"edges decided; finish it first: discover resume {record.id[:8]}"
        )
    rows = list(store.decisions(record.id))
    shown = {key: value for key, value in facts(record).items() if key != "evidence"}
    shown["unit"] = METRICS[record.spec.metric]
    return CircuitExport(circuit_of(record.graph, rows), {row.edge: row for row in rows}, shown)


def _write(output: Path, content: bytes) -> None:
    if str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


if __name__ == "__main__":
    main()
