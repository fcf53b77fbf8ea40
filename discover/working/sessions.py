"""The session that a worker keeps: runs of one batch share model, prompts and caches."""

from __future__ import annotations

import contextlib
import gc
import json

import torch

from discover.acdc import circuit_of
from discover.errors import DiscoverError, StoreUnavailableError
from discover.graph import Edge
from discover.methods import METHODS
from discover.run import Observer, open_session
from discover.session import How, Session
from discover.sizes import parse_size
from discover.store import Claim, Store
from discover.storedfiles import fetch
from discover.working.asking import check_options


class Sessions:
    """One session at a time, for the runs of one batch; another batch drops it.

    `threads` and `memory` (bytes) are this machine's own, before what a run asks for.
    """

    def __init__(
        self, store: Store, device: str, threads: int | None = None, memory: int | None = None
    ) -> None:
        self._store, self._device, self._threads, self._memory = store, device, threads, memory
        self._open = contextlib.ExitStack()
        self._key: str | None = None
        self._session: Session | None = None
        self.batch_key: str | None = None
        """Of the runs that the session at hand will do for."""

    def of(self, claim: Claim, observer: Observer) -> Session:
        """The session for a claimed run, opened if that at hand will not do.

        Raises:
            InputError: the spec, the model, the prompts or the options are unusable.
        """
        key = json.dumps([claim.batch_key, claim.options], sort_keys=True)
        if self._session is None or key != self._key:
            self.drop()
            check_options(claim.spec, claim.engine, claim.options)
            fetch(self._store, claim.spec)
            how = self._how(claim)
            self._session = self._open.enter_context(
                open_session(claim.spec.unpinned(), claim.engine, how, observer)
            )
            self._key, self.batch_key = key, claim.batch_key
        return self._session

    def draft(self, claim: Claim, session: Session) -> frozenset[Edge] | None:
        """What to guess for a run of a sweep: the finished circuit at the nearest larger tau."""
        if claim.options.get("draft") is not None:
            return None
        run_id = self._store.neighbour(claim.batch_key, claim.spec.tau)
        try:
            found = None if run_id is None else self._kept(run_id)
        except StoreUnavailableError:
            raise
        except DiscoverError:
            # It was deleted just now, or is damaged: one may do without a guess.
            return None
        return found if found is not None and found <= session.model.graph.edge_set else None

    def drop(self) -> None:
        """Let go of the session and of the memory that it holds."""
        if self._session is None:
            return
        self._key = self._session = self.batch_key = None
        self._open.close()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def _how(self, claim: Claim) -> How:
        options, draft = claim.options, claim.options.get("draft")
        memory = options.get("memory")
        asked = None if memory is None else parse_size(str(memory))
        return How(
            device=self._device,
            threads=self._threads or options.get("threads"),
            block=options.get("block"),
            draft=draft if draft is None or draft in METHODS else self._kept(draft),
            memory=self._memory or asked,
        )

    def _kept(self, run_id: str) -> frozenset[Edge]:
        record = self._store.run(run_id)
        return circuit_of(record.graph, list(self._store.decisions(record.id))).edges
