"""Models behind TransformerBridge: architecture facts, guards, hooked forwards.

The only module that imports transformer_lens.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import (
    BlockBridge,
    MoEBridge,
    ParallelBlockBridge,
)
from transformer_lens.model_bridge.sources import build_bridge_from_module

from discover.anatomy import Anatomy
from discover.catalogue import ASSETS
from discover.errors import ModelError, PromptError
from discover.graph import ComputationalGraph
from discover.loading import load_source, quiet
from discover.prompts import PaddedPrompts, PromptPairs, Tokenizer
from discover.tolerance import LOADED

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}

Hook = Callable[[Tensor], Tensor | None]
"""Sees an activation; returns its replacement, or None to leave it."""

PROBE = 8
"""How many tokens a model is tried on when it is loaded."""

_SPLIT = ("hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")
"""Ends of the names of hook points that only a forward with split inputs passes."""

_CANNOT = (ValueError, LookupError, AttributeError, TypeError, RuntimeError)
"""What models and bridges raise when they are built or run as they cannot be."""

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
        self.graph = _graph_of(name, self.bridge)
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
        except _CANNOT as error:
            raise ModelError(
                f"{self.name} is not supported: it does not run in {self.dtype} "
                f"({_first_line(error)})"
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
            gap = _gap(start + written, shown(layer, "hook_out"))
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
        return _precision_of(self.torch_dtype)


def _precision_of(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    return StayDouble() if dtype is torch.float64 else contextlib.nullcontext()


class StayDouble(TorchFunctionMode):
    """Keeps float64 computations in float64 where a model's code drops to float32.

    Llama-style norms and attention compute their squares and softmax in float32 by explicit cast;
    in a float64 model that would leave float32 noise in the "exact" answer.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        subject = args[0] if args else None
        if isinstance(subject, Tensor) and subject.dtype == torch.float64:
            if func is Tensor.float:
                return subject
            if func in (Tensor.to, Tensor.type):
                args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        elif func is torch.full and len(args) > 1 and args[1] == torch.finfo(torch.float64).min:
            # As masks use it; the default dtype has no such number.
            kwargs.setdefault("dtype", torch.float64)
        return func(*args, **kwargs)


def _adapt(name: str, hook: Hook, silent: set[str]) -> Callable[..., Tensor | None]:
    def run(value: Tensor, hook: Any, call: Hook = hook) -> Tensor | None:  # noqa: ARG001
        silent.discard(name)
        return call(value)

    return run


def load_model(
    name: str, dtype: str = "float32", device: str = "cpu", allow_download: bool = True
) -> Model:
    """Load a model by name, directory or GGUF file; see `loading.load_source`.

    Raises:
        ModelError: it cannot be had, or its architecture has an obstruction (named).
    """
    if name.startswith("tracr-") and (ASSETS / name).is_dir():
        return _load_tracr(name, dtype, device)
    source = load_source(name, allow_download)
    return wrap_module(
        source.module, source.tokenizer, name=name, dtype=dtype, device=device, share=True
    )


def wrap_module(
    module: torch.nn.Module,
    tokenizer: Tokenizer | None = None,
    *,
    name: str = "module",
    dtype: str = "float32",
    device: str = "cpu",
    share: bool = False,
) -> Model:
    """Wrap a Hugging Face causal decoder; the module itself is left as it is.

    `share`: use the module's own tensors where their dtype is right, so that large weights are not
    there twice; then the module must not be changed afterwards.

    Raises:
        ModelError: the architecture has an obstruction, which is named.
    """
    config: Any = copy.deepcopy(module.config)
    _check_config(name, config)
    config._attn_implementation = "eager"
    architecture = type(module).__name__
    state = {key: value.detach() for key, value in module.state_dict().items()}
    kind: Any = type(module)
    own_dtype = next(module.parameters()).dtype

    def build(precision: torch.dtype) -> TransformerBridge:
        with quiet(), torch.random.fork_rng(devices=[]):
            fresh = kind(copy.deepcopy(config)).to(precision)
            fresh.load_state_dict(state, assign=share and own_dtype == precision)
            fresh.tie_weights()
            fresh.eval()
            own = _own_logits(fresh, precision)
            try:
                bridge = build_bridge_from_module(
                    fresh, architecture, hf_config=fresh.config, model_name=name
                )
            except _CANNOT as error:
                raise ModelError(
                    f"the architecture {architecture} of {name} is not supported: "
                    f"{_first_line(error)}"
                ) from error
        _check_logits(name, bridge, own)
        return bridge

    return Model(name, build, hash_weights(state), tokenizer, dtype=dtype, device=device)


def native_model(
    name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str = "float32",
    device: str = "cpu",
) -> Model:
    """A model of TransformerLens's own kind: attention-only, bidirectional, without norms, ...

    `config` is what its `boot_native` takes, `weights` the bridge's `state_dict` (float32 or
    better).

    Raises:
        ModelError: config and weights do not make a model.
    """
    # Only a seeded start leaves the global random state alone; every weight is loaded anyway.
    settings = {**config, "init_weights": True, "seed": 0}
    weights = dict(weights)

    def build(precision: torch.dtype) -> TransformerBridge:
        try:
            with quiet():
                bridge = TransformerBridge.boot_native(dict(settings), dtype=precision)
            bridge.load_state_dict({key: value.to(precision) for key, value in weights.items()})
        except _CANNOT as error:
            raise ModelError(f"{name} cannot be built: {_first_line(error)}") from error
        return bridge

    return Model(name, build, hash_weights(weights), tokenizer, dtype=dtype, device=device)


