"""Comparisons and ROC curves as text, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from discover.evaluation.overlap import Comparison, Overlap, check_same_graph
from discover.evaluation.roc import Roc, RocPoint, roc_of_circuits
from discover.finished import Named, spec_differences
from discover.report import json_number, print_table
from discover.spec import RunSpec
from discover.store import RunRecord

NODES = "nodes are heads, MLPs and the embedding"
ROC_NODES = (
    "AUC: the ACDC paper's pessimistic steps; linear: straight lines. Nodes as in that paper: a "
    "head's q, k, v and output apart"
)


def print_comparison(found: Comparison, left: Named, right: Named, list_edges: bool) -> None:
    """A comparison as text."""
    for side, named in (("left", left), ("right", right)):
        click.echo(f"{side:7}{_line(named)}")
    for key, (ours, theirs) in spec_differences(left, right).items():
        click.echo(f"{'':7}{key}: {_short(ours)} left, {_short(theirs)} right")
    click.echo()
    header = ("", "shared", "only left", "only right", "precision", "recall", "F1", "Jaccard")
    rows = [_overlap(name, part) for name, part in (("edges", found.edges), ("nodes", found.nodes))]
    print_table([header, *rows])
    click.echo(f"({NODES})")
    if found.roles:
        click.echo()
        print_table(
            [
                ("role in the right circuit", "nodes found", "edges found", "nodes missing"),
                *(
                    (
                        role.role,
                        f"{len(role.found)} of {len(role.nodes)}",
                        f"{role.edges_found:,} of {role.edges:,}",
                        ", ".join(name for name in role.nodes if name not in role.found),
                    )
                    for role in found.roles
                ),
            ]
        )
    if list_edges:
        for title, edges in (("missing", found.missing), ("extra", found.extra)):
            click.echo()
            for edge in edges:
                click.echo(f"{title}  {edge}")


def _line(named: Named) -> str:
    parts = [named.name]
    if named.record is not None:
        spec = named.record.spec
        parts.append(f"{spec.model}, {named.record.task}, {spec.metric}, {spec.ablation} ablation")
        parts.append(f"tau {spec.tau:g}")
    elif named.model:
        parts.append(f"of {named.model}")
    size = f"{len(named.circuit):,} of {len(named.circuit.graph):,} edges"
    return ", ".join([*parts, size, f"sha256 {named.circuit.hash[:12]}"])


def _overlap(name: str, part: Overlap) -> tuple[str, ...]:
    counts = (part.shared, part.only_left, part.only_right)
    ratios = (part.precision, part.recall, part.f1, part.jaccard)
    return (name, *(f"{n:,}" for n in counts), *("-" if r is None else f"{r:.3f}" for r in ratios))


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:12] + "..."


@dataclass(frozen=True)
class Curve:
    """The runs of one spec at several taus against a known circuit."""

    name: str
    runs: tuple[str, ...]
    edges: Roc
    nodes: Roc

    def to_json(self) -> dict[str, Any]:
        """Areas and points of both curves."""
        return {
            "name": self.name,
            "runs": list(self.runs),
            **{roc.of: _roc_json(roc) for roc in (self.edges, self.nodes)},
        }


def _roc_json(roc: Roc) -> dict[str, Any]:
    return {
        "auc": roc.auc,
        "auc_linear": roc.auc_linear,
        "positives": roc.positives,
        "negatives": roc.negatives,
        "points": [
            {key: json_number(value) for key, value in dataclasses.asdict(point).items()}
            for point in roc.points
        ],
    }


def without_tau(record: RunRecord) -> RunSpec:
    """A run's spec but for its threshold: equal for the runs of one sweep."""
    return dataclasses.replace(record.spec, tau=1.0)


def curves_of(lefts: Sequence[Named], truth: Named) -> list[Curve]:
    """A curve for each spec among the runs, tau aside; a tau that was searched twice counts once.

    Raises:
        InputError: the known circuit is empty or everything.
        MismatchError: a run is on another graph.
    """
    groups: dict[str, dict[float, Named]] = {}
    specs: dict[str, RunSpec] = {}
    for named in lefts:
        assert named.record is not None
        check_same_graph(named.circuit.graph, truth.circuit.graph)
        spec = without_tau(named.record)
        specs[spec.hash] = spec
        groups.setdefault(spec.hash, {})[named.record.spec.tau] = named
    names = _told_apart(list(specs.values()))
    found = []
    for key, name in zip(specs, names, strict=True):
        taus = sorted(groups[key], reverse=True)
        runs = [groups[key][tau] for tau in taus]
        circuits = [named.circuit for named in runs]
        edges = roc_of_circuits(circuits, truth.circuit, "edges", taus)
        nodes = roc_of_circuits(circuits, truth.circuit, "nodes", taus)
        ids = tuple(named.record.id for named in runs if named.record is not None)
        found.append(Curve(name, ids, edges, nodes))
    return found


_HASHES = ("weights_hash", "prompts_hash", "reference_hash")


def _told_apart(specs: list[RunSpec]) -> list[str]:
    """Names of specs that say how they differ, or what one alone is."""
    # Not `to_json`: that leaves out later fields where they are as usual.
    given = [dataclasses.asdict(spec) for spec in specs]
    usual = ("metric", "ablation")
    varied = [key for key in given[0] if len({repr(spec[key]) for spec in given}) > 1]
    extra = [key for key in varied if key not in (*usual, *_HASHES)]
    names = []
    for spec in given:
        parts = [str(spec[key]) for key in usual]
        told = [key for key in extra if key != "mean_by" or spec["ablation"] == "mean"]
        parts += [f"{key} {_short(spec[key])}" for key in told]
        names.append(", ".join(parts))
    return names


def print_curves(curves: Sequence[Curve], truth: Named) -> None:
    """ROC curves as text: the areas, then every threshold's rates."""
    click.echo(f"against {_line(truth)}\n")
    header = ("search", "taus", "AUC edges", "linear", "AUC nodes", "linear")
    rows = []
    for curve in curves:
        areas = [getattr(r, a) for r in (curve.edges, curve.nodes) for a in ("auc", "auc_linear")]
        rows.append((curve.name, f"{len(curve.runs)}", *(f"{area:.3f}" for area in areas)))
    print_table([header, *rows])
    click.echo(f"({ROC_NODES})")
    for curve in curves:
        click.echo(f"\n{curve.name}")
        lines = [
            (run[:8], f"{edge.threshold:g}", f"{edge.tp + edge.fp:,}", *_rates(edge), *_rates(node))
            for run, edge, node in zip(
                curve.runs, curve.edges.points[1:-1], curve.nodes.points[1:-1], strict=True
            )
        ]
        columns = ("run", "tau", "kept", "edge TPR", "edge FPR", "node TPR", "node FPR")
        print_table([columns, *lines])


def _rates(point: RocPoint) -> tuple[str, str]:
    return f"{point.tpr:.3f}", f"{point.fpr:.4f}"


def points_csv(curves: Sequence[Curve]) -> bytes:
    """Every point of every curve, one a row; tau is empty at the two ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["search", "of", "run", "tau", "fp", "tp", "fpr", "tpr", "auc", "auc_linear"])
    for curve in curves:
        for roc in (curve.edges, curve.nodes):
            runs = ["", *curve.runs, ""]
            for run, point in zip(runs, roc.points, strict=True):
                tau = repr(point.threshold) if math.isfinite(point.threshold) else ""
                rates = (repr(point.fpr), repr(point.tpr), repr(roc.auc), repr(roc.auc_linear))
                writer.writerow([curve.name, roc.of, run, tau, point.fp, point.tp, *rates])
    return text.getvalue().encode()
