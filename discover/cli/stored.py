"""Commands on what is stored: runs, show, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discover.cli.options import db_option, json_option, open_store, write
from discover.errors import InputError
from discover.report import facts, json_number, print_json, print_record, print_table
from discover.spec import METRICS

if TYPE_CHECKING:
    from discover.export import CircuitExport
    from discover.store import RunRecord, Store


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--status", help="Only runs with this status.")
@click.option("--model", help="Only runs on this model.")
@click.option("--task", help="Only runs of this task.")
@db_option
@json_option
def runs(
    limit: int,
    status: str | None,
    model: str | None,
    task: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """List the stored runs, newest first."""
    with open_store(db, create=False) as store:
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
            _search(record),
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


def _search(record: RunRecord) -> str:
    """Metric, ablation and tau, and what else of the search is not as usual."""
    spec = record.spec
    by = "" if spec.mean_by == "position" else f" by {spec.mean_by}"
    order = "" if spec.order == "canonical" else f" {spec.order}"
    return f"{spec.metric} {spec.ablation}{by} {spec.tau:g}{order}"


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
