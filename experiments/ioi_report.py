"""The report of `ioi_recovery.py`, read from the database alone."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reporting import Report, Row

from discover.circuit import Circuit
from discover.evaluation.figures import Measurement
from discover.evaluation.looks import plain_numbers
from discover.export import write
from discover.finished import stored_circuit
from discover.graph import parse_sender
from discover.labelled.drawing import Drawing, new_figure, settings
from discover.spec import METRICS
from discover.store import EvaluationRecord, RunRecord

if TYPE_CHECKING:
    from ioi_recovery import Recovery

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#808080"


def write_report(recovery: Recovery, folder: Path) -> list[Path]:
    """Write the report and its figures; returns their paths."""
    return _Writer(recovery, folder).write()


class _Writer:
    def __init__(self, recovery: Recovery, folder: Path) -> None:
        self.recovery, self.store, self.plan = recovery, recovery.store, recovery.plan
        self.first = self.plan.seeds[0]
        self.run = recovery.runs[self.first][recovery.chosen]
        self.main = recovery.evaluation(self.run)
        self.circuit = recovery.circuit(self.run)
        self.rows = self.store.measurements(self.main.id)
        self.report = Report(folder, f"The IOI circuit of {self.plan.spec.model}, recovered")

    # Numbers and where they are from.

    def of_run(self, run: RunRecord, column: str, shown: str) -> str:
        """A column of `runs`."""
        return self.report.value(getattr(run, column), shown, Row("runs", run.id, "", column))

    def of(
        self, evaluation: EvaluationRecord, row: Measurement, shown: str, interval: bool = False
    ) -> str:
        """A row of `measurements`."""
        place = Row("measurements", evaluation.id, row.subject, row.measure)
        text = self.report.value(row.value, shown, place)
        if interval and row.low is not None and row.high is not None:
            text += f" ({shown.format(row.low)} to {shown.format(row.high)})"
        return text

    def figure(self, subject: str, measure: str, shown: str, interval: bool = True) -> str:
        """A figure of the chosen circuit's evaluation; empty if it was not taken."""
        for row in self.rows:
            if (row.subject, row.measure) == (subject, measure):
                return self.of(self.main, row, shown, interval)
        return ""

    # Sections.

    def write(self) -> list[Path]:
        """All sections, in order."""
        self.how()
        self.short()
        self.behaviour()
        self.thresholds()
        self.drawn()
        self.held_out()
        self.tests()
        self.stability()
        self.heads()
        self.trace()
        return self.report.write()

    def how(self) -> None:
        """What was asked, and the command."""
        spec, run = self.run.spec, self.run
        seeds = ", ".join(map(str, self.plan.seeds))
        used = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        self.report.text(
            f"`python experiments/ioi_recovery.py {self.plan.given}` on "
            f"{run.created_at:%Y-%m-%d} with {used} ({platform.machine()}, CPU). {spec.prompts} "
            f"prompt pairs a search, corruption "
            f"`{spec.task_options.get('corruption', 'abc')}`, metric `{spec.metric}`, "
            f"{spec.ablation} ablation, seeds {seeds}. Every number is a row of the database; "
            "`rows.csv` lists which."
        )
        if spec.model == "smollm2":
            self.report.text(
                "The model is SmolLM2-135M-Instruct in 4 bits, dequantised: not the hub's weights."
            )

    def short(self) -> None:
        """What came out, in a few lines."""
        self.report.heading("In short")
        named, own = self._named(), _heads(self.circuit)
        lines = [
            f"The circuit: {self.of_run(self.run, 'kept', '{:,}')} of {self.run.edges:,} edges, "
            f"{len(own)} heads, at tau {self.run.spec.tau:g}.",
            "Alone, on prompts that nothing saw, it is right "
            f"{self.figure('circuit', 'accuracy', '{:.0%}')} of the time, the model "
            f"{self.figure('model', 'accuracy', '{:.0%}')}, random circuits like it "
            f"{self.figure('random', 'accuracy', '{:.0%}')}; it keeps "
            f"{self.figure('circuit', 'faithfulness', '{:.2f}')} of the logit difference.",
            f"Tests: {self._verdicts()}.",
        ]
        jaccards = [
            self.recovery.figure(found, "pair", "jaccard_edges")
            for _, _, tau, found in self._overlaps()
            if tau == self.run.spec.tau
        ]
        if jaccards:
            lines.append(
                "Circuits of two draws of prompts at this tau: Jaccard index of their edges "
                f"{min(row.value for row in jaccards):.2f} to "
                f"{max(row.value for row in jaccards):.2f}."
            )
        if named:
            lines.append(
                f"Path patching by hand names {len(named)} heads; of the circuit's {len(own)} it "
                f"names {len(named & own)}."
            )
        self.report.lines += [f"- {line}" for line in lines] + [""]

    def _verdicts(self) -> str:
        found = [row for row in self.rows if row.measure == "p_value"]
        return ", ".join(
            f"{row.subject.removeprefix('test:')} {row.extra['verdict']}" for row in found
        )

    def _named(self) -> set[str]:
        found = self.recovery.evaluation(self.run, "by hand")
        return {row.subject.removeprefix("node:") for row in self.store.measurements(found.id)}

    def behaviour(self) -> None:
        """Can the model do the task?"""
        self.report.heading("The behaviour")
        n = self.main.settings["prompts"]["n"] if "prompts" in self.main.settings else ""
        self.report.text(
            f"On {n or self.plan.held_out} prompts that no search saw the model gives the right "
            f"name {self.figure('model', 'accuracy', '{:.0%}')} of the time, with a logit "
            f"difference of {self.figure('model', 'logit_diff', '{:+.2f}')}; with every edge "
            "carrying its corrupted value "
            f"{self.figure('empty', 'accuracy', '{:.0%}')} and "
            f"{self.figure('empty', 'logit_diff', '{:+.2f}')}."
        )

    def thresholds(self) -> None:
        """Every threshold: size, damage, validation."""
        self.report.heading("Thresholds")
        rows = []
        runs = self.recovery.runs[self.first]
        for tau in sorted(runs, reverse=True):
            run = runs[tau]
            checked = self.recovery.evaluation(run, "validation")

            def of(measure: str, shown: str, kept: EvaluationRecord = checked) -> str:
                found = self.recovery.figure(kept, "circuit", measure)
                return self.of(kept, found, shown, interval=True)

            rows.append(
                [
                    f"**{tau:g}**" if tau == self.recovery.chosen else f"{tau:g}",
                    self.of_run(run, "kept", "{:,}"),
                    f"{len(self.recovery.circuit(run).connected):,}",
                    self.of_run(run, "damage", "{:.3g}"),
                    of("accuracy", "{:.0%}"),
                    of("logit_diff", "{:+.2f}"),
                    of("faithfulness", "{:.2f}"),
                    f"`{run.id[:8]}`",
                ]
            )
        header = ["tau", "kept", "connected", "damage (search)", "right (validation)",
                  "logit difference (validation)", "faithfulness", "run"]  # fmt: skip
        self.report.table(header, rows)
        self.report.text(
            f"Of {self.run.edges:,} edges; seed {self.first}. Faithfulness is (circuit - ablated) "
            "/ (model - ablated) of the mean logit difference (MIB, arXiv 2504.13151). The "
            "threshold taken is the largest that keeps at least 0.8 of it on prompts drawn for "
            f"that choice: **{self.recovery.chosen:g}**. What follows is measured on others."
        )
        self._sizes()

    def _sizes(self) -> None:
        points = []
        for run in self.recovery.runs[self.first].values():
            found = self.recovery.figure(
                self.recovery.evaluation(run, "validation"), "circuit", "faithfulness"
            )
            if run.kept:
                points.append((run.kept, found.value, run.spec.tau))
        points.sort()
        if not points:
            return
        with settings():
            figure = new_figure(5.2, 3.0)
            axes = figure.add_axes((0.12, 0.17, 0.85, 0.78))
            axes.axhline(1, color=GREY, linewidth=0.7)
            axes.axhline(0.8, color=GREY, linewidth=0.7, linestyle=":")
            axes.plot(*zip(*[p[:2] for p in points], strict=True), "-o", color=BLUE, markersize=4)
            for kept, value, tau in points:
                taken = tau == self.recovery.chosen
                axes.annotate(f"{tau:g}", (kept, value), textcoords="offset points",
                              xytext=(5, -9), color=ORANGE if taken else GREY,
                              weight="bold" if taken else "normal")  # fmt: skip
            axes.set_xscale("log")
            # Room for the labels below and to the right of the points.
            axes.set_xlim(points[0][0] / 1.1, points[-1][0] * 1.2)
            axes.margins(y=0.12)
            plain_numbers(axes.xaxis)
            axes.set(xlabel="edges kept", ylabel="faithfulness on validation prompts")
            axes.spines[["top", "right"]].set_visible(False)
            self._save(figure, "sizes")
        self.report.figure("sizes.svg", "Faithfulness by size; labels are thresholds")

    def _save(self, figure: Any, name: str) -> None:
        for suffix in ("svg", "pdf"):
            Drawing(figure).save(self.report.folder / f"{name}.{suffix}")

    def drawn(self) -> None:
        """The circuit's figure and its strongest edges."""
        self.report.heading("The circuit")
        export = stored_circuit(self.store, self.run)
        for suffix in ("svg", "pdf", "png"):
            write(export, suffix, self.report.folder / f"circuit.{suffix}")
        self.report.figure(
            "circuit.png", f"The circuit of {self.plan.spec.model} at tau {self.run.spec.tau:g}"
        )
        decisions = [row for row in self.store.decisions(self.run.id) if not row.removed]
        decisions.sort(key=lambda row: -row.score)
        rows = [
            [
                f"`{row.edge.name}`",
                self.report.value(
                    row.score, "{:.3f}", Row("decisions", self.run.id, str(row.step), "score")
                ),
            ]
            for row in decisions[:12]
        ]
        self.report.table(["edge", f"score ({self.plan.spec.metric})"], rows)

    def held_out(self) -> None:
        """The circuit, the model without it, random circuits, on prompts that nothing saw."""
        self.report.heading("On prompts that neither search nor choice saw")
        rows = []
        for subject, name in (
            ("model", "the whole model"),
            ("circuit", f"the circuit alone ({len(self.circuit)} edges)"),
            ("without", "the model without the circuit"),
            ("empty", "every edge ablated"),
            ("random", f"{self.plan.budget.draws} random circuits, alone"),
            ("without_random", "the model without random circuits"),
        ):
            rows.append(
                [name]
                + [
                    self.figure(subject, measure, shown)
                    for measure, shown in (
                        ("accuracy", "{:.0%}"),
                        ("logit_diff", "{:+.2f}"),
                        ("kl", "{:.3f}"),
                        ("faithfulness", "{:.2f}"),
                    )
                ]
            )
        header = ["", "right", "logit difference", "KL (nats)", "faithfulness"]
        self.report.table(header, rows)
        self.report.text(
            f"Evaluation `{self.main.id[:8]}` of run `{self.run.id[:8]}`. In brackets 95 % "
            "intervals: of prompts (bootstrap), of random circuits over the draws. Random circuits "
            "have the circuit's size and layer profile and are connected as well as it is."
        )
        sizes = [row for row in self.rows if row.subject == "curve"]
        if sizes:
            told = ", ".join(
                f"{row.measure.upper()} {self.of(self.main, row, '{:.3f}')}" for row in sizes
            )
            self.report.text(
                f"Over MIB's circuit sizes, edges ranked by their stored score: {told}."
            )

    def tests(self) -> None:
        """The hypothesis tests, as they came out."""
        rows = []
        for row in self.rows:
            if not row.subject.startswith("test:") or row.measure != "p_value":
                continue
            told = row.extra
            rows.append(
                [
                    row.subject.removeprefix("test:"),
                    f"{told['null']} (n = {told['n']})",
                    self.of(self.main, row, "{:.3g}"),
                    str(told["verdict"]),
                    str(told.get("note", "")),
                ]
            )
        if rows:
            self.report.heading("Hypothesis tests")
            self.report.table(["test", "null hypothesis", "p", "at 5 %", ""], rows)
            self.report.text("Tests of Shi et al. (arXiv 2410.13032); see `docs/evaluation.md`.")
        told = [
            f"{name} {self.of(self.main, row, '{:.2f}')}"
            for subject, measure, name in (
                ("completeness", "incompleteness_random", "mean incompleteness over random sets"),
                ("completeness", "incompleteness_max", "the largest over all sets tried"),
                ("minimality", "minimality_median", "median minimality of a node"),
                ("minimality", "minimality_min", "the smallest"),
            )
            for row in self.rows
            if (row.subject, row.measure) == (subject, measure)
        ]
        self.report.text(
            "Completeness and minimality (arXiv 2211.00593, section 4), in logits: "
            f"{'; '.join(told)}."
        )

    def stability(self) -> None:
        """The overlap of the draws' circuits."""
        self.report.heading("Other prompts, the same circuit?")
        rows, points = [], []
        for left, right, tau, found in self._overlaps():
            figures = {row.measure: row for row in self.store.measurements(found.id)}

            def of(
                measure: str,
                shown: str,
                kept: EvaluationRecord = found,
                among: dict[str, Measurement] = figures,
            ) -> str:
                return self.of(kept, among[measure], shown) if measure in among else "-"

            a, b = self.recovery.runs[left][tau], self.recovery.runs[right][tau]
            rows.append(
                [
                    f"{tau:g}",
                    f"{left}, {right}",
                    f"{self.of_run(a, 'kept', '{:,}')}, {self.of_run(b, 'kept', '{:,}')}",
                    of("shared_edges", "{:.0f}"),
                    of("jaccard_edges", "{:.2f}"),
                    of("chance_jaccard_edges", "{:.4f}"),
                    of("jaccard_nodes", "{:.2f}"),
                ]
            )
            if "jaccard_edges" in figures:
                points.append((tau, figures["jaccard_edges"].value))
        header = ["tau", "seeds", "edges", "shared", "Jaccard of edges", "by chance",
                  "Jaccard of nodes"]  # fmt: skip
        self.report.table(header, rows)
        if points:
            with settings():
                figure = new_figure(5.2, 2.6)
                axes = figure.add_axes((0.12, 0.19, 0.85, 0.76))
                axes.plot(*zip(*points, strict=True), "o", color=BLUE, markersize=4,
                          clip_on=False)  # fmt: skip
                axes.set_xscale("log")
                taus = [tau for tau, _ in points]
                axes.set_xlim(min(taus) / 1.5, max(taus) * 1.5)
                plain_numbers(axes.xaxis)
                unit = METRICS[self.plan.spec.metric]
                axes.set(xlabel=f"tau ({unit})", ylabel="Jaccard of edges, two seeds", ylim=(0, 1))
                axes.spines[["top", "right"]].set_visible(False)
                self._save(figure, "stability")
            self.report.figure("stability.svg", "Overlap of the circuits of every two draws")

    def _overlaps(self) -> Iterable[tuple[int, int, float, EvaluationRecord]]:
        for tau in sorted(self.plan.taus, reverse=True):
            for i, left in enumerate(self.plan.seeds):
                for right in self.plan.seeds[i + 1 :]:
                    other = self.recovery.runs[right][tau].id
                    run = self.recovery.runs[left][tau]
                    yield (
                        left,
                        right,
                        tau,
                        self.recovery.evaluation(run, "overlap", **{"with": other}),
                    )

    def heads(self) -> None:
        """The circuit's heads against those that path patching by hand names."""
        self.report.heading("Heads that path patching by hand names")
        found = self.recovery.evaluation(self.run, "by hand")
        circuits = {
            seed: self.recovery.circuit(runs[self.run.spec.tau])
            for seed, runs in self.recovery.runs.items()
        }
        named: set[str] = set()
        roles: dict[str, list[str]] = {}
        rows = []
        for row in self.store.measurements(found.id):
            node = row.subject.removeprefix("node:")
            named.add(node)
            inside = ["yes" if node in _heads(c) else "no" for c in circuits.values()]
            effect = self.of(found, row, "{:+.3f}")
            rows.append([row.extra["role"], f"`{node}`", effect, row.measure, *inside])
            roles.setdefault(row.extra["role"], []).append(node)
        if not rows:
            self.report.text("It names none: no path from a head has an effect of 0.05 or more.")
            return
        header = ["role", "head", "effect", "of what"]
        self.report.table([*header, *(f"in the circuit, seed {seed}" for seed in circuits)], rows)
        own, total = _heads(self.circuit), self.circuit.graph.n_layers * self.circuit.graph.n_heads
        both = len(named & own)
        p = _at_least(both, total, len(named), len(own))
        self.report.text(
            f"Of {len(named)} heads that are named, {both} are among the {len(own)} heads of the "
            f"circuit (seed {self.first}, of {total} in the model); so many or more by chance: "
            f"p = {p:.2g}. A head has a role if its path has an effect and it looks where the role "
            "looks (`experiments/ioi_heads.py`); `no role` are heads whose direct path to the "
            "logits changes 0.05 or more and that pass for none. The effect is a share of the "
            "clean-to-flipped logit difference when that path alone is corrupted. Heads of the "
            "circuit that path patching does not name: "
            f"{', '.join(f'`{h}`' for h in sorted(own - named, key=_place)) or 'none'}."
        )

        spec = self.run.spec
        if spec.task_options.get("corruption") == "flipped":
            self.report.text(
                "The first clause is the same in both prompts of a flipped pair, so heads that "
                "only read it (previous token) carry the same in both and cannot show in this "
                "circuit."
            )
        if spec.metric == "logit_diff":
            self.report.text(
                "Heads whose path works against the right name (a positive effect) cannot either: "
                "ablating them lowers the damage, so the search removes them."
            )

    def trace(self) -> None:
        """How to look a number up."""
        self.report.heading("From a number to its row")
        self.report.text(
            "`rows.csv` names table, id, subject and measure of each number above. In the "
            "database that the command leaves (`recovery.db`): `SELECT * FROM runs WHERE id = "
            "...`; `SELECT * FROM measurements WHERE evaluation_id = ... AND subject = ... AND "
            "measure = ...`; `SELECT * FROM decisions WHERE run_id = ... AND step = ...`."
        )


def _place(name: str) -> tuple[int, int]:
    node = parse_sender(name)
    return node.layer, node.head


def _heads(circuit: Circuit) -> set[str]:
    return {node.name for node in circuit.nodes if node.kind == "head"}


def _at_least(hits: int, total: int, named: int, drawn: int) -> float:
    """The chance that `drawn` heads taken at random have so many of the named or more."""
    ways = math.comb(total, drawn)
    most = min(named, drawn)
    return (
        sum(
            math.comb(named, k) * math.comb(total - named, drawn - k) for k in range(hits, most + 1)
        )
        / ways
    )
