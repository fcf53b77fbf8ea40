"""The record of every run: a SQL database, a SQLite file unless told otherwise.

`protocol.py` says what callers may rely on and `contract.py` which records they get, `tables.py`
what is in the database, `engine.py` how it is reached, `sql.py`, `runs.py`, `evaluations.py`,
`prompts.py` and `writer.py` how it is read and written, `queue.py`, `leases.py` and `jobrows.py`
how runs are handed out to workers, `listing.py`, `refs.py` and `sweeps.py` what a list of runs
shows, `circuits.py` what a picture of one is made from, `migrate.py` how its schema changes.
"""

from discover.store.contract import (
    Beat,
    Claim,
    EvaluationRecord,
    JobRecord,
    Lease,
    ListedRun,
    RunRecord,
    RunStatus,
    SweepRecord,
    WorkerRecord,
)
from discover.store.engine import default_url, normalise_url
from discover.store.migrate import current, head, upgrade
from discover.store.protocol import DecisionSink, RunStore
from discover.store.sql import Store
from discover.store.writer import DecisionWriter

__all__ = [
    "Beat",
    "Claim",
    "DecisionSink",
    "DecisionWriter",
    "EvaluationRecord",
    "JobRecord",
    "Lease",
    "ListedRun",
    "RunRecord",
    "RunStatus",
    "RunStore",
    "Store",
    "SweepRecord",
    "WorkerRecord",
    "current",
    "default_url",
    "head",
    "normalise_url",
    "upgrade",
]
