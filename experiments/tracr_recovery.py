"""Regenerate the Tracr table of docs/ground-truth.md: `python experiments/tracr_recovery.py`."""

from __future__ import annotations

from discover.acdc import circuit_of, search
from discover.model import load_model
from discover.patching.reference import ReferencePatcher
from discover.tasks import build_prompts
from discover.tracr import read_tracr

TAUS = (1e-6, 1e-3, 0.01, 0.03, 0.08, 0.15, 0.3, 0.5, 0.7, 0.9)
LENGTH = 5


def main() -> None:
    """Search both programs under both ablations at every tau and print which edges survive."""
    print(f"| program | ablation | {' | '.join(f'{tau:g}' for tau in TAUS)} |")
    print("|---" * (2 + len(TAUS)) + "|")
    for program in ("reverse", "xproportion"):
        model = load_model(f"tracr-{program}")
        compiled = read_tracr(f"tracr-{program}")
        assert model.tokenizer is not None
        prompts = build_prompts(program, model.tokenizer, 20, 0, options={"length": LENGTH})
        small = set(compiled.resample_edges)
        for ablation in ("resample", "zero"):
            cells = []
            for tau in TAUS:
                patcher = ReferencePatcher(model, prompts, "l2", ablation)
                circuit = circuit_of(model.graph, search(model.graph, patcher, tau))
                names = {edge.name for edge in circuit.edges}
                missing, extra = len(small - names), len(names - small)
                cells.append("exact" if names == small else f"{len(names)} (-{missing} +{extra})")
            print(f"| {program} | {ablation} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
