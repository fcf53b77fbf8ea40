"""What a removed edge carries."""

import pytest
import torch

from discover.ablation import ablated_outputs
from discover.errors import SpecError


def test_resample_carries_the_corrupted_value_and_zero_nothing():
    corrupted = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ablated_outputs("resample", corrupted), corrupted)
    zero = ablated_outputs("zero", corrupted)
    assert zero.shape == corrupted.shape
    assert not zero.any()


def test_unknown_ablation_is_refused():
    with pytest.raises(SpecError, match="unknown ablation 'mean'"):
        ablated_outputs("mean", torch.zeros(1, 1, 1, 1))
