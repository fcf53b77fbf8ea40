"""The command evaluate: is a run's circuit true?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from tqdm import tqdm

from discover.cli.options import (
    check_writable,
    choice,
    db_option,
    device_option,
    json_option,
    make_spec,
    memory_option,
    open_store,
    threads_option,
    with_options,
    write,
)
from discover.errors import InputError
from discover.finished import KNOWN
from discover.report import ablation_words, json_number, print_json, print_table
from discover.spec import ABLATIONS, DTYPES, MEANS, METRICS

if TYPE_CHECKING:
    from discover.evaluating import Report, Request, Watcher
    from discover.export.evaluation import Sheet

_AMOUNTS = ("draws", "subsets", "nodes", "edges", "greedy")

_subject_options = with_options(
    click.option(
        "--circuit",
        metavar="FILE|canonical:NAME",
        help="Instead of runs: a file of edges or a known circuit, with --model and --task (or "
        "--prompts-file).",
    ),
    click.option("--model", help="Of --circuit."),
    click.option("--task", help="Of --circuit; see `discover tasks`."),
    click.option("--corruption", help="Of --circuit: the task's corruption."),
    click.option(
        "--task-option", multiple=True, metavar="KEY=VALUE", help="Of --circuit: a task's option."
    ),
    click.option("--bos", is_flag=True, help="Of --circuit: put a BOS token in front."),
    click.option("--dtype", type=choice(DTYPES), help="Of --circuit (default float32)."),
)

_prompt_options = with_options(
    click.option("--prompts", type=int, help="How many prompts (default 50, or all of a file)."),
    click.option(
        "--seed", type=int, help="Seed of the task's prompts (default: the run's and 1000)."
    ),
    click.option(
        "--prompts-file",
        type=click.Path(path_type=Path),
        help="Prompts of your own that the search has not seen.",
    ),
    click.option(
        "--same-prompts", is_flag=True, help="Evaluate on the search's own prompts: not held out."
    ),
)

_measure_options = with_options(
    click.option("--metric", type=choice((*METRICS, "accuracy")), help="Instead of the run's own."),
    click.option("--ablation", type=choice(ABLATIONS), help="Instead of the run's own."),
    click.option("--mean-by", type=choice(MEANS), help="Positions a mean ablation averages."),
    click.option("--reference", metavar="N|FILE", help="Prompts a mean ablation averages over."),
)

_budget_options = with_options(
    click.option(
        "--quick", is_flag=True, help="A fifth of the circuits: no greedy sets, no edges."
    ),
    click.option("--draws", type=int, help="Random circuits (default 50; quick 30)."),
    click.option("--subsets", type=int, help="Random sets knocked out (default 10; quick 5)."),
    click.option("--nodes", type=int, help="Nodes knocked out singly (default 30; quick 10)."),
    click.option("--edges", type=int, help="Edges the minimality test tries (default 30)."),
    click.option("--greedy", type=int, help="Steps of the greedy set (default 3)."),
    click.option("--draw-seed", type=int, default=0, show_default=True, help="Of random choices."),
    click.option("--alpha", type=float, default=0.05, show_default=True, help="Level of tests."),
    click.option(
        "--quantile",
        type=float,
        default=0.9,
        show_default=True,
        help="Share of random circuits that the circuit must beat.",
    ),
    click.option(
        "--epsilon", type=float, default=0.1, show_default=True, help="Of the equivalence test."
    ),
    click.option("--level", type=float, default=0.95, show_default=True, help="Of intervals."),
)


@click.command()
@click.argument("run_refs", metavar="[RUN]...", nargs=-1)
@_prompt_options
@_measure_options
@_budget_options
@_subject_options
@click.option("--stored", is_flag=True, help="Show what is stored; compute nothing.")
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Every figure, one a line."
)
@click.option("--latex", type=click.Path(path_type=Path), help="The tables, for booktabs.")
@device_option
@threads_option
@memory_option
@db_option
@json_option
def evaluate(
    run_refs: tuple[str, ...],
    circuit: str | None,
    stored: bool,
    csv_file: Path | None,
    latex: Path | None,
    db: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Is the circuit true? Measure it on prompts that the search never saw.

    Faithfulness, completeness, minimality, the curve over sizes with CPR and CMD, random circuits
    of the same size, hypothesis tests. Every figure is stored; the run is not changed.
    """
    if bool(run_refs) == (circuit is not None):
        raise InputError("name runs (see `discover runs`), or one --circuit file with --model")
    _check_given(given, stored, circuit)
    for output in (csv_file, latex):
        if output is not None:
            check_writable(output)
    with open_store(db, create=circuit is not None) as store:
        if stored:
            from discover.evaluating import stored_reports

            reports = stored_reports(run_refs, store)
        else:
            from discover.evaluating import evaluate_runs

            request = _request(given)
            with _Bar() as bar:
                if circuit is not None:
                    reports = [_of_file(circuit, store, request, bar.watcher(), given)]
                else:
                    reports = evaluate_runs(run_refs, store, request, bar.watcher())
    _hand_over(reports, csv_file, latex, as_json, stored)


