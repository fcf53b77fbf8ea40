"""Make the saved database of one schema revision, by real runs of that revision's own code.

`git worktree add --detach OLD COMMIT; PYTHONPATH=OLD python tests/data/make_saved.py URL`, where
COMMIT is the last one with that revision; README.md here says which these were. Then, for SQLite,
keep the file; for PostgreSQL `pg_dump --inserts --no-owner --no-privileges`.
"""

import multiprocessing
import os
import sys
import time
from itertools import islice

from discover import run as orchestrator
from discover.spec import RunSpec
from discover.store import Store, head

SPEC = {"model": "tracr-xproportion", "task": "xproportion", "prompts": 6, "metric": "l2"}


def stopped(after, how):
    """The search, which goes no further than so many decisions."""
    search = orchestrator.search

    def short(*arguments):
        yield from islice(search(*arguments), after)
        how()

    return short


def killed(url):
    """A run whose process dies with nine decisions stored."""

    def die():
        time.sleep(1.5)
        os._exit(9)

    orchestrator.search = stopped(9, die)
    with Store.open(url) as store:
        orchestrator.run(RunSpec(**SPEC, tau=0.05), store)


def interrupted(store):
    """A run that a person stops after five decisions."""

    def stop():
        raise KeyboardInterrupt

    search = orchestrator.search
    orchestrator.search = stopped(5, stop)
    try:
        orchestrator.run(RunSpec(**SPEC, tau=0.02), store)
    except KeyboardInterrupt:
        pass
    finally:
        orchestrator.search = search


def evaluated(store, run_id):
    """Figures of a run, with prompts of their own (revision 0002)."""
    from discover.evaluation.figures import Measurement

    record = store.run(run_id)
    figures = [
        Measurement("circuit", "l2", 0.125, "squared logits", low=0.1, high=float("inf")),
        Measurement("circuit", "faithfulness", 0.9375, extra={"edges": record.kept}),
    ]
    facts = {"circuit_hash": record.circuit_hash, "settings": {"metric": "l2"}, "versions": {}}
    jsonl = '{"clean": "unseen"}\n'
    store.add_evaluation(run_id, **facts, prompts_jsonl=jsonl, seconds=0.5, measurements=figures)


def queued(store, run_id):
    """Jobs of every kind, a sweep, a note and a file (revision 0003)."""
    name = store.add_file("prompts.jsonl", store.prompts_jsonl(run_id))
    spec = RunSpec(model="tracr-xproportion", prompts_file=name, metric="l2")
    store.submit(spec, taus=[0.1, 0.2], note="from a file")
    store.cancel(store.submit(RunSpec(**SPEC))[1][0])
    store.fail(store.claim("gone").lease, "the model cannot be loaded")
    store.add_worker("here", host="host", pid=1, device="cpu")
    store.claim("here")
    store.set_note(run_id, "the calm one")


def main(url):
    """Fill the database with what this revision can hold."""
    child = multiprocessing.get_context("spawn").Process(target=killed, args=[url])
    child.start()
    child.join()
    with Store.open(url) as store:
        interrupted(store)
        done = orchestrator.run(RunSpec(**SPEC, tau=0.01), store).id
        if head() >= "0002":
            evaluated(store, done)
        if head() >= "0003":
            queued(store, done)


if __name__ == "__main__":
    main(sys.argv[1])
