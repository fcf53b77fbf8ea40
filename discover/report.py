"""What a person sees of a run: progress while it lasts, its record as text or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import click

from discover.errors import StoppedError
from discover.interrupts import Interrupts
from discover.spec import INEXACT_DTYPES, METRICS

if TYPE_CHECKING:
    from discover.acdc import Decision
    from discover.exploring import Answer
    from discover.run import Observer, StopWhen
    from discover.scoring import EdgeScores
    from discover.store import RunRecord, Store

SUMMARY_KEYS = (
    "run model task metric ablation tau prompts seed engine edges kept evaluated dead damage "
    "damage_all_ablated seconds circuit_hash"
).split()
"""The keys of the one JSON object that `discover run --json` prints."""

FACTS = (
    *SUMMARY_KEYS,
    *"status decided error created_at finished_at spec spec_hash versions evidence".split(),
)
"""The keys of a run's record as JSON."""

TABLE = 2_000
"""Values of a component beyond which a table on a terminal shows nothing to anyone."""


class Reporter:
    """Shows a run's phases and progress on stderr; reads only what is stored already.

    Ctrl-C ends what is done in it with KeyboardInterrupt, at the next decision at the latest.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.interrupts = Interrupts()
        self.bar: Any = None
        self.kept = 0
        self.run_id: str | None = None

    def __enter__(self) -> Self:
        self.interrupts.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.interrupts.__exit__()
        if self.bar is not None:
            self.bar.close()
        if kind is not None and self.run_id is not None:
            done = self.store.count(self.run_id)
            click.echo(
                f"stopped with {done:,} decision{'' if done == 1 else 's'} stored; go on with: "
                f"discover resume {self.run_id[:8]}",
                err=True,
            )
        if isinstance(error, StoppedError) and self.interrupts.asked:
            raise KeyboardInterrupt from error

    def observer(self) -> Observer:
        """The callbacks of a run that this reporter shows."""
        from discover.run import Observer

        return Observer(self.phase, self.started, self.decisions, self.warning, self.stop)

    def stop(self) -> StopWhen | None:
        """Whether the search is to end at this decision."""
        return "now" if self.interrupts.asked else None

    def phase(self, name: str) -> None:
        """Say what is going on now."""
        if self.bar is None:
            click.echo(f"{name} ...", err=True)
        else:
            self.bar.set_description_str(name)

    def warning(self, text: str) -> None:
        """Say what should make a person doubt the run; it goes on all the same."""
        click.echo(f"warning: {text}", err=True)

    def started(self, record: RunRecord) -> None:
        """Draw the bar, from where an earlier session left it."""
        from tqdm import tqdm

        if self.bar is not None:
            self.bar.close()
        self.run_id = record.id
        self.kept = sum(row["outcome"] == "kept" for row in self.store.decision_rows(record.id))
        click.echo(f"run {record.id}: {record.edges:,} edges, tau {record.spec.tau:g}", err=True)
        self.bar = tqdm(
            total=record.edges, initial=record.decided, unit="edge", dynamic_ncols=True,
            file=sys.stderr, smoothing=0.05,
        )  # fmt: skip

    def decisions(self, batch: list[Decision]) -> None:
        """Count decisions that are stored."""
        self.kept += sum(not decision.removed for decision in batch)
        self.bar.set_postfix_str(f"kept {self.kept:,}", refresh=False)
        self.bar.update(len(batch))


def facts(record: RunRecord) -> dict[str, Any]:
    """Everything a run's record says, as JSON values."""
    return {
        **summary(record),
        "status": record.status,
        "decided": record.decided,
        "error": record.error,
        "created_at": record.created_at.isoformat(),
        "finished_at": record.finished_at.isoformat() if record.finished_at else None,
        "spec": record.spec.to_json(),
        "spec_hash": record.spec_hash,
        "versions": record.versions,
        "evidence": record.evidence,
    }


def summary(record: RunRecord) -> dict[str, Any]:
    """The object of `discover run --json`."""
    values = {
        "run": record.id,
        "metric": record.spec.metric,
        "ablation": record.spec.ablation,
        "tau": record.spec.tau,
        "prompts": record.spec.prompts,
        "seed": record.spec.seed,
    }
    return {
        key: json_number(values[key] if key in values else getattr(record, key))
        for key in SUMMARY_KEYS
    } | ({"decisions_may_differ": True} if record.spec.dtype in INEXACT_DTYPES else {})


