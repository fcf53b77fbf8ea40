"""A model and prompts made ready to search, with all that several searches on them share."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from discover.ablation import Ablation
from discover.acdc import Speculation
from discover.attribution import attribute, draft_of, usual_chunk
from discover.capability import capability
from discover.errors import MismatchError, PromptError, SpecError
from discover.graph import Edge
from discover.methods import FLAT, check_method
from discover.metrics import MEASURES, check_outputs
from discover.model import Model, load_model
from discover.order import Order
from discover.patching.exact import ExactPatcher
from discover.patching.memory import make_plan
from discover.patching.reference import ReferencePatcher
from discover.patching.selfcheck import check_all
from discover.prompts import PromptPairs, Tokenizer, read_prompts
from discover.spec import ENGINES, RunSpec
from discover.storedfiles import path_of
from discover.tasks import build_prompts, check_options, get_task

SMALL_MODEL = 5_000_000
"""Models with fewer parameters are searched on one CPU thread unless told otherwise."""

BLOCK = 64
"""How many decisions are speculated on at once at most, unless told otherwise."""


REFERENCE_SEED = 1_000_003
"""What is added to a task's seed for the reference prompts of a mean, to get other ones."""


@dataclass(frozen=True)
class How:
    """What changes a run's cost and never its circuit.

    `threads`: CPU threads (None: one for a small model, torch's own number else). `block`: how many
    decisions are speculated on at once at most (None: 64). `draft`: edges guessed to be kept, all
    others to be removed (None: all removed), or the attribution method whose scores make the
    guesses. `memory`: bytes to work in, beside the weights (None: half of what is free). Only the
    exact engine speculates.
    """

    device: str = "cpu"
    threads: int | None = None
    block: int | None = None
    draft: Collection[Edge] | str | None = None
    memory: int | None = None


def check_device(device: str) -> None:
    """Raise SpecError if a device cannot hold a float64 number."""
    try:
        # Said of MPS wherever it is asked for: where there is none, torch's own reason would send
        # people to a machine that has one.
        if torch.device(device).type == "mps":
            raise SpecError(
                f"device {device!r} cannot be used: it has no float64, in which damages are summed "
                "and scores near tau are decided; use cpu or cuda"
            )
        float(torch.ones(1, dtype=torch.float64, device=device))
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"device {device!r} cannot be used: {reason}") from error


def check_how(engine: str, how: How, metric: str) -> None:
    """Raise SpecError if the engine or the device is none, or cannot be used like this."""
    check_device(how.device)
    if engine not in ENGINES:
        raise SpecError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    if engine == "reference" and (how.block is not None or how.draft is not None):
        raise SpecError(
            "the reference engine does not speculate; drop the block size and the draft"
        )
    if isinstance(how.draft, str):
        check_method(how.draft, metric)


class Session:
    """One model on one set of prompts under one metric and ablation, for searches at any tau.

    Attributes: `spec`, with model and prompts pinned; `oracle`, the plain patcher that checks
    before and after a search; `patcher`, what searches; `prompts`.

    Raises:
        InputError: the model, the task or the prompts cannot be had, or do not fit together.
    """

    def __init__(
        self, spec: RunSpec, model: Model, prompts: PromptPairs, engine: str, how: How
    ) -> None:
        check_how(engine, how, spec.metric)
        check_outputs(spec.metric, spec.model, model.tokenizer)
        self.spec, self.model, self.prompts = spec, model, prompts
        self.engine, self.how = engine, how
        scored = spec.order == "attribution" or isinstance(how.draft, str)
        plan = make_plan(model, prompts, how.memory, gradients=scored)
        self._chunk = plan.chunk
        self.ablation = ablation_of(spec, model)
        self.oracle = ReferencePatcher(
            model, prompts, spec.metric, self.ablation, chunk=self._chunk
        )
        self.patcher: ReferencePatcher | ExactPatcher = self.oracle
        if engine == "exact":
            self.patcher = ExactPatcher(
                model, prompts, spec.metric, self.ablation, memory=plan.memory
            )
        self._check: dict[str, float] | None = None
        self._order: Order | None = None

    def check(self) -> dict[str, float]:
        """The self-check's figures; it is made once for all searches of a session.

        Raises:
            SelfCheckError: the model does not compute what its graph says.
        """
        if self._check is None:
            self._check = check_all(self.oracle.runners, self.ablation).record()
        return self._check

    def doubt(self) -> str | None:
        """Why the model seems not to do the task, by the runs at hand; None where it may.

        See `capability` for the criterion. Only resample ablation takes a prompt's corrupted twin
        for what it is; under mean and zero nothing is demanded of it.
        """
        metric = self.spec.metric if self.spec.task is None else get_task(self.spec.task).metric
        compare = self.spec.ablation == "resample"
        runs = [
            (runner.full_logits, runner.corrupted_logits if compare else None, runner.prompts)
            for runner in self.oracle.runners
        ]
        # One draw: only means are looked at here.
        found = capability(runs, metric if metric in MEASURES else None, self.prompts, draws=1)
        return found.warning if found.verdict == "no" else None

    def speculation(self, tau: float, draft: Collection[Edge] | None = None) -> Speculation:
        """How the search at tau guesses its decisions: by the draft, else as `how` says.

        Raises:
            SpecError: the draft is of another graph, or its method cannot be used here.
        """
        if isinstance(self.patcher, ReferencePatcher):
            # One forward a variant: to speculate could only waste.
            return Speculation(largest=1)
        largest = BLOCK if self.how.block is None else self.how.block
        guesses = self.draft(tau) if draft is None else frozenset(draft)
        return Speculation(guesses, largest, self.patcher.block_limit)

    def draft(self, tau: float) -> frozenset[Edge]:
        """The edges guessed to be kept at tau."""
        draft = self.how.draft
        if isinstance(draft, str):
            return draft_of(self.model.graph.edges, self._scores(self.model, draft), tau)
        edges = frozenset(draft or ())
        if strangers := edges - self.model.graph.edge_set:
            raise SpecError(
                f"the draft has edges that {self.spec.model} does not have, such as "
                f"{min(edge.name for edge in strangers)}; draft from a run on the same kind of "
                "model"
            )
        return edges

    def order(self) -> Order:
        """The order of the edges; the scores of `attribution` are made once, in float64."""
        if self._order is None:
            graph, scores = self.model.graph, None
            if self.spec.order == "attribution":
                # In float64, so that the order is the same on every machine.
                method = "eap-ig" if self.spec.metric in FLAT else "eap"
                found = self._scores(self.model.double(), method)
                scores = dict(zip(graph.edges, found.tolist(), strict=True))
            self._order = Order(graph, self.spec.order, scores)
        return self._order

    def _scores(self, model: Model, method: str) -> Float[np.ndarray, " edge"]:
        # No more prompts at a time than the search itself may take.
        chunk = min(self._chunk, usual_chunk(model, self.prompts))
        return attribute(
            model, self.prompts, self.spec.metric, self.ablation, method=method, chunk=chunk
        )


