"""Run every hand-tool experiment with one model into one folder.

    python experiments/hand_tools/run_all.py --model smollm2 --out figures --prompts 8

Path patching comes first: the heads that it finds are the others' too. All options of the single
experiments are taken; each keeps its own usual prompts unless `--task` is given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import activation_patching
import attribution
import direct_paths
import induction
import path_patching
from common import Head

SCRIPTS = {
    "activation_patching": activation_patching.main,
    "direct_paths": direct_paths.main,
    "attribution": attribution.main,
    "induction": induction.main,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run all and print the seconds that each took."""
    given = list(sys.argv[1:] if argv is None else argv)
    began = time.perf_counter()
    heads = path_patching.main(given)
    seconds = {"path_patching": time.perf_counter() - began}
    found = [
        *("--name-movers", text_of(heads.name_movers)),
        *("--s-inhibition", text_of(heads.s_inhibition)),
        *("--negative", text_of(heads.negative)),
    ]
    for name, script in SCRIPTS.items():
        print(f"\n=== {name}")
        began = time.perf_counter()
        script([*found, *given])
        seconds[name] = time.perf_counter() - began
    print("\nseconds: " + ", ".join(f"{name} {took:.0f}" for name, took in seconds.items()))


def text_of(heads: Sequence[Head]) -> str:
    """Heads as the options take them: `9.9,9.6`."""
    return ",".join(f"{layer}.{head}" for layer, head in heads)


if __name__ == "__main__":
    main()
