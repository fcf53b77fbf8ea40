"""Name movers, negative name movers and S-inhibition heads, found by path patching."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from common import Experiment, Head, head_at, named, nodes_of, ranked

from discover.labelled import LabelledArray
from discover.patching.nodes import IterNode, Node, PatchingMetric, noising, path_patch

HOW_MANY = {"name movers": 3, "negative": 2, "s-inhibition": 4}
"""As many as Wang et al. (arXiv 2211.00593) name for GPT-2 small; their other classes aside."""

LEAST = 0.1
"""A head with less than this share of the strongest head's effect is not counted among them."""


@dataclass
class Heads:
    """The heads of the IOI circuit's upper classes; what the options name is not searched for."""

    experiment: Experiment

    @cached_property
    def metric(self) -> PatchingMetric:
        """0 = unharmed, -1 = as the corrupted run."""
        return noising(self.experiment.model, self.experiment.prompts)

    @property
    def final(self) -> Node:
        """The final residual stream."""
        return Node("resid_post", self.experiment.model.graph.n_layers - 1)

    def patched(self, senders: Any, receivers: Any, *, mlps: bool = True) -> Any:
        """The clean run with direct paths from senders to receivers from the corrupted run."""
        run = self.experiment
        return path_patch(
            run.model,
            run.clean,
            run.corrupted,
            senders,
            receivers,
            self.metric,
            direct_includes_mlps=mlps,
        )

    def every_head(self, receivers: Node | list[Node], *, mlps: bool = True) -> LabelledArray:
        """The same for each head's output in turn."""
        found: LabelledArray = self.patched(IterNode("z"), receivers, mlps=mlps)["z"]
        return found

    @cached_property
    def to_logits(self) -> LabelledArray:
        """Every head to the final residual stream, through MLPs."""
        return self.every_head(self.final)

    @cached_property
    def to_name_movers(self) -> LabelledArray:
        """Every head to the name movers' q, through MLPs."""
        return self.every_head(nodes_of(self.experiment.model, "q", self.name_movers))

    @cached_property
    def name_movers(self) -> list[Head]:
        """Heads whose loss on the way to the logits harms most, strongest first."""
        return self._chosen("name movers", "name_movers", "low")

    @cached_property
    def negative(self) -> list[Head]:
        """Heads whose loss on the way to the logits helps most."""
        return self._chosen("negative", "negative", "high")

    @cached_property
    def s_inhibition(self) -> list[Head]:
        """Heads whose loss on the way to the name movers' q harms most."""
        return self._chosen("s-inhibition", "s_inhibition", "low")

    def _chosen(self, what: str, option: str, by: Literal["low", "high"]) -> list[Head]:
        if given := getattr(self.experiment.options, option):
            print(f"  {what}, as given: {named(given)}")
            return list(given)
        array = self.to_name_movers if option == "s_inhibition" else self.to_logits
        sign = -1 if by == "low" else 1
        items = array.top(HOW_MANY[what], by=by)
        # Harm must be harm: a head that helps is no name mover, however few there are.
        least = max(LEAST * sign * items[0].value, 0.0)
        wanted = [item for item in items if sign * item.value > least]
        if not wanted:
            raise SystemExit(f"no head of {self.experiment.model.name} is a {what} head here")
        ranked(f"{what} heads, found", wanted)
        return [head_at(item) for item in wanted]