def ablation_of(spec: RunSpec, model: Model) -> Ablation:
    """The ablation that a spec describes, with the prompts that a mean is over.

    Raises:
        InputError: those prompts cannot be had.
    """
    return Ablation(spec.ablation, spec.mean_by, _reference(spec, model))


def _reference(spec: RunSpec, model: Model) -> PromptPairs | None:
    if spec.reference is None:
        return None
    if isinstance(spec.reference, str):
        named = replace(spec, task=None, task_options={}, prompts_file=spec.reference, prompts=None)
    else:
        named = replace(spec, seed=spec.seed + REFERENCE_SEED, prompts=spec.reference)
    found = prompts_of(named, model)
    now = hash_for(spec, found)
    if spec.reference_hash and now != spec.reference_hash:
        raise MismatchError(
            f"the reference prompts of {spec.reference} are not those that the run was started "
            f"with (sha256 {spec.reference_hash[:12]} then, {now[:12]} now); restore them, "
            "or start a new run"
        )
    return found


def prepare(spec: RunSpec, device: str = "cpu") -> tuple[RunSpec, Model, PromptPairs]:
    """Load the model, make the prompts, and pin both in the spec.

    Raises:
        InputError: the model, the task or the prompts cannot be had.
    """
    if spec.task is not None:
        check_options(get_task(spec.task), spec.task_options)
    model = load_model(spec.model, spec.dtype, device)
    prompts = prompts_of(spec, model)
    model.check_prompts(prompts)
    reference = _reference(spec, model)
    pinned = spec.pinned(
        weights_hash=model.weights_hash,
        prompts_hash=hash_for(spec, prompts),
        prompts=len(prompts),
        reference_hash="" if reference is None else hash_for(spec, reference),
    )
    return pinned, model, prompts


def hash_for(spec: RunSpec, prompts: PromptPairs) -> str:
    """SHA-256 of what decides a circuit in prompts: the roles too, where means go by them."""
    return prompts.hash_with_roles if spec.mean_by == "role" else prompts.hash


def prompts_of(spec: RunSpec, model: Model) -> PromptPairs:
    """The prompts that a spec names, in the model's tokens.

    Raises:
        InputError: they cannot be had, or there are fewer than were asked for.
    """
    if model.tokenizer is None:
        raise PromptError(f"{spec.model} came without a tokenizer; put its files beside it")
    if spec.task is not None:
        return build_prompts(
            spec.task,
            model.tokenizer,
            spec.prompts,
            spec.seed,
            bos=spec.bos,
            options=spec.task_options,
        )
    pairs = _read(spec.prompts_file or "", model.tokenizer, spec.bos)
    if spec.prompts is None:
        return pairs
    if len(pairs) < spec.prompts:
        raise PromptError(
            f"{spec.prompts_file} has {len(pairs)} prompts, {spec.prompts} were asked for"
        )
    first: PromptPairs = pairs[: spec.prompts]
    return first


def _read(name: str, tokenizer: Tokenizer, bos: bool) -> PromptPairs:
    """The pairs of a prompts file; errors call a stored one by its name, not by where it lies."""
    path = path_of(name)
    try:
        return read_prompts(path, tokenizer, bos)
    except PromptError as error:
        raise PromptError(str(error).replace(str(path), name)) from error


@contextlib.contextmanager
def numerics(how: How, model: Model) -> Iterator[None]:
    """The number of CPU threads and full float32 products for a search, put back afterwards.

    Threads that wait for each other cost a small model more than they bring, and on a machine that
    is busy with something else fifty times more. TF32 would cost three digits of every score.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    small = model.n_parameters < SMALL_MODEL
    torch.set_num_threads(how.threads or (1 if small else threads))
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
