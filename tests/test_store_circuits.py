"""What a picture of a run is made from: pages of its decisions, kept edges, the curve of damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import discover.store.circuits
from discover.acdc import Decision
from discover.errors import StoreError
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store import Store
from discover.store.circuits import OUTCOMES

GRAPH = ComputationalGraph(3, 4, n_kv_heads=2)
SPEC = RunSpec(model="toy", task="ioi", tau=0.1)

PROPERTY = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store.open(database_url) as opened:
        yield opened


def new_run(store: Store, outcomes: list[str]) -> str:
    """A run whose damage is the step's number before a decision, and twice that after it."""
    run_id = store.create_run(
        SPEC, graph=GRAPH, engine="exact", versions={}, prompts_jsonl='{"clean": "a"}\n'
    )
    with store.writer(run_id) as writer:
        for step, outcome in enumerate(outcomes):
            edge = GRAPH.edges[step % len(GRAPH)]
            writer.add(Decision(step, edge, float(step), 2.0 * step, outcome, step % 5 == 0))
    return run_id


@PROPERTY
@given(data=st.data())
def test_all_say_what_the_rows_say(store: Store, data: st.DataObject) -> None:
    run_id = new_run(store, data.draw(st.lists(st.sampled_from(OUTCOMES), max_size=40)))
    rows = list(store.decision_rows(run_id))

    wanted = data.draw(st.sampled_from([None, *OUTCOMES]))
    limit = data.draw(st.integers(1, 45))
    chosen = [row for row in rows if wanted in (None, row["outcome"])]
    pages, after = [], -1
    while after is not None:
        page, following = store.decision_page(run_id, after, limit, wanted)
        assert len(page) == limit or following is None
        pages += page
        assert following is None or following == page[-1]["step"] > after
        after = following
    assert pages == chosen
    assert list(store.kept_rows(run_id)) == [row for row in rows if row["outcome"] == "kept"]
    assert list(store.kept_decisions(run_id)) == [
        each for each in store.decisions(run_id) if not each.removed
    ]
    counts = {name: sum(row["outcome"] == name for row in rows) for name in OUTCOMES}
    assert store.outcomes(run_id) == counts

    whole, kept = [], 0
    for row in rows:
        kept += row["outcome"] == "kept"
        damage = row["before"] if row["outcome"] == "kept" else row["after"]
        whole.append((row["step"], damage, kept))
    assert store.curve(run_id) == whole
    points = data.draw(st.integers(2, 45))
    thinned = store.curve(run_id, points)
    assert set(thinned) <= set(whole)
    assert len(thinned) <= points
    assert thinned[:1] + thinned[-1:] == whole[:1] + whole[-1:]
    gaps = [b[0] - a[0] for a, b in pairwise(thinned)]
    assert len(set(gaps[:-1])) <= 1, "all but the last are equally far apart"
    assert not gaps or gaps[-1] <= gaps[0]


def test_kept_rows_come_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover.store.circuits, "CHUNK", 3)
    run_id = new_run(store, ["kept", "dead", "removed", "kept"] * 6)
    assert [row["step"] for row in store.kept_rows(run_id)] == [
        step for step in range(24) if step % 4 in (0, 3)
    ]


def test_a_run_that_only_waits_has_none(store: Store) -> None:
    _, (run_id,) = store.submit(SPEC)
    assert store.decision_page(run_id) == ([], None)
    assert list(store.kept_rows(run_id)) == []
    assert store.curve(run_id) == []
    assert store.outcomes(run_id) == dict.fromkeys(OUTCOMES, 0)


def test_what_is_asked_wrongly_is_said(store: Store) -> None:
    for ask in (store.decision_page, store.outcomes, store.curve, lambda r: [*store.kept_rows(r)]):
        with pytest.raises(StoreError, match="there is no run 'abc' in "):
            ask("abc")
    run_id = new_run(store, [])
    with pytest.raises(StoreError, match="unknown outcome 'Kept'; choose one of kept, removed"):
        store.decision_page(run_id, outcome="Kept")
    with pytest.raises(StoreError, match="must be at least 1, got 0"):
        store.decision_page(run_id, limit=0)
    with pytest.raises(StoreError, match="at least 2 points, got 1"):
        store.curve(run_id, 1)


def test_an_infinite_damage_is_told_as_it_is(store: Store) -> None:
    run_id = new_run(store, ["removed"])
    inf = float("inf")
    with store.writer(run_id) as writer:
        writer.add(Decision(1, GRAPH.edges[1], 1.0, inf, "kept", False))
    assert store.curve(run_id) == [(0, 0.0, 0), (1, 1.0, 1)]
    assert [row["score"] for row in store.kept_rows(run_id)] == [inf]


def test_pages_kept_edges_and_curve_need_no_more_memory_for_more_rows(store: Store) -> None:
    n = 32_000
    run_id = new_run(store, ["kept", "removed"] * (n // 2))
    store.curve(run_id)
    tracemalloc.start()
    count = sum(1 for _ in store.kept_rows(run_id))
    assert len(store.curve(run_id)) <= 1000
    assert len(store.decision_page(run_id, n - 10)[0]) == 9
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == n // 2
    assert peak < 8e6, "all kept rows at once would take more than 10 MB"