def _check_given(given: dict[str, Any], stored: bool, circuit: str | None) -> None:
    """Options that would have no effect are mistakes."""
    source = click.get_current_context().get_parameter_source
    set_by_hand = {
        name for name in given if (found := source(name)) and found.name == "COMMANDLINE"
    }
    of_circuit = {"model", "task", "corruption", "task_option", "bos", "dtype"}
    if circuit is None and (idle := set_by_hand & of_circuit):
        raise InputError(f"{_names(idle)}: only with --circuit; a run has its own")
    if circuit is not None and (stored or given["same_prompts"]):
        raise InputError("--stored and --same-prompts are about runs; --circuit is no run's")
    if stored and set_by_hand:
        raise InputError(f"--stored computes nothing; drop {_names(set_by_hand)}")


def _names(options: set[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in sorted(options))


def _request(given: dict[str, Any]) -> Request:
    import dataclasses

    from discover.evaluating import Request
    from discover.evaluation.settings import QUICK, Budget

    amounts = {name: given[name] for name in _AMOUNTS if given[name] is not None}
    if amounts.get("greedy") and given["quick"]:
        amounts["candidates"] = Budget().candidates
    if amounts.get("edges") and given["quick"]:
        amounts["inflated"] = QUICK.draws
    budget = dataclasses.replace(QUICK if given["quick"] else Budget(), **amounts)
    file, reference = given["prompts_file"], given["reference"]
    if reference is not None and not re.fullmatch(r"-?\d+", reference, re.ASCII):
        reference = str(Path(reference).expanduser().resolve())
    return Request(
        metric=given["metric"],
        ablation=given["ablation"],
        mean_by=given["mean_by"],
        reference=int(reference) if reference and reference.lstrip("-").isdigit() else reference,
        prompts=given["prompts"],
        seed=given["seed"],
        prompts_file=None if file is None else str(file.resolve()),
        same_prompts=given["same_prompts"],
        budget=budget,
        draw_seed=given["draw_seed"],
        level=given["level"],
        alpha=given["alpha"],
        quantile=given["quantile"],
        epsilon=given["epsilon"],
        device=given["device"],
        threads=given["threads"],
        memory=given["memory"],
    )


def _of_file(
    ref: str, store: Any, request: Request, watcher: Watcher, given: dict[str, Any]
) -> Report:
    """A known circuit or one from a file, on the model and task that are named beside it."""
    from discover.canonical import canonical
    from discover.evaluating import evaluate_circuit
    from discover.export.edgelist import read_circuit

    if given["model"] is None:
        raise InputError("--circuit needs --model: its edges are some model's")
    defaults = {"metric": "kl", "ablation": "resample", "dtype": "float32", "seed": 0}
    values = {**given, **{k: given[k] or default for k, default in defaults.items()}}
    if values["metric"] == "accuracy":
        values["metric"] = "kl"
    if given["task"] is not None:
        values["prompts_file"] = None
    spec = make_spec(1.0, values)
    if ref.startswith(KNOWN):
        known = canonical(ref.removeprefix(KNOWN))
        if known.model != spec.model:
            click.echo(f"note: {ref} is of {known.model}, not of {spec.model}", err=True)
        return evaluate_circuit(lambda _model: known.circuit, ref, spec, store, request, watcher)
    file = Path(ref)
    return evaluate_circuit(
        lambda model: read_circuit(file, model.graph), file.name, spec, store, request, watcher
    )


class _Bar:
    """Progress on stderr: phases, and a bar over the circuits that are run."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if isinstance(error, KeyboardInterrupt):
            click.echo(
                "interrupted: nothing of this evaluation is stored; those of runs before it are",
                err=True,
            )

    def watcher(self) -> Watcher:
        """What the evaluation reports to."""
        from discover.evaluating import Watcher

        return Watcher(self._phase, self._total, self._circuit)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _phase(self, name: str) -> None:
        self._close()
        click.echo(f"{name} ...", err=True)

    def _total(self, circuits: int) -> None:
        # An upper bound: circuits that come up twice are run once.
        self.bar = tqdm(total=circuits, unit="circuit", dynamic_ncols=True, file=sys.stderr)

    def _circuit(self) -> None:
        if self.bar is not None:
            self.bar.update(1)


def _hand_over(
    reports: list[Report], csv_file: Path | None, latex: Path | None, as_json: bool, stored: bool
) -> None:
    from discover.export.evaluation import to_csv, to_latex

    sheets = [_sheet(report) for report in reports]
    if csv_file is not None:
        write(csv_file, to_csv(sheets))
    if latex is not None:
        write(latex, to_latex(sheets))
    if as_json:
        print_json({"evaluations": [_facts(report) for report in reports]})
        return
    shown: set[str | None] = set()
    for report, sheet in zip(reports, sheets, strict=True):
        if stored and report.record.run_id in shown:
            continue
        shown.add(report.record.run_id)
        _print(report, sheet)
    older = len(reports) - len(shown)
    if stored and older > 0:
        click.echo(f"\n{older} older evaluation(s); --json and --csv give all")


def _sheet(report: Report) -> Sheet:
    from discover.export.evaluation import Sheet

    settings = report.record.settings
    return Sheet(str(settings["circuit"]), settings, report.measurements)


def _facts(report: Report) -> dict[str, Any]:
    record = report.record
    return {
        "evaluation": record.id,
        "run": record.run_id,
        "created_at": record.created_at.isoformat(),
        "circuit_hash": record.circuit_hash,
        "prompts_hash": record.prompts_hash,
        "settings": record.settings,
        "versions": record.versions,
        "seconds": record.seconds,
        "measurements": [
            {
                "subject": row.subject,
                "measure": row.measure,
                "value": json_number(row.value),
                "low": json_number(row.low),
                "high": json_number(row.high),
                "unit": row.unit,
                "extra": row.extra,
            }
            for row in report.measurements
        ],
    }


def _print(report: Report, sheet: Sheet) -> None:
    from discover.export.evaluation import show, tables

    record, settings = report.record, report.record.settings
    prompts = settings["prompts"]
    counts = {
        (row.subject, row.measure): int(row.value)
        for row in sheet.measurements
        if row.measure.endswith(("edges", "nodes")) and row.subject in ("model", "circuit")
    }
    ablation = ablation_words(
        settings["ablation"], settings["mean_by"], settings["reference"], "the evaluation's own"
    )
    seed = f", seed {prompts['seed']}" if "seed" in prompts else ""
    seen = "none seen by the search" if prompts["held_out"] else "THE SEARCH'S OWN"
    seen = seen if record.run_id else "not known whether the search saw them"
    lines = [
        ("circuit", f"{sheet.label}: {counts['circuit', 'edges']:,} of "
         f"{counts['model', 'edges']:,} edges, {counts['circuit', 'nodes']} of "
         f"{counts['model', 'nodes']} nodes; connected {counts['circuit', 'connected_edges']:,} "
         f"edges, {counts['circuit', 'connected_nodes']} nodes"),
        ("model", f"{settings['model']}, {settings['metric']}, {ablation}"),
        ("prompts", f"{prompts['n']} of {prompts['from']}{seed} ({seen})"),
        ("cost", f"{settings['forwards']} circuits run in {record.seconds:.1f} s"),
        ("stored", f"evaluation {record.id}" if record.id else "no"),
    ]  # fmt: skip
    click.echo()
    for name, text in lines:
        click.echo(f"{name:9}{text}")
    for table in tables(sheet):
        click.echo(f"\n{table.title}")
        print_table([table.header, *table.rows])
    for measure in ("cpr", "cmd"):
        if row := sheet.find("sweep", measure):
            click.echo(
                f"\n{measure.upper()} over the {len(row.extra['runs'])} runs: {show(row.value)}"
            )
    for note in settings["notes"]:
        click.echo(f"\nnote: {note}")


COMMANDS = (evaluate,)
