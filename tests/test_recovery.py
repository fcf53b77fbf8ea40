"""Ground truth: ACDC recovers the edges that Tracr compiled, through the same path as any model."""

from __future__ import annotations

import pytest

from discover.acdc import circuit_of
from discover.run import run
from discover.spec import RunSpec
from discover.store import Store
from discover.tracr import read_tracr

REVERSE = {"embed->a3.h0.v", "a3.h0->logits"}
XPROPORTION = {"embed->m0.in", "m0->a1.h0.v", "a1.h0->logits"}

# model, task, ablation, tau (squared L2 on outputs), length of the prompts
CASES = {
    "reverse, zero": ("reverse", "zero", 0.7, 5, REVERSE),
    "reverse, zero, short prompts": ("reverse", "zero", 0.7, 3, REVERSE),
    "reverse, resample": ("reverse", "resample", 0.01, 5, REVERSE),
    "x-proportion, zero": ("xproportion", "zero", 0.08, 5, XPROPORTION),
    "x-proportion, resample": ("xproportion", "resample", 0.01, 5, XPROPORTION),
}


def search(tmp_path, program, ablation, tau, length, seed):
    spec = RunSpec(
        model=f"tracr-{program}",
        task=program,
        prompts=20,
        seed=seed,
        metric="l2",
        ablation=ablation,
        tau=tau,
        task_options={"length": length},
    )
    with Store.open(str(tmp_path / "runs.db")) as store:
        record = run(spec, store)
        circuit = circuit_of(record.graph, store.decisions(record.id))
    return {edge.name for edge in circuit.edges}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_recovers_exactly_the_compiled_edges(tmp_path, case, seed):
    program, ablation, tau, length, edges = CASES[case]
    assert search(tmp_path, program, ablation, tau, length, seed) == edges


@pytest.mark.parametrize(("program", "length"), [("reverse", 3), ("xproportion", 4)])
def test_at_a_small_tau_zero_ablation_finds_all_that_the_program_uses(tmp_path, program, length):
    """Where it does not: zero ablation breaks what merely steers attention, so those edges stay."""
    compiled = read_tracr(f"tracr-{program}")
    found = search(tmp_path, program, "zero", 0.01, length, seed=0)
    assert found == set(compiled.zero_edges)
    assert found > set(compiled.resample_edges)
    assert found <= set(compiled.compiled_edges)


@pytest.mark.parametrize(("program", "tau"), [("reverse", 1.5), ("xproportion", 0.5)])
def test_at_a_large_tau_nothing_is_left(tmp_path, program, tau):
    assert search(tmp_path, program, "zero", tau, 5, seed=0) == set()
