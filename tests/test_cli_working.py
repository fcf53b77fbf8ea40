"""The commands on the queue: submit, worker, wait, cancel, retry, workers, runs, note, delete."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers_working import SPEC, forget_hearts, rows_of, until

from discover import session as session_module
from discover.cli import waiting
from discover.cli.stored import one_line, short_task
from discover.errors import PromptError, SpecError, TaskError
from discover.evaluating import work
from discover.report import FACTS
from discover.run import Observer, StoppedError, run
from discover.store import Store
from discover.working import asking, loop

QUICKLY = ("--same-prompts", "--quick", "--nodes", 0, "--subsets", 0, "--draws", 20)
SUBMIT = ("submit", "--model", "tiny-ioi", "--task", "ioi", "--prompts", 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.05)


@pytest.fixture(scope="module")
def model() -> Any:
    return session_module.load_model(SPEC.model)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(str(tmp_path / "discover.db")) as opened:
        yield opened


def submitted(discover: Any, *words: Any) -> dict[str, Any]:
    code, out, err = discover(*SUBMIT, *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"sweep", "runs", "workers_alive"}
    return found


def test_submit_worker_wait_and_the_list(discover, model, monkeypatch, store):
    monkeypatch.setattr(session_module, "load_model", lambda *_a, **_k: model)
    code, out, err = discover(*SUBMIT, "--taus", "0.01,0.5", "--note", "for\nthe paper")
    assert code == 0
    sweep = re.match(r"sweep ([0-9a-f]{16}) of 2 runs is queued", out)[1]
    assert "no worker is alive" in err
    assert f"discover wait {sweep[:8]}" in err
    (single,) = submitted(discover, "--tau", 0.02)["runs"]

    code, out, err = discover("runs")
    assert (code, out.count("queued"), out.count("for the paper")) == (0, 3, 2)
    code, out, err = discover("worker", "--drain", "--poll", 0.05)
    assert (code, out) == (0, "")
    assert err.count("is done: ") == 3
    assert "ended in good order after 3 runs" in err

    code, out, err = discover("wait", sweep[:9], single)
    assert (code, out.count(" is done\n")) == (0, 3)
    code, out, err = discover("wait", sweep, "--json")
    found = json.loads(out)["runs"]
    assert [(r["tau"], r["status"]) for r in found] == [(0.01, "done"), (0.5, "done")]

    code, out, err = discover("runs", "--sweep", sweep[:9], "--json")
    rows = json.loads(out)["runs"]
    assert {r["run"] for r in rows} == {r["id"] for r in found}
    assert all(set(FACTS) <= set(r) for r in rows)
    record = store.run(rows[0]["run"])
    assert (rows[0]["kept"], rows[0]["damage"]) == (record.kept, record.damage)
    assert rows[0]["note"] == "for\nthe paper"
    assert "note     for the paper\n" in discover("show", rows[0]["run"])[1]
    assert json.loads(discover("runs", "--status", "queued", "--json")[1])["runs"] == []
    assert discover("runs", "--status", "asleep")[0] == 2


def test_a_queued_run_has_every_key_and_says_null(discover, store):
    (run_id,) = submitted(discover, "--tau", 0.3, "--note", "n")["runs"]
    (row,) = json.loads(discover("runs", "--json")[1])["runs"]
    assert {*FACTS, "note", "worker", "cancelling", "kept_so_far", "damage_so_far"} == set(row)
    assert (row["run"], row["status"], row["tau"], row["prompts"]) == (run_id, "queued", 0.3, 2)
    assert row["edges"] is row["kept"] is row["circuit_hash"] is None
    code, _, err = discover("show", run_id)
    assert (code, "no worker has begun it yet" in err) == (2, True)


def test_submit_keeps_everything_that_was_asked_for(discover, store):
    words = ("--engine", "exact", "--block", 3, "--memory", "2GiB", "--threads", 2, "--draft",
             "eap-ig", "--order", "reverse", "--ablation", "mean", "--mean-by", "role",
             "--reference", 7, "--seed", 3, "--corruption", "flipped", "--bos", "--dtype",
             "float64", "--tau", 0.125)  # fmt: skip
    (run_id,) = submitted(discover, *words)["runs"]
    job = store.job(run_id)
    assert job.spec == dataclasses.replace(
        SPEC, tau=0.125, order="reverse", ablation="mean", mean_by="role", reference=7, seed=3,
        task_options={"corruption": "flipped"}, bos=True, dtype="float64",
    )  # fmt: skip
    assert job.options == {"block": 3, "memory": "2GiB", "threads": 2, "draft": "eap-ig"}
    done = run(SPEC, store)
    (run_id,) = submitted(discover, "--draft", done.id[:6])["runs"]
    assert store.job(run_id).options == {"draft": done.id}
    assert store.job(run_id).spec.tau == 0.02


BAD = {
    "unknown task 'riddles'": ("--task", "riddles"),
    "has no option 'colour'": ("--task-option", "colour=red"),
    "tau must be": ("--tau", -1),
    "is not a threshold": ("--taus", "0.1,x"),
    "give one of them": ("--tau", 1, "--taus", "1,2"),
    "drop --draft": ("--taus", "1,2", "--draft", "eap-ig"),
    "gradient is zero": ("--draft", "eap"),
    "no run 'abc'": ("--draft", "abc"),
    "not a size of memory": ("--memory", "lots"),
    "does not speculate": ("--engine", "reference", "--block", 2),
    "belong to the ablation mean": ("--mean-by", "role"),
    "cannot read prompts file": ("--ablation", "mean", "--reference", "gone.jsonl"),
    "unknown order": ("--order", "sideways"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_no_worker_could_run_is_refused_at_once(message, discover, store):
    code, out, err = discover(*SUBMIT, *BAD[message])
    assert (code, out) == (2, "")
    assert message in err
    assert store.jobs() == []


def test_options_of_other_kinds_are_refused():
    for options, message in (
        ({"block": True}, "block"), ({"threads": 0}, "threads"), ({"threads": 1.0}, "threads"),
        ({"memory": [1]}, "memory"), ({"memory": True}, "memory"), ({"draft": 3}, "draft"),
        ({"colour": 1}, "no option 'colour'"), ({"memory": 0}, "at least 1 byte"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=message):
            asking.check_asked(SPEC, options=options)
    asking.check_asked(SPEC, options={"block": None, "memory": 5, "draft": None})
    with pytest.raises(SpecError, match="engine"):
        asking.check_asked(SPEC, "steam")
    with pytest.raises(TaskError):
        asking.check_asked(dataclasses.replace(SPEC, task_options={"corruption": "x"}))


LINE = '{"clean": "A b", "corrupted": "A c", "correct": [" d"], "incorrect": [" e"]}\n'
TABLE = 'clean,corrupted,correct\r\n"A, b","A, c", d\r\n'


@pytest.mark.parametrize(("name", "text"), [("p.jsonl", "\ufeff\n" + LINE), ("p.csv", TABLE)])
def test_a_prompts_file_is_stored_as_it_is(name, text, discover, store, tmp_path):
    path = tmp_path / name
    path.write_bytes(text.encode())
    code, out, err = discover("submit", "--model", "tiny-ioi", "--prompts-file", path, "--json")
    assert code == 0, err
    job = store.job(json.loads(out)["runs"][0])
    assert short_task(job.task) == name
    assert store.file(job.spec.prompts_file) == text
    # Twice the same: stored once, and a stored name is left as it is.
    assert asking.with_stored_files(store, job.spec) == job.spec


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b"", "no prompts"),
        ("p.jsonl", b"\xff\xfe", "UTF-8"),
        ("p.jsonl", LINE.encode() + b"{", "line 2: not JSON"),
        ("p.jsonl", b"[1]", "line 1: must be a JSON object"),
        ("p.jsonl", b'{"clean": "a"}', "'corrupted' must be a string"),
        ("p.jsonl", b'{"clean": "a", "corrupted": "b", "correct": " c"}', "'correct' must be"),
        ("p.csv", b"clean;corrupted\na;b\n", "unknown column"),
        ("p.csv", b"clean,corrupted\n", "no prompts"),
        ("p.csv", b"clean,corrupted\na\n", "line 2: has 1 cell"),
    ],
)
def test_a_file_without_usable_prompts_is_refused(
    name, content, message, discover, store, tmp_path
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PromptError, match=re.escape(message)):
        asking.with_stored_files(
            store, dataclasses.replace(SPEC, task=None, prompts_file=str(path))
        )
    code, _, err = discover("submit", "--model", "tiny-ioi", "--prompts-file", path)
    assert (code, store.jobs()) == (2, [])
    assert "Traceback" not in err


def test_a_run_on_a_stored_file_is_resumed_and_evaluated_from_the_store(
    discover, store, model, tmp_path, monkeypatch
):
    for module in (session_module, work):
        monkeypatch.setattr(module, "load_model", lambda *_args, **_kwargs: model)
    monkeypatch.setenv("DISCOVER_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mine.jsonl"
    file.write_text(store.prompts_jsonl(run(dataclasses.replace(SPEC, prompts=4), store).id))
    name = store.add_file("mine.jsonl", file.read_text())
    file.unlink()
    spec = dataclasses.replace(SPEC, task=None, prompts_file=name, prompts=None)
    record = run(spec, store)
    wanted = rows_of(store, record.id)
    store.finish(record.id, "interrupted")
    import shutil

    for change in ("remove", "change"):
        kept = next((tmp_path / "cache").rglob("mine.jsonl"))
        if change == "remove":
            shutil.rmtree(kept.parent)
        else:
            kept.write_text("something else")
        store.finish(record.id, "interrupted")
        assert discover("resume", record.id)[0] == 0
        assert rows_of(store, record.id) == wanted
    code, out, err = discover("evaluate", record.id, *QUICKLY)
    assert (code, "faithfulness" in out) == (0, True), err
    broken = store.add_file("bad.jsonl", LINE.replace(" d", " notatokenatall"))
    with pytest.raises(PromptError, match=f"prompts file {re.escape(broken)} has 1 malformed"):
        run(dataclasses.replace(spec, prompts_file=broken), store)


def test_wait_ends_with_3_if_a_run_did_not_come_to_its_end(discover, store):
    found = submitted(discover, "--taus", "0.1,0.2,0.3")
    code, out, err = discover("cancel", found["runs"][0])
    assert (code, out) == (0, f"run {found['runs'][0][:8]} is cancelled\n")
    threads = threading.Thread(
        target=lambda: [store.cancel(run_id) for run_id in found["runs"][1:]]
    )
    threads.start()
    code, out, err = discover("wait", found["sweep"])
    threads.join()
    assert code == 3
    assert out.count("is cancelled") == 3
    assert discover("cancel", found["sweep"])[0] == 0
    code, out, err = discover("cancel", found["runs"][0])
    assert (code, "is cancelled already" in err) == (2, True)

    code, out, err = discover("retry", found["sweep"])
    assert (code, out.count("is queued again")) == (0, 3)
    assert "no worker is alive" in err
    assert discover("retry", found["runs"][0])[0] == 2
    code, out, err = discover("retry", found["sweep"])
    assert (code, out, "nothing to retry" in err) == (0, "", True)


def test_wait_says_that_no_worker_is_alive_and_leaves_the_runs_alone(discover, store, monkeypatch):
    (run_id,) = submitted(discover)["runs"]
    looks = []

    def interrupt(_seconds: float) -> None:
        looks.append(1)
        if len(looks) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(waiting.time, "sleep", interrupt)
    code, out, err = discover("wait", run_id)
    assert (code, out) == (130, "")
    assert err.count("no worker is alive") == 1
    assert err.count("1 queued") == 1
    assert store.job(run_id).status == "queued"
    assert discover("wait", "feed")[0] == 2


def test_workers_are_listed_alive_or_silent(discover, store):
    store.add_worker("one", host="here", pid=7, device="cuda:1")
    found = json.loads(discover("workers", "--json")[1])["workers"]
    assert [(w["id"], w["alive"], w["run_id"]) for w in found] == [("one", True, None)]
    assert "cuda:1" in discover("workers")[1]
    assert json.loads(discover(*SUBMIT, "--json")[1])["workers_alive"] == 1
    assert "no worker" not in discover(*SUBMIT)[2]


def test_note_and_delete(discover, store, monkeypatch):
    (run_id,) = submitted(discover)["runs"]
    assert discover("note", run_id[:8], "of <b>use</b>")[0] == 0
    assert store.listed_run(run_id).note == "of <b>use</b>"
    assert discover("note", run_id, "")[0] == 0
    assert store.listed_run(run_id).note == ""
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, out, err = discover("delete", run_id)
    assert (code, out, "delete run" in err) == (130, "", True)
    assert store.job(run_id).status == "queued"
    assert discover("delete", run_id, "--yes")[0] == 0
    assert discover("delete", run_id, "--yes")[0] == 2
    assert store.jobs() == []


def test_a_note_fits_into_a_table():
    assert one_line("a\tb\nc\x1b[31m") == "a b c [31m"
    assert len(one_line("x" * 100)) == 40


def test_a_reference_is_a_run_or_a_sweep(store):
    sweep, runs = store.submit(SPEC, taus=(0.1, 0.2))
    assert waiting.named_runs(store, sweep) == (runs, True)
    assert waiting.named_runs(store, runs[0][:10]) == ([runs[0]], False)


@pytest.mark.parametrize("after", [pytest.param("entered", marks=pytest.mark.slow), None])
def test_a_worker_of_its_own_process_ends_with_0(after, store, tmp_path):
    """From its first second, and while it waits."""
    words = [sys.executable, "-m", "discover.cli", "worker", "--db", str(tmp_path / "discover.db")]
    process = subprocess.Popen(
        [*words, "--poll", "3600"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if after is not None:
        until(store.workers, "the worker to enter itself")
    else:
        until(lambda: _handles_sigterm(process.pid), "the program to begin")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert store.workers() == []


def _handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_worker_says_how_far_it_is_now_and_then(discover, model, monkeypatch, store):
    monkeypatch.setattr(session_module, "load_model", lambda *_a, **_k: model)
    monkeypatch.setattr(loop, "NOW_AND_THEN", 0.0)
    submitted(discover)
    err = discover("worker", "--once")[2]
    assert re.search(r"\d\d:\d\d:\d\d run [0-9a-f]{8}: \d+ of 479 edges decided\n", err)
    assert discover("worker", "--device", "abacus")[0] == 2
    assert discover("worker", "--memory", "lots")[0] == 2


def test_a_failed_run_that_is_gone_on_with_by_hand_is_running(store, model, monkeypatch):
    monkeypatch.setattr(session_module, "load_model", lambda *_args, **_kwargs: model)
    with pytest.raises(StoppedError):
        run(SPEC, store, observer=Observer(stop=lambda: "now"))
    (by_hand,) = (r.id for r in store.runs())
    store.retry(by_hand)
    store.cancel(by_hand)
    assert store.listed_run(by_hand).status == "cancelled"
    store.start(by_hand)
    assert store.listed_run(by_hand).status == "running"
    store.finish(by_hand, "failed", error="x")
    assert store.listed_run(by_hand).status == "failed"


def test_a_claim_without_a_heart_is_seen_in_the_list(discover, store, tmp_path):
    (run_id,) = submitted(discover)["runs"]
    store.claim("one")
    assert "running" in discover("runs")[1]
    out = discover("cancel", run_id)[1]
    assert "is being cancelled by its worker" in out
    assert "cancelling" in discover("runs")[1]
    forget_hearts(f"sqlite:///{tmp_path / 'discover.db'}")
    assert "is cancelled" in discover("cancel", run_id)[1]
