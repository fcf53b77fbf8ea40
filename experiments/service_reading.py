"""Reads whole runs, a row at a time, and prints what that added to this process's peak of memory.

    python experiments/service_reading.py URL [--together] RUN...

`benchmark_service.py` starts it: in a fresh process nothing else has raised the peak before.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from discover.store import Store

ROUNDS = 3


def main() -> None:
    """Read every run, `ROUNDS` times; all of them at once if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("runs", nargs="+")
    options = parser.parse_args()
    readers = len(options.runs) if options.together else 1
    with Store.open(options.url) as store, ThreadPoolExecutor(readers) as pool:

        def read(run_id: str) -> int:
            return sum(1 for _ in store.decision_rows(run_id))

        store.decision_page(options.runs[0], limit=1)
        forget_peak()
        before, began = peak(), time.perf_counter()
        rows = sum(pool.map(read, options.runs))
        took, first = time.perf_counter() - began, peak()
        for _ in range(ROUNDS - 1):
            rows += sum(pool.map(read, options.runs))
    figures = {
        "readers": readers,
        "rounds": ROUNDS,
        "rows": rows // ROUNDS,
        "seconds": took,
        "first_mb": first - before,
        "last_mb": peak() - before,
    }
    print(json.dumps(figures))


def forget_peak() -> None:
    """Let the peak begin again from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """The most memory that this process has held since `forget_peak`, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e3


if __name__ == "__main__":
    main()
