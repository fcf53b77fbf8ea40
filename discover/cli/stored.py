"""Commands on what is stored: runs, show, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discover.cli.options import db_option, json_option, open_store, write
from discover.errors import InputError
from discover.report import FACTS, facts, json_number, print_json, print_record, print_table
from discover.spec import METRICS
from discover.store.sweeps import STORED_FILE

if TYPE_CHECKING:
    from discover.export import CircuitExport
    from discover.store import ListedRun, RunRecord, Store


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--status", help="Only runs with this status.")
@click.option("--model", help="Only runs on this model.")
@click.option("--task", help="Only runs of this task.")
@click.option("--sweep", metavar="SWEEP", help="Only the runs of this sweep.")
@db_option
@json_option
def runs(
    limit: int,
    status: str | None,
    model: str | None,
    task: str | None,
    sweep: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """List the runs, newest first: those that are queued or were cancelled too."""
    with open_store(db, create=False) as store:
        sweep_id = None if sweep is None else store.sweep(sweep).id
        found = store.listed(limit=limit, status=status, model=model, task=task, sweep=sweep_id)[1]
        if as_json:
            print_json({"runs": [_row_facts(store, run) for run in found]})
            return
    rows = [
        (
            run.id[:8],
            "cancelling" if run.cancelling else run.status,
            run.model,
            short_task(run.task),
            _search(run.spec, run.tau),
            "" if run.edges is None else f"{run.decided:,}/{run.edges:,}",
            "" if run.kept is None else f"{run.kept:,}",
            "" if run.damage is None else f"{run.damage:.4g}",
            f"{run.created_at:%Y-%m-%d %H:%M}",
            one_line(run.note),
        )
        for run in found
    ]
    header = ("run", "status", "model", "task", "metric, ablation, tau", "decided", "kept",
              "damage", "created (UTC)", "note")  # fmt: skip
    print_table([header, *rows])


def _row_facts(store: Store, run: ListedRun) -> dict[str, Any]:
    """A run's record as `show` gives it, null where it has not begun; and how it stands."""
    if run.edges is None:
        known = {
            "run": run.id, "model": run.model, "task": run.task, "metric": run.metric,
            "ablation": run.ablation, "tau": run.tau, "prompts": run.spec.get("prompts"),
            "seed": run.spec.get("seed"), "engine": run.engine, "decided": 0, "error": run.error,
            "seconds": 0.0, "created_at": run.created_at.isoformat(), "spec": run.spec,
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        }  # fmt: skip
        values = {key: known.get(key) for key in FACTS}
    else:
        values = facts(store.run(run.id))
    return values | {
        "status": run.status,
        "cancelling": run.cancelling,
        "note": run.note,
        "worker": run.worker,
        "kept_so_far": run.kept,
        "damage_so_far": json_number(run.damage),
    }


def short_task(task: str) -> str:
    """A task's name, or the end of a prompts file's path; of a stored file its own name."""
    if (stored := STORED_FILE.fullmatch(task)) is not None:
        return stored[2]
    return task if len(task) < 30 else "..." + task[-26:]


def one_line(note: str, width: int = 40) -> str:
    """The beginning of a note, as it fits into a table."""
    text = "".join(c if c.isprintable() else " " for c in note)
    return text if len(text) <= width else text[: width - 3] + "..."


def _search(spec: dict[str, Any], tau: float) -> str:
    """Metric, ablation and tau, and what else of the search is not as usual."""
    by, order = spec.get("mean_by", "position"), spec.get("order", "canonical")
    by = "" if by == "position" else f" by {by}"
    order = "" if order == "canonical" else f" {order}"
    return f"{spec['metric']} {spec['ablation']}{by} {tau:g}{order}"


@click.command()
@click.argument("run_ref", metavar="RUN")
@click.option("--decisions", is_flag=True, help="Every decision: with --json one object a line.")
@db_option
@json_option
def show(run_ref: str, decisions: bool, db: str | None, as_json: bool) -> None:
    """Show a run: its settings, its result, what it cost; or its decisions."""
    with open_store(db, create=False) as store:
        record = store.run(run_ref)
        if not decisions:
            if as_json:
                print_json(facts(record))
                return
            print_record(record)
            if note := store.listed_run(record.id).note:
                click.echo(f"{'note':9}{one_line(note, 1000)}")
            return
        if not as_json:
            click.echo("step\tsender\treceiver\tbefore\tafter\tscore\toutcome")
        keys = ("step", "sender", "receiver", "before", "after", "score", "outcome")
        for row in store.decision_rows(record.id):
            if as_json:
                click.echo(json.dumps({key: json_number(row[key]) for key in keys}))
            else:
                click.echo("\t".join(str(row[key]) for key in keys))


OTHER_FORMATS = ("html", "prompts")
"""What `export` writes besides the formats of `discover.export`."""


@click.command()
@click.argument("run_ref", metavar="RUN")
@click.option(
    "--format",
    "fmt",
    help="dot, svg, pdf, png, json, graphml, html or prompts (default: by the file's suffix).",
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
@db_option
def export(
    run_ref: str,
    fmt: str | None,
    output: Path,
    all_edges: bool,
    width: float | None,
    db: str | None,
) -> None:
    """Write a run's circuit as a figure, as data or as a page to explore, or its prompts."""
    from discover.export import FORMATS, render

    fmt = fmt or output.suffix.lstrip(".").lower()
    if fmt not in FORMATS and fmt not in OTHER_FORMATS:
        known = ", ".join([*FORMATS, *OTHER_FORMATS])
        raise InputError(f"unknown format {fmt!r}; choose one of {known}")
    options: dict[str, Any] = {"all_edges": True} if all_edges else {}
    options |= {} if width is None else {"width": width}
    with open_store(db, create=False) as store:
        record = store.run(run_ref)
        if fmt in OTHER_FORMATS:
            if options:
                raise InputError(f"--all-edges and --width have no effect on {fmt}")
            content = _page(store, record) if fmt == "html" else _prompts(store, record)
        else:
            content = render(stored_circuit(store, record), fmt, **options)
    write(output, content)


def _page(store: Store, record: RunRecord) -> bytes:
    from discover.page.data import view_of_run
    from discover.page.single import html

    check_done(record)
    return html(view_of_run(store, record.id))


def _prompts(store: Store, record: RunRecord) -> bytes:
    return store.prompts_jsonl(record.id).encode()


def check_done(record: RunRecord) -> None:
    """Refuse a run that has no circuit yet.

    Raises:
        InputError: the run is not done.
    """
    if record.status != "done":
        raise InputError(
            f"run {record.id[:8]} is {record.status} with {record.decided:,} of {record.edges:,} "
            f"edges decided; finish it first: discover resume {record.id[:8]}"
        )


def stored_circuit(store: Store, record: RunRecord) -> CircuitExport:
    """A finished run's circuit with all decisions, ready to export."""
    from discover.acdc import circuit_of
    from discover.export import CircuitExport

    check_done(record)
    rows = list(store.decisions(record.id))
    shown = {key: value for key, value in facts(record).items() if key != "evidence"}
    shown["unit"] = METRICS[record.spec.metric]
    return CircuitExport(circuit_of(record.graph, rows), {row.edge: row for row in rows}, shown)


COMMANDS = (runs, show, export)
