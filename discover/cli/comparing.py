"""Commands that hold circuits against each other and against known ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discover.cli.circuits import resolve
from discover.cli.options import (
    check_writable,
    db_option,
    json_option,
    open_store,
    with_options,
    write,
)
from discover.errors import InputError
from discover.finished import KNOWN, Named, comparison_json, of_run
from discover.report import print_json, print_table

if TYPE_CHECKING:
    from discover.store import Store

FIGURES = ("pdf", "svg", "png", "dot")
ROC_FILES = ("pdf", "svg", "png", "csv")

output_options = with_options(
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Write a figure: .pdf, .svg, .png or .dot; with --roc .pdf, .svg, .png, or the "
        "points as .csv.",
    ),
    click.option("--all-edges", is_flag=True, help="Draw the unconnected edges too."),
    click.option("--width", type=float, help="Width of the figure in inches."),
)


@click.command()
@click.argument("refs", metavar="LEFT... RIGHT", nargs=-1, required=True)
@click.option("--roc", is_flag=True, help="The ROC curve of runs (LEFT...) against RIGHT.")
@click.option("--edges", "list_edges", is_flag=True, help="List the missing and extra edges too.")
@output_options
@db_option
@json_option
def compare(
    refs: tuple[str, ...],
    roc: bool,
    list_edges: bool,
    output: Path | None,
    all_edges: bool,
    width: float | None,
    db: str | None,
    as_json: bool,
) -> None:
    """Hold one circuit against another or a known one.

    LEFT and RIGHT are each a RUN, canonical:NAME (see `discover canonical`) or a FILE: the JSON of
    `discover export`, a JSON list of edges, or one edge a line. Precision is the share of LEFT that
    is in RIGHT, recall the share of RIGHT that is in LEFT.

    With --roc, LEFT is several runs, or one whose spec was searched at several taus (`discover
    sweep`): all of those are taken. Areas are the ACDC paper's (pessimistic steps) and linear.
    """
    drawing: dict[str, Any] = {"all_edges": True} if all_edges else {}
    drawing |= {} if width is None else {"width": width}
    if drawing and (output is None or roc):
        raise InputError("--all-edges and --width belong to the figure of two circuits (-o)")
    if output is not None:
        _check_suffix(output, ROC_FILES if roc else FIGURES)
        check_writable(output)
    with contextlib.ExitStack() as stack:
        opened: list[Store] = []

        def store() -> Store:
            if not opened:
                opened.append(stack.enter_context(open_store(db, create=False)))
            return opened[0]

        if roc:
            if list_edges:
                raise InputError("--edges has no effect with --roc")
            _roc(refs, store, output, as_json)
        else:
            if len(refs) != 2:
                raise InputError(f"compare takes two circuits, got {len(refs)}; see also --roc")
            left, right = resolve(refs, store)
            _two(left, right, list_edges, output, drawing, as_json)


def _check_suffix(output: Path, known: tuple[str, ...]) -> None:
    if output.suffix.lstrip(".").lower() not in known:
        endings = ", ".join(f".{name}" for name in known)
        raise InputError(f"cannot write {output}; end the name with one of {endings}")


def _two(
    left: Named,
    right: Named,
    list_edges: bool,
    output: Path | None,
    drawing: dict[str, Any],
    as_json: bool,
) -> None:
    from discover.cli.compared import print_comparison
    from discover.evaluation.overlap import compare as overlap_of

    found = overlap_of(left.circuit, right.circuit, right.roles)
    _warn_of_models(left, right)
    if output is not None:
        from discover.export.figure import Contrast, render_contrast

        contrast = Contrast(left.circuit, right.circuit, left.name, right.name)
        task = left.record.task if left.record else None
        facts = {"model": left.model or right.model, "task": task}
        write(output, render_contrast(contrast, output.suffix[1:].lower(), facts, drawing))
    if as_json:
        lists = {"missing": found.missing, "extra": found.extra}
        names = {key: [edge.name for edge in edges] for key, edges in lists.items()}
        print_json(comparison_json(found, left, right) | names)
    else:
        print_comparison(found, left, right, list_edges)


def _warn_of_models(left: Named, right: Named) -> None:
    """Graphs of one shape may be of two models, whose heads have nothing to do with each other."""
    models = left.model and right.model and left.model != right.model
    if models and left.circuit.graph == right.circuit.graph:
        click.echo(
            f"note: {left.name} is of {left.model}, {right.name} of {right.model}; the same head "
            "means the same only if these are the same weights",
            err=True,
        )


def _roc(refs: tuple[str, ...], store: Any, output: Path | None, as_json: bool) -> None:
    from discover.cli.compared import curves_of, points_csv, print_curves

    if len(refs) < 2:
        raise InputError("--roc takes at least a run and a known circuit")
    *lefts, truth = resolve(refs, store)
    if strays := [named.name for named in lefts if named.record is None]:
        raise InputError(f"--roc takes runs on the left, and {strays[0]} is none: it has no tau")
    if len(lefts) == 1:
        lefts = _sweep_of(store(), lefts[0])
    for model in dict.fromkeys(named.model for named in lefts):
        _warn_of_models(next(named for named in lefts if named.model == model), truth)
    curves = curves_of(lefts, truth)
    if output is not None:
        if output.suffix.lower() == ".csv":
            write(output, points_csv(curves))
        else:
            from discover.evaluation.rocfigure import roc_figure

            drawn = {curve.name: (curve.edges, curve.nodes) for curve in curves}
            roc_figure(drawn, title=f"against {truth.name}").save(output)
            click.echo(f"wrote {output}", err=True)
    if as_json:
        print_json({"right": truth.facts(), "curves": [curve.to_json() for curve in curves]})
    else:
        print_curves(curves, truth)


def _sweep_of(store: Store, one: Named) -> list[Named]:
    """Every finished run in the store whose spec differs from this one's in tau alone."""
    from discover.cli.compared import without_tau

    assert one.record is not None
    wanted = without_tau(one.record)
    records = store.runs(model=one.record.model, status="done")
    return [of_run(store, record) for record in records if without_tau(record) == wanted]


