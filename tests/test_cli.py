"""The command line as a user sees it: exit codes, one JSON object, one clear line per mistake."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from discover.report import SUMMARY_KEYS

KEYS = (
    "run model task metric ablation tau prompts seed engine edges kept evaluated dead damage "
    "damage_all_ablated seconds circuit_hash"
)
IOI = "run --model tiny-ioi --task ioi --prompts 6 --seed 0 --tau 0.05 --json".split()
FAST = (
    "run --model tracr-xproportion --task xproportion --prompts 6 --metric l2 --tau 0.01 --json"
).split()


def process(*words, cwd, **env):
    return subprocess.Popen(
        [sys.executable, "-m", "discover.cli", *words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_goes_away_is_no_failure(tmp_path):
    reader = process("tasks", cwd=tmp_path)
    reader.stdout.close()
    assert (reader.wait(60), reader.stderr.read()) == (0, "")


def test_run_prints_exactly_one_json_object_that_the_rows_bear_out(discover):
    code, out, err = discover(*IOI)
    assert code == 0
    assert out.count("\n") == 1
    result = json.loads(out)
    assert list(result) == SUMMARY_KEYS == KEYS.split()
    assert result["edges"] == 479 == result["evaluated"] + result["dead"]
    assert "checking the model" in err
    code, out, _ = discover("show", "latest", "--decisions", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert list(rows[0]) == "step sender receiver before after score outcome".split()
    assert [row["step"] for row in rows] == list(range(479))
    kept = sorted(f"{r['sender']}->{r['receiver']}" for r in rows if r["outcome"] == "kept")
    assert len(kept) == result["kept"]
    assert hashlib.sha256("\n".join(kept).encode()).hexdigest() == result["circuit_hash"]
    assert sum(r["outcome"] == "dead" for r in rows) == result["dead"]
    for row, following in itertools.pairwise(rows):
        now = row["before"] if row["outcome"] == "kept" else row["after"]
        assert following["before"] == pytest.approx(now, abs=1e-5)


def test_show_and_runs_and_every_export(discover, tmp_path):
    result = json.loads(discover(*FAST)[1])
    prefix = result["run"][:6]
    code, out, _ = discover("show", prefix)
    assert code == 0
    assert "tracr-xproportion" in out
    assert result["circuit_hash"] in out
    shown = json.loads(discover("show", prefix, "--json")[1])
    assert {key: shown[key] for key in SUMMARY_KEYS} == result
    assert "tracr-xproportion" in discover("runs")[1]
    assert json.loads(discover("runs", "--json")[1])["runs"][0]["run"] == result["run"]
    assert json.loads(discover("runs", "--json", "--status", "failed")[1]) == {"runs": []}
    starts = {
        "dot": b"digraph",
        "svg": b"<?xml",
        "pdf": b"%PDF",
        "png": b"\x89PNG",
        "json": b"{",
        "graphml": b"<?xml",
        "prompts": b"{",
    }
    for fmt, start in starts.items():
        target = tmp_path / f"circuit.{fmt}"
        code, out, _ = discover("export", prefix, "--format", fmt, "-o", target)
        assert (code, out) == (0, "")
        assert target.read_bytes().lstrip()[:16].startswith(start) or start in target.read_bytes()
    code, _, _ = discover("export", "latest", "-o", "by-suffix.svg")
    assert code == 0
    assert (tmp_path / "by-suffix.svg").is_file()
    data = json.loads((tmp_path / "circuit.json").read_text())
    assert data["circuit_hash"] == result["circuit_hash"]


def test_a_draft_changes_the_cost_and_not_the_circuit(discover):
    first = json.loads(discover(*IOI)[1])
    wasted = json.loads(discover("show", "latest", "--json")[1])["evidence"]["wasted"]
    second = json.loads(discover(*IOI, "--draft", first["run"])[1])
    assert second["circuit_hash"] == first["circuit_hash"]
    evidence = json.loads(discover("show", "latest", "--json")[1])["evidence"]
    assert evidence["wasted"] == 0 < wasted
    code, _, err = discover(*IOI, "--draft", "zzz")
    assert code == 2
    assert "no run 'zzz'" in err


def test_attribution_drafts_and_memory_change_only_the_cost(discover):
    plain = json.loads(discover(*IOI)[1])
    for words in (["--draft", "eap-ig"], ["--memory", "40MiB"], ["--block", "1"]):
        code, out, err = discover(*IOI, *words)
        assert code == 0, err
        assert json.loads(out)["circuit_hash"] == plain["circuit_hash"]


def test_bfloat16_says_that_decisions_may_differ(discover):
    code, out, _ = discover(*IOI, "--dtype", "bfloat16")
    assert code == 0
    assert json.loads(out)["decisions_may_differ"] is True
    assert "decisions may differ" in discover("show", "latest")[1]
    assert "decisions_may_differ" not in json.loads(discover(*IOI)[1])


def test_sweep_prints_a_row_a_threshold_and_does_nothing_twice(discover):
    words = "sweep --model tiny-ioi --task ioi --prompts 4 --taus 0.02:2:3log".split()
    code, out, _ = discover(*words)
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert table[0][:5] == ["tau", "run", "kept", "connected", "evaluated"]
    assert [row[0] for row in table[1:]] == ["0.02", "0.2", "2"]
    kept = [int(row[2]) for row in table[1:]]
    assert kept == sorted(kept, reverse=True)
    assert len(json.loads(discover("runs", "--json")[1])["runs"]) == 3
    runs = json.loads(discover(*words, "--json")[1])["runs"]
    assert [run["run"][:8] for run in runs] == [row[1] for row in table[1:]]
    assert set(runs[0]) == {*KEYS.split(), "connected"}


def test_score_ranks_edges_and_writes_them_all(discover, tmp_path):
    words = "score --model tiny-ioi --task ioi --prompts 4".split()
    code, out, _ = discover(*words, "--top", "2", "-o", "scores.csv")
    assert code == 0
    best = out.splitlines()[-2].split()
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "sender,receiver,score"
    assert len(lines) == 480
    assert max(float(line.split(",")[2]) for line in lines[1:]) == pytest.approx(
        float(best[1]), rel=1e-3
    )
    found = json.loads(discover(*words, "--json", "--method", "eap-ig", "--metric", "kl")[1])
    assert found["method"] == "eap-ig"
    assert len(found["top"]) == 20
    rows = discover(*words, "-o", "-")[1].splitlines()
    assert len(rows) == 479
    assert set(json.loads(rows[0])) == {"sender", "receiver", "score"}


def test_exported_prompts_run_again_to_the_same_circuit(discover):
    first = json.loads(discover(*IOI)[1])
    assert discover("export", "latest", "--format", "prompts", "-o", "p.jsonl")[0] == 0
    words = "run --model tiny-ioi --prompts-file p.jsonl --tau 0.05 --json".split()
    second = json.loads(discover(*words)[1])
    assert second["circuit_hash"] == first["circuit_hash"]
    assert second["damage"] == first["damage"]


def mistakes(tmp_path):
    good = '{"clean": "w x", "corrupted": "x w"}'
    (tmp_path / "bad.jsonl").write_text(f"{good}\nnonsense\n{good}\n{{}}\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "long.jsonl").write_text('{"clean": "w x x", "corrupted": "x w"}')
    (tmp_path / "unknown.jsonl").write_text('{"clean": "w q", "corrupted": "x w"}')
    (tmp_path / "two.jsonl").write_text(
        '{"clean": "Then Mary", "corrupted": "Then John", "correct": [" Mary John"], '
        '"incorrect": [" John"]}'
    )
    (tmp_path / "file").write_text("not a database, but text that goes on for a while")
    x = ["run", "--model", "tracr-xproportion", "--metric", "l2"]
    return {
        ("run", "--model", "no-such", "--task", "ioi"): "unknown model 'no-such'",
        (*x, "--task", "nonsense"): "unknown task 'nonsense'",
        (*x, "--task", "ioi"): "names",
        tuple(x): "give --task",
        (*x, "--task", "xproportion", "--tau", "0"): "tau must be a positive number",
        (*x, "--task", "xproportion", "--tau", "-1"): "tau must be a positive number",
        (*x, "--task", "xproportion", "--tau", "nan"): "tau must be a positive number",
        (*x, "--task", "xproportion", "--tau", "many"): "'many' is not a valid float",
        (*x, "--task", "xproportion", "--prompts", "0"): "at least 1",
        (*x, "--task", "xproportion", "--corruption", "abc"): "no option 'corruption'",
        (*x, "--task", "xproportion", "--task-option", "length"): "KEY=VALUE",
        (*x, "--task", "xproportion", "--device", "cuda:99"): "cuda:99",
        (*x, "--task", "xproportion", "--device", "mps"): "it has no float64",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "--device", "mps"): "it has no float64",
        (*x, "--task", "xproportion", "--db", "nosuch://x"): "nosuch",
        (*x, "--task", "xproportion", "--db", "file"): "file",
        (*x, "--task", "xproportion", "--db", "file/below.db"): "file",
        (*x, "--prompts-file", "bad.jsonl"): "line 2",
        (*x, "--prompts-file", "bad.jsonl", "--json"): "line 4",
        (*x, "--prompts-file", "empty.jsonl"): "is empty",
        (*x, "--prompts-file", "missing.jsonl"): "missing.jsonl",
        (*x, "--prompts-file", "long.jsonl"): "equally long",
        (*x, "--prompts-file", "unknown.jsonl"): "'q'",
        (*x, "--prompts-file", "long.jsonl", "--corruption", "abc"): "belong to tasks",
        ("run", "--model", "tiny-ioi", "--prompts-file", "two.jsonl"): "is 2 tokens",
        ("run", "--model", "tiny-ioi", "--task", "ioi", "--metric", "auc"): "auc",
        ("run", "--model", "tiny-ioi", "--task", "ioi", "--draft", "eap"): "or the method eap-ig",
        ("run", "--model", "tiny-ioi", "--task", "ioi", "--memory", "lots"): "not a size of memory",
        ("run", "--model", "tiny-ioi", "--task", "ioi", "--memory", "1MiB"): "may be used",
        ("sweep", "--model", "tiny-ioi", "--task", "ioi", "--taus", "1:2"): "is not a threshold",
        ("sweep", "--model", "tiny-ioi", "--task", "ioi", "--taus", "0"): "positive number",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "--method", "x"): "unknown method 'x'",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "--metric", "kl"): "eap-ig",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "--steps", "2"): "belongs to",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "-o", "x.txt"): "'txt'",
        ("score", "--model", "tiny-ioi", "--task", "ioi", "-o", "-", "--json"): "stdout",
        ("show", "zzz"): "no run 'zzz'",
        ("show", "latest", "--db", "missing.db"): "missing.db",
        ("resume", "zzz"): "no run 'zzz'",
        ("export", "latest", "--format", "docx", "-o", "x"): "unknown format 'docx'",
        ("export", "latest", "--format", "svg", "-o", "no/such/dir/x.svg"): "cannot write",
        ("export", "latest", "--format", "json", "--all-edges", "-o", "x.json"): "all_edges",
        ("nonsense",): "nonsense",
        ("run", "--nonsense"): "--nonsense",
    }


def test_every_mistake_is_one_clear_error_and_loses_nothing(discover, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert discover(*FAST)[0] == 0
    before = discover("runs", "--json")[1], discover("show", "latest", "--decisions")[1]
    for words, reason in mistakes(tmp_path).items():
        code, out, err = discover(*words)
        assert code == 2, (words, err)
        assert out == "", words
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (words, err)
        assert reason in err, (words, err)
        assert "Traceback" not in err
    assert before == (
        discover("runs", "--json")[1],
        discover("show", "latest", "--decisions")[1],
    )


def test_a_locked_database_is_one_clear_error(discover, tmp_path):
    assert discover(*FAST)[0] == 0
    holder = sqlite3.connect(tmp_path / "discover.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    code, out, err = discover(*FAST)
    holder.execute("ROLLBACK")
    assert code == 2
    assert out == ""
    assert "locked" in err
    assert "Traceback" not in err


def test_database_commands(discover, tmp_path):
    assert discover("db", "current")[0] == 2
    assert "at schema" in discover("db", "upgrade")[1]
    code, out, _ = discover("db", "current")
    assert code == 0
    version = out.split()[0]
    assert f"this version: {version}" in out
    with sqlite3.connect(tmp_path / "discover.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    code, _, err = discover("runs")
    assert code == 2
    assert "newer" in err


def test_listings(discover):
    assert "tiny-ioi" in discover("models")[1]
    assert "corruption: abc | flipped" in discover("tasks")[1]
    assert {m["name"] for m in json.loads(discover("models", "--json")[1])["models"]} >= {
        "tiny-ioi",
        "smollm2",
    }
    assert json.loads(discover("tasks", "--json")[1])["tasks"][0]["name"] == "ioi"
    assert discover("--help")[0] == 0
    assert discover("--version")[1].startswith("discover")
    assert discover()[0] == 2


def test_what_needs_no_model_imports_no_torch(discover, tmp_path):
    assert discover(*FAST)[0] == 0
    script = (
        "import sys\n"
        "from discover import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "assert not {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\n"
    )
    for words in (
        ["--help"],
        ["run", "--help"],
        ["runs"],
        ["show", "latest"],
        ["show", "latest", "--decisions", "--json"],
        ["export", "latest", "-o", "x.svg"],
        ["export", "latest", "--format", "prompts", "-o", "-"],
        ["models"],
        ["tasks"],
        ["db", "current"],
    ):
        subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, check=True)


def stored(path):
    try:
        with sqlite3.connect(path, timeout=5) as raw:
            return raw.execute("SELECT count(*) FROM decisions").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def decisions(discover, ref):
    return discover("show", ref, "--decisions")[1]


# Long enough to be killed in the middle by either engine.
SLOW = {
    "reference": [*IOI, "--engine", "reference"],
    "exact": [*IOI, "--engine", "exact", "--prompts", "100", "--tau", "0.0003"],
}


@pytest.mark.parametrize("engine", SLOW)
def test_a_run_killed_in_the_middle_resumes_to_the_same_rows(discover, tmp_path, engine):
    """Only kills after the first and before the last stored decision count."""
    words = SLOW[engine]
    calm = json.loads(discover(*words)[1])
    calm_rows = decisions(discover, calm["run"])
    draw = random.Random(0)
    counted = 0
    for attempt in range(12):
        path = tmp_path / f"killed{attempt}.db"
        victim = process(*words, "--db", str(path), cwd=tmp_path)
        while victim.poll() is None and not stored(path):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        if not 0 < stored(path) < 479:
            continue
        counted += 1
        code, out, err = discover("export", "latest", "-o", "x.svg", "--db", path)
        assert code == 2
        assert "discover resume" in err
        code, out, _ = discover("resume", "latest", "--json", "--db", path)
        assert code == 0
        result = json.loads(out)
        same = set(SUMMARY_KEYS) - {"run", "seconds"}
        assert {k: result[k] for k in same} == {k: calm[k] for k in same}
        assert discover("show", "latest", "--decisions", "--db", path)[1] == calm_rows
        if counted == 2:
            break
    assert counted == 2


def test_ctrl_c_exits_130_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "runs.db"
    # Long enough to be still at it on a machine that is busy with other things.
    words = [*SLOW["reference"], "--prompts", "60"]
    victim = process(*words, "--db", str(path), cwd=tmp_path)
    while victim.poll() is None and not stored(path):
        time.sleep(0.01)
    victim.send_signal(signal.SIGINT)
    out, err = victim.communicate()
    assert victim.returncode == 130
    assert out == ""
    assert "discover resume" in err
    assert "Traceback" not in err
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT status FROM runs").fetchall() == [("interrupted",)]


def test_same_circuit_under_hash_seeds_and_threads(tmp_path):
    found = []
    for seed, threads, engine in (
        ("0", "1", "reference"),
        ("0", "1", "exact"),
        ("1", "2", "exact"),
        ("4242", "1", "exact"),
    ):
        done = process(
            *IOI,
            "--engine",
            engine,
            "--threads",
            threads,
            "--db",
            f"{seed}-{threads}-{engine}.db",
            cwd=tmp_path,
            PYTHONHASHSEED=seed,
            OMP_NUM_THREADS=threads,
        )
        out, err = done.communicate()
        assert done.returncode == 0, err
        result = json.loads(out)
        found.append({k: result[k] for k in ("circuit_hash", "kept", "evaluated", "dead")})
    assert found[1:] == [found[0]] * 3


INTERRUPTED = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "discover.cli.queueing":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from discover.__main__ import main
main()
"""


def test_ctrl_c_while_the_command_line_loads_ends_it_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_package_is_the_command_line_too():
    command = [sys.executable, "-m", "discover", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("discover, version")
