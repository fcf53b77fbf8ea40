"""The list of runs: filters, order, pages and searches, whatever people have written into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from helpers_store import GRAPH, SPEC, Clocked, begin, claimed, decide
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discover.errors import StoreError
from discover.spec import RunSpec
from discover.store import ListedRun
from discover.store.listing import LISTED_STATUSES, SORTS


@pytest.fixture
def store(store_url: str) -> Iterator[Clocked]:
    with Clocked.open(store_url) as opened:
        yield opened


def ids(store: Clocked, **options: object) -> list[str]:
    total, rows = store.listed(**options)
    if "limit" not in options and "offset" not in options:
        assert total == len(rows)
    return [row.id for row in rows]


def of_every_status(store: Clocked) -> dict[str, str]:
    """One run of each status, named by it."""
    made: dict[str, str] = {}

    def job(name: str) -> None:
        made[name] = store.submit(dataclasses.replace(SPEC, model=name))[1][0]
        store.wait(1)

    for name in ("done", "failed", "interrupted"):
        made[name] = begin(store, spec=dataclasses.replace(SPEC, model=name))
        store.finish(made[name], name, attempt=store.start(made[name]))
    job("running")
    begin(store, claimed(store, "w").lease, dataclasses.replace(SPEC, model="running"))
    for name in ("cancelled", "queued"):
        job(name)
    store.cancel(made["cancelled"])
    return made


def test_every_status_is_listed_counted_and_filtered(store: Clocked) -> None:
    assert store.listed() == (0, [])
    assert store.statuses() == {}
    made = of_every_status(store)
    assert set(made) == set(LISTED_STATUSES)
    assert {row.model: row.status for row in store.listed()[1]} == {s: s for s in made}
    assert store.statuses() == dict.fromkeys(made, 1)
    for status, run_id in made.items():
        assert ids(store, status=status) == [run_id]
        assert store.listed_run(run_id[:9]).status == status
    with pytest.raises(StoreError, match="unknown status 'lost'; choose one of queued, running"):
        store.listed(status="lost")


def test_a_run_that_only_waits_is_shown_as_far_as_it_is_known(store: Clocked) -> None:
    run_id = store.submit(SPEC, note="soon")[1][0]
    assert store.listed_run(run_id) == ListedRun(
        id=run_id, status="queued", cancelling=False, model="toy", task="ioi", metric="kl",
        ablation="resample", tau=0.5, engine="exact", spec=SPEC.to_json(), note="soon",
        created_at=store.clock, started_at=None, updated_at=store.clock, finished_at=None,
        seconds=0.0, attempt=0, worker=None, error=None, graph=None, edges=None, decided=0,
        kept=None, damage=None, circuit_hash=None,
    )  # fmt: skip


def test_a_run_is_listed_with_what_it_has_come_to_so_far(store: Clocked) -> None:
    submitted = store.clock
    run_id = store.submit(SPEC, note="mine")[1][0]
    lease = claimed(store, "w").lease
    begin(store, lease, dataclasses.replace(SPEC, prompts=3))
    attempt = store.start(run_id, lease)
    assert (store.listed_run(run_id).kept, store.listed_run(run_id).damage) == (0, None)
    decide(store, run_id, 4, attempt)
    going = store.listed_run(run_id)
    assert (going.status, going.worker, going.attempt) == ("running", "w", 1)
    assert (going.decided, going.kept, going.damage, going.edges) == (4, 4, 3 / 7, len(GRAPH))
    assert (going.note, going.created_at, going.graph) == ("mine", submitted, GRAPH.shape())
    assert going.spec["prompts"] == 3, "as it was pinned"
    assert going.started_at is not None
    assert going.finished_at is None
    summary = {"kept": 3, "damage": float("inf"), "circuit_hash": "ab" * 32}
    store.finish(run_id, "done", attempt=attempt, seconds=2.5, summary=summary)
    done = store.listed_run(run_id)
    assert (done.status, done.worker, done.seconds) == ("done", None, 2.5)
    assert (done.kept, done.damage, done.circuit_hash) == (3, float("inf"), "ab" * 32)
    assert done.finished_at is not None


def test_how_a_run_once_ended_is_no_news_when_it_goes_on(store: Clocked) -> None:
    run_id = begin(store)
    store.finish(run_id, "failed", error="boom", attempt=store.start(run_id))
    ended = store.listed_run(run_id)
    assert (ended.error, ended.finished_at is None) == ("boom", False)
    store.retry(run_id)
    for status in ("queued", "running"):
        row = store.listed_run(run_id)
        assert (row.status, row.error, row.finished_at) == (status, None, None)
        store.claim("w")


@pytest.fixture
def shelf(store: Clocked) -> tuple[Clocked, list[RunSpec], list[str]]:
    """Eight runs, begun and waiting in turn, with various facts."""
    specs = [
        dataclasses.replace(
            SPEC, model=f"m{n % 3}", task=("ioi", "docstring")[n % 2], tau=[0.3, 0.1][n // 4] + n,
            metric=("kl", "logit_diff")[n // 4], ablation=("resample", "zero")[n % 2],
        )
        for n in range(8)
    ]  # fmt: skip
    made = []
    for n, spec in enumerate(specs):
        store.clock = datetime.now(UTC)
        if n % 2:
            made.append(store.submit(spec)[1][0])
        else:
            made.append(begin(store, spec=spec))
            summary = {"kept": 9 - n, "damage": n / 2}
            attempt = store.start(made[-1])
            store.finish(made[-1], "done", attempt=attempt, summary=summary, seconds=n)
    return store, specs, made


def test_filters_are_all_to_hold(shelf: tuple) -> None:
    store, specs, made = shelf
    for name in ("model", "task", "metric", "ablation"):
        for value in {getattr(spec, name) for spec in specs}:
            expected = [i for i, s in zip(made, specs, strict=True) if getattr(s, name) == value]
            assert ids(store, **{name: value}) == expected[::-1]
        assert ids(store, **{name: "%"}) == []
    assert ids(store, model="m0", task="ioi") == [made[6], made[0]]
    assert ids(store, model="m0", task=None, status="queued") == [made[3]]
    assert ids(store, ids=made[2:4]) == [made[3], made[2]]
    assert ids(store, ids=[]) == []
    with pytest.raises(TypeError, match="cannot be filtered by 'colour'"):
        store.listed(colour="red")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_every_order_is_total_and_has_the_valueless_last(
    shelf: tuple, sort: str, descending: bool
) -> None:
    store, _, made = shelf
    rows = store.listed(sort=sort, descending=descending)[1]
    assert {row.id for row in rows} == set(made)
    values = [getattr(row, sort) for row in rows]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert all(value is None for value in values[len(known) :])
    for before, after in pairwise(rows):
        if getattr(before, sort) == getattr(after, sort):
            assert before.created_at > after.created_at, "the newest first among equals"
    paged = [
        row.id
        for offset in range(0, 10, 3)
        for row in store.listed(sort=sort, descending=descending, limit=3, offset=offset)[1]
    ]
    assert paged == [row.id for row in rows]


def test_the_runs_of_a_sweep_stand_by_their_thresholds(store: Clocked) -> None:
    taus = (0.3, 0.001, 0.02, 0.1, 0.005)
    store.submit(SPEC, taus=taus)
    store.wait(1)
    alone = store.submit(SPEC)[1][0]
    found = store.listed()[1]
    assert found[0].id == alone
    assert [row.tau for row in found[1:]] == sorted(taus)


def test_pages_know_the_whole(shelf: tuple) -> None:
    store, _, made = shelf
    assert ids(store) == made[::-1]
    assert [store.listed(limit=3, offset=n)[0] for n in (0, 6, 99)] == [8, 8, 8]
    assert ids(store, limit=0) == []
    assert ids(store, offset=6) == made[1::-1]
    assert ids(store, limit=2, task="ioi") == [made[6], made[4]]
    for bad in ({"limit": -1}, {"offset": -1}):
        with pytest.raises(StoreError, match="negative"):
            store.listed(**bad)
    with pytest.raises(StoreError, match="unknown order 'id; DROP'; choose one of created_at"):
        store.listed(sort="id; DROP")
    for huge in ({"limit": 2**70}, {"offset": 2**70}):
        with pytest.raises(StoreError):
            store.listed(**huge)


HOSTILE = [
    "100%", "a_b", "it's", '"quoted"', "back\\slash", "'; DROP TABLE runs; --", "<b>&amp;", "a/b",
    "nul\0byte", "half \udcff pair", "Ünïcödé", "🐍", "tab\tline\nend", "%(x)s", "{0}", ":name",
    "?",
]  # fmt: skip


def test_hostile_text_is_kept_found_and_nothing_else_is(store: Clocked) -> None:
    made = {text: store.submit(SPEC, note=text)[1][0] for text in HOSTILE}
    store.submit(SPEC, note="100x aXb its backslash")
    kept = {text: text.replace("\0", "\\0").replace("\udcff", "\\udcff") for text in HOSTILE}
    notes = {row.id: row.note for row in store.listed()[1]}
    assert {text: notes[run_id] for text, run_id in made.items()} == kept
    for text in made:
        found = set(ids(store, search=text))
        assert found == {i for t, i in made.items() if kept[text].lower() in kept[t].lower()}, text
    for name in ("model", "task", "metric", "ablation", "sweep"):
        for text in HOSTILE:
            assert store.listed(**{name: text}, limit=1) == (0, [])
    assert ids(store, ids=HOSTILE) == []
    assert len(store.listed()[1]) == len(HOSTILE) + 1


def test_a_search_looks_at_ids_models_tasks_and_notes_whatever_the_case(store: Clocked) -> None:
    waiting = store.submit(dataclasses.replace(SPEC, model="GPT2-Small"))[1][0]
    begun = begin(store, spec=dataclasses.replace(SPEC, task="docstring"))
    store.set_note(begun, "Look Again")
    assert ids(store, search="gpt2-s") == [waiting]
    assert ids(store, search="DocString") == [begun]
    assert ids(store, search="k aGAIN") == [begun]
    assert ids(store, search=waiting[3:12].upper()) == [waiting]
    assert set(ids(store, search="")) == {waiting, begun}
    with pytest.raises(StoreError, match="at most 1000 characters"):
        store.listed(search="x" * 100_000)


@given(note=st.text(max_size=20), wanted=st.text(max_size=4))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_note_comes_back_and_a_search_finds_just_what_has_it(
    store: Clocked, note: str, wanted: str
) -> None:
    if not store.listed()[0]:
        store.submit(SPEC)
    run_id = store.listed()[1][0].id
    store.set_note(run_id, note)
    kept = store.listed_run(run_id).note
    assert kept == note.replace("\0", "\\0")

    def ascii_lower(text: str) -> str:
        return "".join(c.lower() if c.isascii() else c for c in text)

    needle = ascii_lower(wanted.replace("\0", "\\0"))
    if needle in ascii_lower(kept):
        assert ids(store, search=wanted) == [run_id]
    elif kept.isascii() and wanted.isascii() and needle not in run_id + "toyioi":
        assert ids(store, search=wanted) == []


def test_refs_name_queued_and_begun_runs_alike(
    store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=r"no runs in .* yet; start with `discover run`"):
        store.listed_run("latest")
    names = iter(["00aa" * 4, "00ab" * 4, "ff00" * 4])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(names))
    store.clock = datetime.now(UTC)
    queued = store.submit(SPEC)[1][0]
    begun = begin(store)
    store.clock = datetime.now(UTC)
    last = store.submit(SPEC)[1][0]
    assert store.listed_run("latest").id == last
    assert store.run("latest").id == begun, "the newest that has something to show"
    assert store.listed_run(" 00AA ").id == queued
    assert store.job("ff").id == last
    with pytest.raises(StoreError, match="beginning of several runs") as caught:
        store.listed_run("00a")
    assert queued in str(caught.value)
    assert begun in str(caught.value)
    with pytest.raises(StoreError, match=r"is queued: no worker has begun it yet; it has nothing"):
        store.run("00aa")
    for nothing in ("", "%", "_", "0_", "00ac", "0' OR 1", "a\0", "ü", last + "0", "f" * 100_000):
        for call in (store.listed_run, store.run, store.job, store.cancel, store.retry):
            with pytest.raises(StoreError, match="there is no run"):
                call(nothing)
        for call in (store.sweep, store.evaluation):
            with pytest.raises(StoreError, match="there is no"):
                call(nothing)
    claim = claimed(store, "w")
    begin(store, claim.lease)
    assert store.listed_run(queued[:5]).status == "running"
    assert store.run("00aa").id == queued, "one run, not a job and a run"
