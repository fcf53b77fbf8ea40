"""What an evaluation is to use."""

from __future__ import annotations

from dataclasses import dataclass, field

from discover.ablation import Ablation
from discover.errors import SpecError
from discover.evaluation import hypotheses
from discover.evaluation.settings import Budget, Settings
from discover.sizes import parse_size


@dataclass(frozen=True)
class Request:
    """What an evaluation is to use instead of the run's own; None takes that.

    `prompts`: how many; `seed`: of the task's prompts (None: the run's and `SEED_STEP`);
    `prompts_file`: prompts of one's own; `same_prompts`: those of the search itself. `ablation`
    comes with `mean_by` and `reference` as in a `RunSpec`. `draw_seed` is that of every random
    choice.
    """

    metric: str | None = None
    ablation: str | None = None
    mean_by: str | None = None
    reference: int | str | None = None
    prompts: int | None = None
    seed: int | None = None
    prompts_file: str | None = None
    same_prompts: bool = False
    budget: Budget = field(default_factory=Budget)
    draw_seed: int = 0
    level: float = 0.95
    alpha: float = hypotheses.ALPHA
    quantile: float = hypotheses.QUANTILE
    epsilon: float = hypotheses.EPSILON
    device: str = "cpu"
    threads: int | None = None
    memory: str | None = None

    def __post_init__(self) -> None:
        chosen = [
            name
            for name, given in (
                ("--same-prompts", self.same_prompts),
                ("--prompts-file", self.prompts_file is not None),
                ("--seed", self.seed is not None),
            )
            if given
        ]
        if len(chosen) > 1:
            raise SpecError(f"{' and '.join(chosen)} name different prompts; give one of them")
        if self.same_prompts and self.prompts is not None:
            raise SpecError("--same-prompts takes all prompts of the search; drop --prompts")
        if self.prompts is not None and self.prompts < 1:
            raise SpecError(f"the number of prompts must be at least 1, got {self.prompts}")
        if self.memory is not None:
            parse_size(self.memory)
        # What cannot be evaluated with is refused before a model is loaded.
        self.settings("kl", "resample")

    def settings(self, metric: str, ablation: str | Ablation) -> Settings:
        """What decides the figures, for this metric and ablation.

        Raises:
            SpecError: a level or share is not between 0 and 1.
        """
        return Settings(
            metric, ablation, self.budget, self.draw_seed, self.level, self.alpha, self.quantile,
            self.epsilon,
        )  # fmt: skip