def json_number(value: Any) -> Any:
    """JSON has no infinities: they are written as the strings Infinity and -Infinity."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def print_result(record: RunRecord, as_json: bool) -> None:
    """A finished run, as text or as the one JSON object."""
    if as_json:
        print_json(summary(record))
    else:
        print_record(record)


def print_sweep(records: list[RunRecord], connected: list[int], as_json: bool) -> None:
    """A finished sweep, one threshold a row or all as one JSON object.

    `connected` has how many of each circuit's edges lie between embedding and logits.
    """
    if as_json:
        runs = zip(records, connected, strict=True)
        print_json({"runs": [summary(record) | {"connected": n} for record, n in runs]})
        return
    rows = [
        (
            f"{row['tau']:g}",
            row["run"][:8],
            f"{row['kept']:,}",
            f"{row['connected']:,}",
            f"{row['evaluated']:,}",
            f"{row['damage']:.4g}",
            f"{row['seconds']:.1f}",
        )
        for row in sweep_rows(records, connected)
    ]
    unit = METRICS[records[0].spec.metric]
    print_table([(*SWEEP[:5], f"damage ({unit})", "seconds"), *rows])


SWEEP = ("tau", "run", "kept", "connected", "evaluated", "damage", "seconds", "metric", "unit")
"""The columns of a sweep as CSV; damage is that of the search, on its own prompts."""


def sweep_rows(records: list[RunRecord], connected: list[int]) -> list[dict[str, Any]]:
    """A finished sweep as plain values, tau ascending."""
    return [
        {
            "tau": record.spec.tau,
            "run": record.id,
            "kept": record.kept,
            "connected": n,
            "evaluated": record.evaluated,
            "damage": record.damage,
            "seconds": round(record.seconds, 3),
            "metric": record.spec.metric,
            "unit": METRICS[record.spec.metric],
        }
        for record, n in zip(records, connected, strict=True)
    ]


def print_scores(found: EdgeScores, top: int) -> None:
    """The edges that matter most by attribution."""
    spec = found.spec
    click.echo(
        f"{found.method} on {spec.model}, {spec.prompts} prompts, {spec.metric}, {spec.ablation} "
        f"ablation: {len(found.graph):,} edges in {found.seconds:.1f} s"
    )
    click.echo("estimates of each edge's score alone; the exact search is `discover run`")
    rows = [(name, f"{value:.4g}") for name, value in found.ranked(top)]
    print_table([("edge", f"score ({METRICS[spec.metric]})"), *rows])


def print_answer(found: Answer, top: int) -> None:
    """What patching by hand found: tables, the nodes that matter most, the unpatched runs."""
    spec = found.spec
    what = " to ".join(", ".join(names) for names in found.ends.values())
    source = f"{spec.task}, seed {spec.seed}" if spec.task else spec.prompts_file
    prompts = f"{spec.prompts} prompt{'' if spec.prompts == 1 else 's'}"
    click.echo(f"{found.direction} of {what}: {spec.model}, {prompts} of {source}")
    click.echo(f"{found.metric}: {found.unit}; {found.scale}")
    lines = [("clean", f"{found.clean:+.4f}"), ("corrupted", f"{found.corrupted:+.4f}")]
    if found.logit_diff is not None:
        lines = [
            (name, f"{value}  (logit difference {logits:+.3f})")
            for (name, value), logits in zip(lines, found.logit_diff, strict=True)
        ]
    lines += [] if found.value is None else [("patched", f"{found.value:+.4f}")]
    if spec.dtype in INEXACT_DTYPES:
        lines.append(("caution", f"in {spec.dtype} values may differ from float32's"))
    for name, text in lines:
        click.echo(f"{name:10}{text}")
    if found.estimated:
        click.echo(
            "below: estimates of each node's change of the metric, from gradients; not exact"
        )
    _print_tables(found)
    if found.results and top:
        click.echo()
        _print_ranked(found, top)
    for name, agreed in found.agreement.items():
        click.echo(f"\n{name}, estimate against exact patches. {agreed}")


def _print_tables(found: Answer) -> None:
    """The values by component, on one scale; the heading said what they are already."""
    from discover.labelled import Results, print_terminal

    arrays = found.results.arrays()
    small = {
        a.name: replace(a, unit="", direction="")
        for a in arrays
        if a.values.size <= TABLE and "neuron" not in a.axes
    }
    if small:
        click.echo()
        print_terminal(Results(small))
    for array in arrays:
        if array.name not in small:
            click.echo(f"\n{array.name}: {array.values.size:,} values; --csv and --plot show all")


def _print_ranked(found: Answer, top: int) -> None:
    rows = [(name, f"{value:+.4f}", f"{change:+.4f}") for name, value, change in found.ranked(top)]
    header = ("node", "estimate" if found.estimated else "value", "change")
    # Where nothing is 0, the value is the change.
    columns = 3 if found.told_from else 2
    print_table([header[:columns], *(row[:columns] for row in rows)])


def print_record(record: RunRecord) -> None:
    """A run as text: settings, result, cost, versions."""
    spec, unit = record.spec, METRICS[record.spec.metric]
    ablation = ablation_words(spec.ablation, spec.mean_by, spec.reference)
    lines = [
        ("run", f"{record.id} ({record.status})"),
        ("model", f"{record.model}, weights {spec.weights_hash[:12]}, {spec.dtype}"),
        ("prompts", f"{spec.prompts} of {record.task}, seed {spec.seed}"
         + "".join(f", {key} {value}" for key, value in spec.task_options.items())
         + (", with BOS" if spec.bos else "")),
        ("search", f"{spec.metric}, {ablation}, tau {spec.tau:g} {unit}, "
         f"{record.engine} engine"
         + ("" if spec.order == "canonical" else f", order {spec.order}")),
        ("edges", f"{record.edges:,}, {record.decided:,} decided"),
    ]  # fmt: skip
    if spec.dtype in INEXACT_DTYPES:
        lines.append(("caution", f"in {spec.dtype} decisions may differ from float32's"))
    if record.kept is not None:
        lines += [
            ("kept", f"{record.kept:,} ({record.evaluated:,} decided by evaluation, "
             f"{record.dead:,} dead)"),
            ("damage", f"{record.damage:.6g} {unit} (all edges ablated: "
             f"{record.damage_all_ablated:.6g})"),
            ("circuit", f"sha256 {record.circuit_hash}"),
        ]  # fmt: skip
    started = f"{record.created_at:%Y-%m-%d %H:%M} UTC"
    lines.append(("time", f"{record.seconds:.1f} s, created {started}"))
    evidence = record.evidence
    if evidence:
        lines += _cost_lines(evidence)
    if record.error:
        lines.append(("error", record.error))
    lines.append(("versions", ", ".join(f"{k} {v}" for k, v in sorted(record.versions.items()))))
    for name, text in lines:
        click.echo(f"{name:9}{text}")


def ablation_words(
    ablation: str, mean_by: str | None, reference: int | str | None, own: str = "the run's own"
) -> str:
    """An ablation in words, with what a mean averages; `own`: whose prompts by default."""
    if ablation != "mean":
        return f"{ablation} ablation"
    over = {
        type(None): f"{own} prompts",
        int: f"{reference} further prompts",
        str: f"the prompts of {reference}",
    }[type(reference)]
    by = "of all positions" if mean_by == "all" else f"by {mean_by}"
    return f"mean ablation {by} over the corrupted side of {over}"


def _cost_lines(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    seconds = evidence["seconds"]
    spent = ", ".join(f"{phase} {taken:.1f}" for phase, taken in seconds.items())
    lines = [
        (
            "cost",
            f"{evidence['evaluations']:,} evaluations in {evidence['blocks']:,} blocks, "
            f"{evidence['wasted']:,} wasted; {evidence['near_tau']:,} decided again in float64; "
            f"{evidence['sessions']} session(s)",
        ),
        ("seconds", spent),
    ]
    if evidence["node_computations"]:
        share = evidence["node_computations"] / max(1, evidence["plain_node_computations"])
        lines.append(
            (
                "nodes",
                f"{evidence['node_computations']:,} computed, {share:.2%} of the "
                f"{evidence['plain_node_computations']:,} of one full forward an edge",
            )
        )
    return lines


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Rows in aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
