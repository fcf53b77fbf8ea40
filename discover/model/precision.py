"""Dtypes that a model can be had in, and what keeps float64 from dropping to float32."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def precision_of(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """What a computation in a dtype has to run under to stay in it."""
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