@click.command()
@click.argument("name", required=False)
@click.option("--edges", "list_edges", is_flag=True, help="Print NAME's edges, one a line.")
@json_option
def canonical(name: str | None, list_edges: bool, as_json: bool) -> None:
    """List the known circuits, or show one: its nodes by role, its sources.

    Use one as canonical:NAME in `discover compare`.
    """
    from discover.canonical import canonical as known
    from discover.canonical import canonical_names

    if name is None:
        if list_edges:
            raise InputError("--edges needs the NAME of a known circuit")
        listed = [known(each) for each in canonical_names()]
        if as_json:
            print_json({"circuits": [_described(each) for each in listed]})
            return
        rows = [(c.name, c.model, f"{len(c.circuit):,}", c.summary) for c in listed]
        print_table([("circuit", "model", "edges", "what it is"), *rows])
        return
    one = known(name.removeprefix(KNOWN))
    if as_json:
        print_json(_described(one) | {"circuit": [edge.name for edge in one.circuit.ordered]})
    elif list_edges:
        click.echo("\n".join(edge.name for edge in one.circuit.ordered))
    else:
        click.echo(f"{one.name}: {one.summary}")
        click.echo(f"{len(one.circuit):,} edges of {one.model}, sha256 {one.circuit.hash}\n")
        for role, nodes in one.roles.items():
            click.echo(f"  {role}: {', '.join(node.name for node in nodes)}")
        for text in (*one.sources, *one.notes):
            click.echo(f"\n{text}")


def _described(known: Any) -> dict[str, Any]:
    return {
        "name": known.name,
        "model": known.model,
        "summary": known.summary,
        "edges": len(known.circuit),
        "circuit_hash": known.circuit.hash,
        "roles": {role: [node.name for node in nodes] for role, nodes in known.roles.items()},
        "sources": list(known.sources),
        "notes": list(known.notes),
    }


COMMANDS = (compare, canonical)
