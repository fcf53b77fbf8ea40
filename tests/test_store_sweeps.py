"""Sweeps, notes, and files that runs are submitted with: kept as long as something uses them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from helpers_store import PROMPTS, SPEC, Clocked, at_once, begin, contents, decide

from discover.errors import StoreError
from discover.evaluation.figures import Measurement
from discover.store.sweeps import FILE_GRACE, STORED_FILE
from discover.store.tables import files, sweeps


@pytest.fixture
def store(store_url: str) -> Iterator[Clocked]:
    with Clocked.open(store_url) as opened:
        yield opened


def test_a_submitted_sweep_is_its_runs_by_tau(store: Clocked) -> None:
    sweep_id, ids = store.submit(SPEC, taus=[0.2, 0.1, 1 / 3], note="why\0")
    sweep = store.sweep(sweep_id)
    assert sweep.runs == tuple(zip([0.1, 0.2, 1 / 3], ids, strict=True))
    assert (sweep.spec, sweep.note) == (dataclasses.replace(SPEC, tau=0.1), "why\\0")
    assert sweep.created_at == store.clock
    assert store.sweep(f" {sweep_id[:10].upper()}") == sweep
    assert store.sweeps() == [sweep]
    rows = store.listed(sweep=sweep_id, sort="tau", descending=False)[1]
    assert [(row.tau, row.id) for row in rows] == list(sweep.runs)
    assert store.listed(sweep="0" * 16) == (0, [])


def test_sweeps_come_newest_first_in_pages(store: Clocked) -> None:
    made = []
    for _ in range(5):
        made.append(store.submit(SPEC, taus=[0.1])[0])
        store.wait(1)
    assert [s.id for s in store.sweeps()] == made[::-1]
    assert [s.id for s in store.sweeps(limit=2, offset=1)] == [made[3], made[2]]
    assert store.sweeps(limit=0) == []


def test_a_sweep_of_known_runs_is_stored_once_and_runs_are_shared(store: Clocked) -> None:
    first, second = begin(store), begin(store)
    one = store.add_sweep(SPEC, [(0.1, first), (0.2, second)], note="a")
    assert store.add_sweep(SPEC, [(0.2, second), (0.1, first)]) == one
    wider = store.add_sweep(SPEC, [(0.1, first)])
    other = store.add_sweep(SPEC, [(0.1, first), (0.3, second)])
    assert len({one, wider, other}) == 3
    assert {s.id for s in store.sweeps()} == {one, wider, other}
    assert store.listed(sweep=wider)[1][0].id == first
    with pytest.raises(StoreError, match="at least one run"):
        store.add_sweep(SPEC, [])


def test_a_deleted_run_leaves_its_sweeps_and_the_last_takes_them_along(store: Clocked) -> None:
    first, second = begin(store), begin(store)
    both = store.add_sweep(SPEC, [(0.1, first), (0.2, second)])
    single = store.add_sweep(SPEC, [(0.1, first)])
    queued, ids = store.submit(SPEC, taus=[0.5, 0.6])
    store.delete(first)
    assert store.sweep(both).runs == ((0.2, second),)
    with pytest.raises(StoreError, match=f"there is no sweep '{single}'"):
        store.sweep(single)
    store.delete(ids[0])
    assert store.sweep(queued).runs == ((0.6, ids[1]),)
    store.delete(second)
    store.delete(ids[1])
    assert store.sweeps() == []
    assert not any(contents(store).values())


def test_a_deleted_sweep_leaves_its_runs(store: Clocked) -> None:
    sweep_id, ids = store.submit(SPEC, taus=[0.1, 0.2])
    store.delete_sweep(sweep_id)
    assert store.sweeps() == []
    assert {row.id for row in store.listed()[1]} == set(ids)
    with pytest.raises(StoreError, match="there is no sweep"):
        store.delete_sweep(sweep_id)


def test_an_unclear_or_unreadable_sweep_is_one_line(
    store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["aa" + "0" * 14, "01" * 8, "ab" + "0" * 14, "02" * 8])
    with monkeypatch.context() as patched:
        patched.setattr("secrets.token_hex", lambda _: next(names))
        for _ in range(2):
            # The order in which the ids are drawn is the store's own affair.
            store.submit(SPEC, taus=[0.1])
    found = sorted(s.id for s in store.sweeps())
    prefix = found[0][0] if found[0][0] == found[1][0] else None
    assert prefix is not None
    with pytest.raises(StoreError, match="several sweeps begin with"):
        store.sweep(prefix)
    with store._database.write() as connection:
        connection.execute(sa.update(sweeps).values(spec={"model": "x", "colour": 1}))
    with pytest.raises(
        StoreError, match=r"sweep \w{16} cannot be read: .*unknown fields: 'colour'"
    ):
        store.sweeps()


def test_a_note_is_the_runs_before_and_after_it_has_begun(store: Clocked) -> None:
    run_id = store.submit(SPEC, note="first")[1][0]
    store.set_note(run_id[:8], "second")
    claim = store.claim("w")
    begin(store, claim.lease)
    assert store.listed_run(run_id).note == "second"
    store.set_note("latest", "third \0 \udcff")
    assert store.listed_run(run_id).note == store.job(run_id).note == "third \\0 \\udcff"
    store.set_note(run_id, "")
    assert store.listed_run(run_id).note == ""
    with pytest.raises(StoreError, match="there is no run"):
        store.set_note("0" * 16, "x")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("prompts.jsonl", "prompts.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("/etc/..", "prompts.jsonl"),
        ("a b\0c;'ü.csv", "a_b_c_.csv"),
        ("-rf", "rf"),
        ("", "prompts.jsonl"),
        ("x" * 300, "x" * 100),
        ("C:\\dir\\f.jsonl", "C_dir_f.jsonl"),
    ],
)
def test_a_file_has_a_harmless_name_with_its_hash(store: Clocked, name: str, stored: str) -> None:
    called = store.add_file(name, PROMPTS)
    assert called == f"sha256:{hashlib.sha256(PROMPTS.encode()).hexdigest()}/{stored}"
    assert STORED_FILE.fullmatch(called)
    assert store.file(called) == PROMPTS


def test_a_files_text_is_kept_as_it_is_and_once(store: Clocked) -> None:
    text = "ünï\r\n🐍\u2028\ttab\n\n"
    called = at_once([lambda n=n: store.add_file(f"{n}.jsonl", text) for n in range(4)])
    assert [store.file(each) for each in called] == [text] * 4
    assert len(contents(store)["files"]) == 1
    assert store.file(store.add_file("empty", "")) == ""


def test_what_is_no_text_or_no_stored_file_is_refused(store: Clocked) -> None:
    for text in ("a\0b", "a\udcff"):
        with pytest.raises(StoreError, match="'f.jsonl' is no text: it holds a NUL or half of"):
            store.add_file("f.jsonl", text)
    hash_ = "0" * 64
    for name in ("", "prompts.jsonl", f"sha256:{hash_}", f"sha256:{hash_}/../x", "sha256:' OR 1"):
        with pytest.raises(StoreError, match="is not the name of a stored file"):
            store.file(name)
    with pytest.raises(StoreError, match=f"the file sha256:{hash_}/x is not in"):
        store.file(f"sha256:{hash_}/x")


def age(store: Clocked, seconds: float = 1.0) -> None:
    """Let the files be older than their grace by so much."""
    with store._database.write() as connection:
        back = FILE_GRACE + timedelta(seconds=seconds)
        for row in connection.execute(sa.select(files)).mappings().all():
            of = sa.update(files).where(files.c.hash == row["hash"])
            connection.execute(of.values(created_at=row["created_at"] - back))


def there(store: Clocked, name: str) -> bool:
    try:
        return bool(store.file(name))
    except StoreError:
        return False


def test_a_file_goes_with_the_last_that_names_it_and_not_before(store: Clocked) -> None:
    prompts, means = store.add_file("p.jsonl", "p\n"), store.add_file("m.jsonl", "m\n")
    by_file = dataclasses.replace(SPEC, task=None, prompts_file=prompts)
    by_mean = dataclasses.replace(SPEC, ablation="mean", reference=means)
    queued = store.submit(by_file)[1][0]
    claim = store.claim("w")
    begin(store, claim.lease, by_file)
    store.fail(claim.lease, "x")
    ids = store.submit(by_mean, taus=[0.1, 0.2])[1]
    by_hand = begin(store, spec=by_file)
    other = begin(store)
    age(store)
    store.delete(other)
    assert there(store, prompts)
    assert there(store, means)
    store.delete(ids[0])
    store.delete(queued)
    assert there(store, prompts), "the run by hand names it"
    assert there(store, means), "the other run of the sweep names it"
    store.delete(ids[1])
    assert (there(store, prompts), there(store, means)) == (True, False)
    store.delete(by_hand)
    assert not any(contents(store).values())


def test_a_file_that_was_just_handed_in_waits_for_its_run(store: Clocked) -> None:
    fresh, old = store.add_file("f", "fresh"), store.add_file("o", "old")
    age(store)
    assert store.add_file("again", "fresh").split("/")[0] == fresh.split("/")[0]
    store.delete(begin(store))
    assert (there(store, fresh), there(store, old)) == (True, False)
    run = store.submit(dataclasses.replace(SPEC, task=None, prompts_file=fresh))[1][0]
    age(store)
    store.delete(begin(store))
    assert there(store, fresh)
    store.delete(run)
    assert not there(store, fresh)


def test_nothing_is_left_of_a_run_that_is_deleted(store: Clocked) -> None:
    """Decisions, prompts, evaluations with their prompts and figures, job, sweep, file."""
    name = store.add_file("p.jsonl", PROMPTS)
    spec = dataclasses.replace(SPEC, task=None, prompts_file=name)
    _, ids = store.submit(spec, taus=[0.1])
    claim = store.claim("w")
    begin(store, claim.lease, spec)
    decide(store, ids[0], 5, store.start(ids[0], claim.lease))
    store.finish(ids[0], "done", attempt=claim.lease.attempt)
    store.add_evaluation(
        ids[0], circuit_hash="", settings={}, prompts_jsonl="other\n", versions={}, seconds=0,
        measurements=[Measurement("circuit", "kl", 1.0)],
    )  # fmt: skip
    kept = contents(store)
    assert {table for table, rows in kept.items() if not rows} == {"workers"}
    age(store)
    store.delete(ids[0])
    assert not any(contents(store).values())
