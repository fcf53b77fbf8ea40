"""What searches share: settings refused before anything is loaded, and numerics held throughout."""

from __future__ import annotations

import pytest
import torch

from discover.costs import Counting
from discover.errors import SpecError
from discover.model import load_model
from discover.run import run
from discover.session import How, check_how, numerics
from discover.spec import RunSpec
from discover.store import Store


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("mps", "'mps' cannot be used: it has no float64.*use cpu or cuda"),
        ("mps:0", "it has no float64"),
        ("cuda:99", "'cuda:99' cannot be used"),
        ("toaster", "'toaster' cannot be used"),
        ("meta", "'meta' cannot be used"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(device, says):
    with pytest.raises(SpecError, match=says) as caught:
        check_how("exact", How(device=device), "kl")
    assert "\n" not in str(caught.value)


def test_the_cpu_can_be_used():
    check_how("exact", How(), "kl")


def settings():
    return torch.get_num_threads(), torch.get_float32_matmul_precision()


@pytest.fixture
def coarse():
    """Two threads and TF32 allowed, as a program that calls this one may have set them."""
    before = settings()
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("high")
    yield 2, "high"
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize("ends_in", [None, ValueError, KeyboardInterrupt])
def test_a_search_has_full_float32_products_and_leaves_settings_as_found(
    coarse, tmp_path, monkeypatch, ends_in
):
    original, seen = Counting.damages, set()

    def watch(self, *args, **kwargs):
        seen.add(settings())
        if ends_in is not None:
            raise ends_in("stop")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Counting, "damages", watch)
    spec = RunSpec(model="tracr-xproportion", task="xproportion", prompts=2, metric="l2", tau=0.01)
    with Store.open(str(tmp_path / "runs.db")) as store:
        if ends_in is None:
            run(spec, store)
        else:
            with pytest.raises(ends_in, match="stop"):
                run(spec, store)
    assert seen == {(1, "highest")}
    assert settings() == coarse


@pytest.mark.parametrize(("how", "threads"), [(How(), 2), (How(threads=1), 1)])
def test_large_models_keep_torchs_threads_unless_told_otherwise(coarse, monkeypatch, how, threads):
    model = load_model("tracr-xproportion")
    monkeypatch.setattr("discover.session.SMALL_MODEL", 0)
    with numerics(how, model):
        assert settings() == (threads, "highest")
    assert settings() == coarse
