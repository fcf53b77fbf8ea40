"""A model behind TransformerBridge: its computational graph and hooked forwards."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from discover.anatomy import Anatomy
from discover.errors import ModelError, PromptError
from discover.loading import quiet
from discover.model.guards import CANNOT, first_line, graph_of, probe_tokens, relative_gap
from discover.model.precision import DTYPES, precision_of
from discover.prompts import PaddedPrompts, PromptPairs, Tokenizer
from discover.tolerance import LOADED

Hook = Callable[[Tensor], Tensor | None]
"""Sees an activation; returns its replacement, or None to leave it."""

_SPLIT = ("hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")
"""Ends of the names of hook points that only a forward with split inputs passes."""

NamedHook = tuple[str, Hook]
"""A hook and the name of its hook point; at one point hooks run in the order given."""


class Model(Anatomy):
    """One causal decoder, wrapped, in evaluation mode, with its computational graph.

    Attributes: `name`; `graph`; `tokenizer` (None if the model came without one); `weights_hash`
    (SHA-256 over parameter and buffer names, shapes and float32 values); `d_model`, `d_vocab`,
    `max_positions`; `device`, `dtype`; `splits_qkv` (whether the bridge gives every head its own
    q, k and v input).

    Raises:
        ModelError: the architecture has an obstruction, which is named.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[torch.dtype], TransformerBridge],
        weights_hash: str,
        tokenizer: Tokenizer | None = None,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.name, self.tokenizer, self.weights_hash = name, tokenizer, weights_hash
        self.dtype, self.device = dtype, device
        self._build = build
        self.bridge = build(DTYPES[dtype])
        if device != "cpu":
            self.bridge.to(device, print_details=False)
        self.bridge.eval()
        for parameter in self.bridge.parameters():
            parameter.requires_grad_(False)
        self.graph = graph_of(name, self.bridge)
        cfg = self.bridge.cfg
        self.d_model = int(cfg.d_model)
        self.d_head = int(cfg.d_head)
        self.d_vocab = int(getattr(cfg, "d_vocab_out", None) or cfg.d_vocab)
        if self.d_vocab < 1:
            self.d_vocab = int(cfg.d_vocab)
        self.d_vocab_in = int(cfg.d_vocab)
        self.max_positions = int(cfg.n_ctx)
        self._split = self.splits_qkv = False
        self.rotated_layers = self._check_blocks()
        self.splits_qkv = self._enable_split()

    def _probe(self, names: Iterable[str]) -> dict[str, Tensor]:
        """What passes these hook points on a few tokens; points that nothing passes are left out.

        Raises:
            ModelError: the model does not run.
        """
        seen: dict[str, Tensor] = {}
        hooks: list[NamedHook] = [
            (name, functools.partial(seen.__setitem__, name))
            for name in names
            if name in self.bridge.hook_dict
        ]
        try:
            self._run(probe_tokens(self.bridge.cfg), None, hooks)
        except CANNOT as error:
            raise ModelError(
                f"{self.name} is not supported: it does not run in {self.dtype} "
                f"({first_line(error)})"
            ) from error
        return seen

    def _check_blocks(self) -> frozenset[int]:
        """Refuse blocks that read or write the residual stream otherwise than the graph says.

        Returns the layers whose attention shows the angles by which it rotates q and k.
        """
        parts = ["attn.o", "mlp"] if self.graph.mlp else ["attn.o"]
        layers = range(self.graph.n_layers)
        points = ["hook_in", "hook_out", "ln1.hook_in", *(f"{part}.hook_out" for part in parts)]
        points.append("attn.hook_cos")
        seen = self._probe(f"blocks.{layer}.{point}" for layer in layers for point in points)

        def shown(layer: int, point: str) -> Tensor:
            if (name := f"blocks.{layer}.{point}") not in seen:
                raise ModelError(f"{self.name} is not supported: nothing passes its point {name}")
            return seen[name]

        for layer in layers:
            start = shown(layer, "hook_in")
            if not torch.equal(seen.get(f"blocks.{layer}.ln1.hook_in", start), start):
                raise ModelError(
                    f"{self.name} is not supported: it has post-norm blocks, whose attention reads "
                    f"the residual stream of layer {layer} before it is normalised"
                )
            written = sum(shown(layer, f"{part}.hook_out") for part in parts)
            gap = relative_gap(start + written, shown(layer, "hook_out"))
            if not gap <= LOADED[self.dtype]:
                raise ModelError(
                    f"{self.name} is not supported: what layer {layer} adds to the residual stream "
                    "is not just what its heads and its MLP put out"
                )
        return frozenset(at for at in layers if f"blocks.{at}.attn.hook_cos" in seen)

    def _enable_split(self) -> bool:
        try:
            self._set_split(True)
        except NotImplementedError:
            return False
        kinds = [f"attn.hook_{kind}_input" for kind in "qkv"] + ["hook_mlp_in"] * self.graph.mlp
        points = [f"blocks.{at}.{kind}" for at in range(self.graph.n_layers) for kind in kinds]
        # Blocks with one norm for attention and MLP (Phi, Falcon, Cohere) do not pass them all.
        splits = set(points) <= self._probe(points).keys()
        self._set_split(False)
        return splits

    def _set_split(self, on: bool) -> None:
        """Give every head its own inputs, or not; a forward that does costs half as much again."""
        if on == self._split:
            return
        with quiet():
            self.bridge.set_use_split_qkv_input(on)
            if self.graph.mlp:
                self.bridge.set_use_hook_mlp_in(on)
        self._split = on

    @property
    def n_parameters(self) -> int:
        """How many parameters the model has."""
        return sum(parameter.numel() for parameter in self.bridge.parameters())

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of weights and activations."""
        return DTYPES[self.dtype]

    def double(self) -> Model:
        """The same weights in float64, as a model of its own."""
        return Model(
            self.name,
            self._build,
            self.weights_hash,
            self.tokenizer,
            dtype="float64",
            device=self.device,
        )

    def check_prompts(self, prompts: PromptPairs) -> None:
        """Raise PromptError if a prompt is too long or holds a token that the model lacks."""
        for number, pair in enumerate(prompts, 1):
            if len(pair.clean) > self.max_positions:
                raise PromptError(
                    f"prompt {number} has {len(pair.clean)} tokens, {self.name} takes at most "
                    f"{self.max_positions}"
                )
            for what, ids, limit in (
                ("prompt", pair.clean + pair.corrupted, self.d_vocab_in),
                ("answer", pair.correct + pair.incorrect, self.d_vocab),
            ):
                if strangers := [i for i in ids if not 0 <= i < limit]:
                    raise PromptError(
                        f"{what} {number} has token {strangers[0]}, but {self.name} has "
                        f"{limit} tokens"
                    )

    def forward(
        self,
        tokens: Tensor,
        padded: PaddedPrompts | None = None,
        hooks: Sequence[NamedHook] = (),
        *,
        gradients: bool = False,
        start: tuple[int, Float[Tensor, "batch pos d_model"]] | None = None,
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Logits of tokens Int[batch, pos], with hooks by hook-point name.

        Hooks are removed again whatever happens. Gradients are off unless asked for; weights never
        want any, so a hook must give a tensor that does. `start`: a layer and the residual stream
        that enters it; the layers before it are not computed (`n_layers`: none is).

        Raises:
            ModelError: a hook did not fire (so that nothing is ever silently not done).
        """
        with self._starting_at(start):
            logits, silent = self._run(tokens, padded, hooks, gradients)
        if silent:
            raise ModelError(
                f"hook point(s) {', '.join(sorted(silent))} of {self.name} did not fire; this "
                "architecture does not pass through them"
            )
        return logits

    def _run(
        self,
        tokens: Tensor,
        padded: PaddedPrompts | None,
        hooks: Sequence[NamedHook],
        gradients: bool = False,
    ) -> tuple[Tensor, set[str]]:
        """Logits, and the names of hooks that did not fire."""
        silent = {name for name, _ in hooks}
        if self.splits_qkv:
            self._set_split(any(name.endswith(_SPLIT) for name in silent))
        points = [(name, _adapt(name, hook, silent)) for name, hook in hooks]
        mode = torch.set_grad_enabled(gradients)
        with mode, self._precision(), self._hooked(points):
            logits: Tensor = self.bridge(tokens.to(self.device), **self._padding(padded))
        return logits, silent

    @contextlib.contextmanager
    def _starting_at(self, start: tuple[int, Tensor] | None) -> Iterator[None]:
        """Replace the blocks below a layer by ones that hand on what is to enter that layer."""
        layer, stream = start or (0, None)
        if not 0 <= layer <= self.graph.n_layers:
            raise ModelError(f"{self.name} has no layer {layer} to start at")
        if stream is None:
            yield
            return
        if layer == 0:
            # Nothing to leave out: the stream replaces what the embedding gives.
            with self._hooked([("blocks.0.hook_in", _adapt("", lambda _: stream, set()))]):
                yield
            return

        handed_on = (stream,) if self._blocks_give_tuples else stream

        def hand_on(*_args: Any, **_kwargs: Any) -> Any:
            return handed_on

        skipped = [self.bridge.blocks[at] for at in range(layer)]
        try:
            for block in skipped:
                # The bridge's own `__setattr__` would pass this on to the wrapped module.
                block.__dict__["forward"] = hand_on
            yield
        finally:
            for block in skipped:
                block.__dict__.pop("forward", None)

    @functools.cached_property
    def d_mlp(self) -> int:
        """How many neurons an MLP has; 0 if there are none.

        Raises:
            ModelError: layers differ in that.
        """
        if not self.graph.mlp:
            return 0
        points = [f"blocks.{at}.mlp.out.hook_in" for at in range(self.graph.n_layers)]
        sizes = {value.shape[-1] for value in self._probe(points).values()}
        if len(sizes) != 1:
            raise ModelError(f"the MLPs of {self.name} do not have equally many neurons each")
        return int(sizes.pop())

    def check_point(self, point: str, layer: int) -> None:
        """Raise ModelError unless changing what passes a point of a block changes the logits.

        Some bridges show activations (attention scores, say) that the model has already used.
        """
        if point in self._working_points:
            return
        name = f"blocks.{layer}.{point}"
        noise = torch.Generator(device="cpu").manual_seed(0)

        def disturb(value: Tensor) -> Tensor:
            added = torch.randn(value.shape, generator=noise, dtype=torch.float64)
            return value + added.to(value) * value.abs().clamp(max=1e3).mean().clamp(min=1e-3)

        tokens = probe_tokens(self.bridge.cfg)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The bridge warns of just what is found out here.
            changed = self.forward(tokens, None, [(name, disturb)])
        if torch.equal(self.forward(tokens), changed):
            raise ModelError(
                f"{name} of {self.name} shows its activation, but changing it there has no effect "
                "on the logits, so it cannot be patched"
            )
        self._working_points.add(point)

    @functools.cached_property
    def _working_points(self) -> set[str]:
        return set()

    @functools.cached_property
    def _blocks_give_tuples(self) -> bool:
        """Whether a block returns its stream alone or in a tuple."""
        given: list[bool] = []
        handle = self.bridge.blocks[0].register_forward_hook(
            lambda _block, _inputs, output: given.append(isinstance(output, tuple))
        )
        try:
            self._run(probe_tokens(self.bridge.cfg), None, ())
        finally:
            handle.remove()
        return given[0]

    @contextlib.contextmanager
    def _hooked(self, points: list[tuple[str, Callable[..., Tensor | None]]]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.bridge.hooks(fwd_hooks=points))
            except (KeyError, ValueError, AttributeError) as error:
                reason = str(error).splitlines()[0]
                raise ModelError(f"{self.name} has no such hook point: {reason}") from error
            yield

    def _padding(self, padded: PaddedPrompts | None) -> dict[str, Tensor]:
        if padded is None or padded.attention.all():
            return {}
        mask = torch.as_tensor(padded.attention, device=self.device).long()
        positions = torch.as_tensor(padded.position_ids, device=self.device)
        return {"attention_mask": mask, "position_ids": positions}

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return precision_of(self.torch_dtype)


def _adapt(name: str, hook: Hook, silent: set[str]) -> Callable[..., Tensor | None]:
    def run(value: Tensor, hook: Any, call: Hook = hook) -> Tensor | None:  # noqa: ARG001
        silent.discard(name)
        return call(value)

    return run


def logits_at(
    logits: Float[Tensor, "batch pos d_vocab"], answers: Sequence[Sequence[bool]] | Any
) -> Float[Tensor, "answer d_vocab"]:
    """Logits at the answer positions, prompt by prompt in ascending position."""
    mask = torch.as_tensor(answers, device=logits.device)
    return logits[mask]