def _load_tracr(name: str, dtype: str, device: str) -> Model:
    from discover.tracr import read_tracr

    compiled = read_tracr(name)
    return native_model(
        name,
        compiled.bridge_config(),
        compiled.weights,
        compiled.tokenizer,
        dtype=dtype,
        device=device,
    )


def probe_tokens(cfg: Any) -> Int[Tensor, "1 pos"]:
    """The tokens that a model is tried on when it is loaded."""
    vocabulary = int(getattr(cfg, "d_vocab", None) or cfg.vocab_size)
    longest = getattr(cfg, "n_ctx", None) or getattr(cfg, "max_position_embeddings", None)
    return torch.arange(min(PROBE, vocabulary, int(longest or PROBE)))[None]


@torch.no_grad()
def _own_logits(module: Any, precision: torch.dtype) -> Tensor | None:
    """A Hugging Face model's logits of the probe; None if it does not run like this."""
    try:
        with _precision_of(precision):
            logits: Tensor = module(probe_tokens(module.config)).logits
    except _CANNOT:
        return None  # `Model` says what is wrong with it.
    return logits


@torch.no_grad()
def _check_logits(name: str, bridge: TransformerBridge, own: Tensor | None) -> None:
    """Refuse a bridge that does not compute what the module in it computed before."""
    if own is None:
        return
    with _precision_of(own.dtype):
        gap = _gap(bridge(probe_tokens(bridge.original_model.config)), own)
    if not gap <= LOADED[str(own.dtype).removeprefix("torch.")]:
        raise ModelError(
            f"{name} is not supported: behind TransformerLens's bridge it does not give its own "
            f"logits (relative difference {gap:.1e}); some setting of its config is ignored there"
        )


def _gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        if value.is_floating_point():
            value = value.float()
        digest.update(f"{key} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().reshape(-1).data)
    return digest.hexdigest()


_ALIBI = "{name} is not supported: it adds a position bias to attention scores (ALiBi)"


def _check_config(name: str, config: Any) -> None:
    """Refuse what can be told from the config alone."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder; only decoders with one residual stream work"
        )
    if getattr(config, "do_layer_norm_before", True) is False:
        raise ModelError(f"{name} has post-norm blocks: what a head writes is normalised again")
    if getattr(config, "alibi", False) is True:
        raise ModelError(_ALIBI.format(name=name))
    multiplier = float(getattr(config, "residual_multiplier", None) or 1.0)
    if multiplier != 1:
        raise ModelError(
            f"{name} is not supported: it scales what heads and MLPs write by its "
            f"residual_multiplier {multiplier:g}, so that head outputs do not simply add"
        )


def _graph_of(name: str, bridge: TransformerBridge) -> ComputationalGraph:
    """The computational graph of a bridge, or the obstruction to having one."""
    if not hasattr(bridge, "blocks"):
        raise ModelError(f"{name} has no stack of blocks; only decoder-only transformers work")
    parts = [set(block.submodules) for block in bridge.blocks]
    for layer, block in enumerate(bridge.blocks):
        if obstruction := next(_obstructions(block, parts[layer]), None):
            raise ModelError(f"{name} is not supported: layer {layer} {obstruction}")
    with_mlp = {"mlp" in part for part in parts}
    if len(with_mlp) != 1:
        raise ModelError(f"{name} is not supported: only some of its layers have an MLP")
    cfg = bridge.cfg
    if cfg.positional_embedding_type == "alibi":
        raise ModelError(_ALIBI.format(name=name))
    parallel = {isinstance(block, ParallelBlockBridge) for block in bridge.blocks}
    if len(parallel) != 1:
        raise ModelError(f"{name} is not supported: only some of its blocks are parallel")
    heads = int(cfg.n_heads)
    return ComputationalGraph(
        n_layers=len(parts),
        n_heads=heads,
        n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or heads),
        parallel=parallel.pop(),
        mlp=with_mlp.pop(),
    )


def _obstructions(block: Any, parts: set[str]) -> Iterator[str]:
    if not isinstance(block, BlockBridge):
        yield f"is a {type(block).__name__}, not attention and MLP on one residual stream"
    if "attn" not in parts:
        yield "has no attention"
    if post := {"ln1_post", "ln2_post"} & parts:
        yield f"has post-norm blocks ({', '.join(sorted(post))}): head outputs do not simply add"
    if extra := parts - {"ln1", "ln2", "attn", "mlp"}:
        yield f"has parts that the graph has no node for: {', '.join(sorted(extra))}"
    if "mlp" in parts and isinstance(block.mlp, MoEBridge):
        yield "is a mixture of experts, which the graph has no node for"
    if missing := {"q", "k", "v", "o"} - set(block.attn.submodules):
        yield f"does not show its {', '.join(sorted(missing))} projections"


def logits_at(
    logits: Float[Tensor, "batch pos d_vocab"], answers: Sequence[Sequence[bool]] | Any
) -> Float[Tensor, "answer d_vocab"]:
    """Logits at the answer positions, prompt by prompt in ascending position."""
    mask = torch.as_tensor(answers, device=logits.device)
    return logits[mask]
