"""Every route of the HTTP API against the store, on both databases."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC
from types import MappingProxyType

import pytest
from helpers_service import (
    BODY,
    GRAPH,
    begun_run,
    client_of,
    decisions,
    evaluated,
    finished_run,
    submit,
)
from hypothesis import given
from hypothesis import strategies as st

from discover.acdc import circuit_of
from discover.canonical import canonical_names
from discover.catalogue import KNOWN_MODELS
from discover.service.answers import dumps, plain
from discover.service.circuits import MEDIA
from discover.spec import METRICS
from discover.store import Store
from discover.tasks import TASKS


@pytest.fixture
def store(database_url):
    with Store.open(database_url) as opened:
        yield opened


@pytest.fixture
def client(store):
    return client_of(store)


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """One client for all that is refused before it gets to a database."""
    with Store.open(str(tmp_path_factory.mktemp("lone") / "runs.db")) as opened:
        yield client_of(opened)


def fields(answer):
    return [each["field"] for each in answer.json()["error"]["fields"]]


def error(answer, status, kind):
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert set(told) == {"kind", "message", "fields"}
    assert told["kind"] == kind
    assert told["message"] and "\n" not in told["message"]
    return told["message"]


def test_a_submitted_run_is_a_job_with_just_that_spec(client, store):
    given = {
        "metric": "logit_diff", "ablation": "mean", "mean_by": "role", "reference": 7,
        "order": "random:3", "prompts": 5, "seed": 9, "bos": True, "dtype": "float64",
        "task_options": {"corruption": "flipped"}, "note": "<b>mine</b>",
        "options": {"block": 8, "memory": "2GiB", "draft": "eap", "threads": 2},
    }  # fmt: skip
    answer = submit(client, **given)
    assert answer.status_code == 201
    told = answer.json()
    job = store.job(told["id"])
    for name in ("metric", "ablation", "mean_by", "reference", "order", "prompts", "seed", "bos"):
        assert getattr(job.spec, name) == given[name]
    assert job.spec.task_options == {"corruption": "flipped"}
    assert (job.spec.tau, job.spec.dtype, job.engine) == (0.1, "float64", "exact")
    assert job.options == {"block": 8, "memory": 2 * 2**30, "draft": "eap", "threads": 2}
    assert job.note == told["note"] == "<b>mine</b>"
    assert (told["status"], told["unit"], told["edges"]) == ("queued", "logits", None)
    assert (
        client.get("/api/runs/" + answer.headers["location"].removeprefix("runs/")).json()["id"]
        == told["id"]
    )


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"tau": 0}, ["tau"]),
        ({"tau": "0.1"}, ["tau"]),
        ({"task": "nope"}, ["task"]),
        ({"task": None}, ["task"]),
        ({"task_options": {"corruption": "x"}}, ["task_options.corruption"]),
        ({"task_options": {"nope": 1}}, ["task_options.nope"]),
        ({"task_options": {"a": {"b": 1}}}, ["task_options.a"]),
        ({"metric": "x"}, ["metric"]),
        ({"order": "random"}, ["order"]),
        ({"mean_by": "role", "reference": 3}, ["mean_by", "reference"]),
        ({"seed": -1, "prompts": 0, "bos": 1}, ["bos", "prompts", "seed"]),
        ({"tua": 1}, ["tua"]),
        ({"options": {"block": 0, "x": 1}}, ["options.block", "options.x"]),
        ({"options": {"memory": "lots"}}, ["options.memory"]),
        ({"options": {"draft": "eap"}}, ["options.draft"]),
        ({"options": {"draft": "0123abc"}}, ["options.draft"]),
        ({"options": {"draft": "../../x"}}, ["options.draft"]),
        ({"engine": "reference", "options": {"block": 3}}, ["options.block"]),
        ({"prompts_file": {"name": "a.jsonl", "text": "{}"}}, ["prompts_file"]),
        ({"prompts_file": "/etc/passwd"}, ["prompts_file"]),
        ({"task": None, "prompts_file": {"name": "../a", "text": "x"}}, ["prompts_file"]),
        ({"task": None, "prompts_file": {"name": "a", "text": " "}}, ["prompts_file"]),
        ({"task": None, "prompts_file": f"sha256:{'0' * 64}/a"}, ["prompts_file"]),
        ({"reference": "prompts.jsonl", "ablation": "mean"}, ["reference"]),
        ({"model": "planted:layers=x"}, ["model"]),
        ({"note": 1}, ["note"]),
        ({"note": "x" * 10_001}, ["note"]),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_queued(lone, changes, wrong):
    answer = submit(lone, **changes)
    assert answer.status_code == 422, answer.text
    assert sorted(fields(answer)) == wrong
    assert lone.get("/api/runs").json()["total"] == 0


def test_everything_wrong_is_said_at_once(lone):
    answer = submit(lone, task="nope", order="nope", options={"memory": "x"})
    assert sorted(fields(answer)) == ["options.memory", "order", "task"]


def test_uploaded_prompts_are_stored_under_their_hash_and_can_be_named_again(client, store):
    text = '{"clean": "<script>", "corrupted": "b", "correct": [" c"], "incorrect": [" d"]}\n'
    first = submit(client, task=None, prompts_file={"name": "my prompts.jsonl", "text": text})
    name = store.job(first.json()["id"]).spec.prompts_file
    assert name.startswith("sha256:") and name.endswith("/my_prompts.jsonl")
    assert store.file(name) == text
    again = submit(client, task=None, prompts_file=name, ablation="mean", reference=name)
    spec = store.job(again.json()["id"]).spec
    assert (spec.prompts_file, spec.reference) == (name, name)


def test_a_draft_is_stored_as_the_whole_id_of_its_run(client, store):
    run_id = finished_run(store)
    answer = submit(client, options={"draft": run_id[:8]})
    assert store.job(answer.json()["id"]).options == {"draft": run_id}


def test_the_list_filters_sorts_and_pages(client, store):
    ids = [finished_run(store, tau=tau) for tau in (0.3, 0.1, 0.2)]
    queued = submit(client).json()["id"]
    page = client.get("/api/runs", params={"limit": 2, "sort": "tau"}).json()
    assert (page["total"], page["limit"], page["offset"]) == (4, 2, 0)
    assert [run["tau"] for run in page["items"]] == [0.3, 0.2]
    assert page["statuses"] == {"done": 3, "queued": 1}
    rest = client.get("/api/runs", params={"offset": 2, "sort": "tau"}).json()["items"]
    assert {run["id"] for run in rest} == {ids[1], queued}
    only = client.get("/api/runs", params={"status": "queued"}).json()
    assert [run["id"] for run in only["items"]] == [queued]
    client.patch(f"/api/runs/{ids[0]}", json={"note": "100% <i>"})
    found = client.get("/api/runs", params={"search": "100%"}).json()["items"]
    assert [run["note"] for run in found] == ["100% <i>"]
    assert client.get("/api/runs", params={"search": "' OR 1=1 --"}).json()["total"] == 0
    assert client.get("/api/runs", params={"model": "x' OR 'a'='a"}).json()["total"] == 0
    hostile = "id; DROP TABLE runs"
    assert client.get("/api/runs", params={"sort": hostile}).status_code == 422
    assert client.get("/api/runs", params={"status": hostile}).status_code == 422
    assert client.get("/api/runs", params={"limit": 100_000}).status_code == 422
    assert client.get("/api/runs", params={"offset": -1}).status_code == 422


def test_a_run_is_shown_whole(client, store):
    run_id = finished_run(store)
    evaluation = evaluated(store, run_id)
    sweep = store.add_sweep(store.run(run_id).spec, [(0.02, run_id)])
    told = client.get(f"/api/runs/{run_id[:10]}").json()
    assert told["id"] == client.get("/api/runs/latest").json()["id"] == run_id
    assert told["damage_all_ablated"] == "Infinity"
    assert (told["evidence"], told["sweeps"]) == ({"checked": True}, [sweep])
    assert [each["id"] for each in told["evaluations"]] == [evaluation]
    assert (told["kept"], told["edges"], told["prompts"]) == (told["kept"], len(GRAPH), 2)
    whole = client.get(f"/api/evaluations/{evaluation}").json()
    assert whole["measurements"] == [
        {"subject": "circuit", "measure": "faithfulness", "value": 0.5, "unit": "fraction",
         "low": 0.25, "high": "Infinity", "extra": {}}
    ]  # fmt: skip
    heads = client.get("/api/evaluations", params={"run": run_id}).json()["items"]
    assert [head["run"] for head in heads] == [run_id]
    waiting = submit(client).json()["id"]
    assert client.get(f"/api/runs/{waiting}").json()["evaluations"] == []
    assert client.get("/api/evaluations", params={"run": waiting}).json() == {"items": []}


def test_notes_cancel_retry_delete(client, store):
    run_id = submit(client).json()["id"]
    assert client.patch(f"/api/runs/{run_id}", json={"note": "x"}).json()["note"] == "x"
    error(client.patch(f"/api/runs/{run_id}", json={"note": "x", "tau": 1}), 422, "ValidationError")
    assert client.post(f"/api/runs/{run_id}/cancel").json()["status"] == "cancelled"
    error(client.post(f"/api/runs/{run_id}/cancel", json={}), 409, "StateError")
    assert client.post(f"/api/runs/{run_id}/retry", json={}).json()["status"] == "queued"
    error(client.post(f"/api/runs/{run_id}/retry"), 409, "StateError")
    assert store.claim("w") is not None
    error(client.delete(f"/api/runs/{run_id}"), 409, "StateError")
    assert client.post(f"/api/runs/{run_id}/cancel").json()["cancelling"] is True
    done = finished_run(store)
    error(client.post(f"/api/runs/{done}/retry"), 409, "StateError")
    error(client.post(f"/api/runs/{done}/cancel"), 409, "StateError")
    assert client.delete(f"/api/runs/{done}").status_code == 204
    error(client.get(f"/api/runs/{done}"), 404, "NotFoundError")
    error(client.delete(f"/api/runs/{done}"), 404, "NotFoundError")
    by_hand = begun_run(store, 3)
    assert "under way" in error(client.delete(f"/api/runs/{by_hand}"), 409, "StateError")


def test_decisions_page_by_step_and_outcome(client, store):
    run_id = finished_run(store)
    want = decisions()
    seen, after = [], -1
    while after is not None:
        page = client.get(f"/api/runs/{run_id}/decisions", params={"after": after, "limit": 7})
        assert page.json()["total"] == len(GRAPH)
        seen += page.json()["items"]
        after = page.json()["next"]
    assert [row["step"] for row in seen] == list(range(len(GRAPH)))
    for row, decision in zip(seen, want, strict=True):
        assert f"{row['sender']}->{row['receiver']}" == decision.edge.name
        assert (row["before"], row["after"]) == (decision.before, decision.after)
        assert (row["score"], row["outcome"]) == (decision.score, decision.outcome)
    kept = client.get(f"/api/runs/{run_id}/decisions", params={"outcome": "kept"}).json()
    assert kept["total"] == len(kept["items"]) == sum(not d.removed for d in want)
    assert kept["next"] is None
    queued = submit(client).json()["id"]
    empty = client.get(f"/api/runs/{queued}/decisions").json()
    assert empty == {"total": 0, "next": None, "items": []}


def test_the_view_and_every_export_are_of_that_circuit(client, store):
    run_id = finished_run(store, model="<script>alert(1)</script>")
    circuit = circuit_of(GRAPH, store.decisions(run_id))
    view = client.get(f"/api/runs/{run_id}/view").json()
    assert {f"{e['sender']}->{e['receiver']}" for e in view["edges"]} == {
        edge.name for edge in circuit.edges
    }
    few = client.get(f"/api/runs/{run_id}/view", params={"edges": 2}).json()
    assert (few["shown"], few["total"]) == (2, len(circuit))
    assert [edge["rank"] for edge in few["edges"]] in ([1, 2], [2, 1])
    for fmt, media in MEDIA.items():
        answer = client.get(f"/api/runs/{run_id}/export/{fmt}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(media.partition(";")[0])
        attached = answer.headers["content-disposition"]
        assert attached.startswith(f'attachment; filename="discover-{run_id[:8]}.')
        assert answer.content
        if fmt in ("svg", "graphml", "html"):
            assert b"<script>alert(1)" not in answer.content
    assert circuit.hash in client.get(f"/api/runs/{run_id}/export/json").text
    assert client.get(f"/api/runs/{run_id}/export/prompts").text == store.prompts_jsonl(run_id)
    error(client.get(f"/api/runs/{run_id}/export/pickle"), 422, "ValidationError")
    half = begun_run(store, 5)
    error(client.get(f"/api/runs/{half}/export/svg"), 409, "StateError")
    error(client.get(f"/api/runs/{half}/export/html"), 409, "StateError")
    assert client.get(f"/api/runs/{half}/view").json()["total"] == 2


def test_two_circuits_side_by_side(client, store):
    left, right = finished_run(store, tau=0.1), finished_run(store, tau=0.2)
    told = client.get("/api/compare", params={"left": left, "right": right[:9]}).json()
    assert told["edges"]["jaccard"] == 1.0
    assert told["spec_differences"] == {"tau": {"left": 0.1, "right": 0.2}}
    assert {edge["side"] for edge in told["view"]["edges"]} == {"both"}
    known = {"left": "canonical:ioi", "right": "canonical:ioi-heads"}
    told = client.get("/api/compare", params=known).json()
    assert {edge["side"] for edge in told["view"]["edges"]} <= {"both", "left", "right"}
    assert told["left"]["name"] == "canonical:ioi" and told["roles"]
    other = {"left": left, "right": "canonical:ioi"}
    error(client.get("/api/compare", params=other), 422, "MismatchError")
    for ref in ("canonical:nope", "../../etc/passwd", "abcd", "canonical:../x"):
        answer = client.get("/api/compare", params={"left": ref, "right": left})
        error(answer, 404, "NotFoundError")
    half = begun_run(store, 5)
    error(client.get("/api/compare", params={"left": half, "right": left}), 409, "StateError")


def test_sweeps(client, store):
    answer = client.post("/api/sweeps", json={**BODY, "taus": "0.01:1:3log", "note": "s"})
    assert answer.status_code == 422 and fields(answer) == ["tau"]
    body = {key: value for key, value in BODY.items() if key != "tau"}
    made = client.post("/api/sweeps", json=body | {"taus": "0.01:1:3log", "note": "s"}).json()
    assert [point["tau"] for point in made["runs"]] == [0.01, 0.1, 1.0]
    again = client.post("/api/sweeps", json=body | {"taus": [0.5, 0.25, 0.5]}).json()
    assert [point["tau"] for point in again["runs"]] == [0.25, 0.5]
    listed = client.get("/api/sweeps").json()["items"]
    assert [each["id"] for each in listed] == [again["id"], made["id"]]
    shown = client.get(f"/api/sweeps/{made['id'][:8]}").json()
    assert [run["tau"] for run in shown["runs"]] == [0.01, 0.1, 1.0]
    assert [run["note"] for run in shown["runs"]] == ["s"] * 3
    of = client.get("/api/runs", params={"sweep": made["id"]}).json()
    assert [run["tau"] for run in of["items"]] == [0.01, 0.1, 1.0]
    client.post(f"/api/runs/{made['runs'][1]['run']}/cancel")
    cancelled = client.post(f"/api/sweeps/{made['id']}/cancel", json={}).json()
    assert {run["status"] for run in cancelled["runs"]} == {"cancelled"}
    assert client.delete(f"/api/sweeps/{made['id']}").status_code == 204
    error(client.get(f"/api/sweeps/{made['id']}"), 404, "NotFoundError")
    assert client.get("/api/runs", params={"status": "cancelled"}).json()["total"] == 3
    for taus in ("", "0.1:1:999999999log", "x", [], [0], [-1.0], [0.1] * 201, "0.1:1:201lin"):
        refused = client.post("/api/sweeps", json=body | {"taus": taus})
        assert refused.status_code == 422 and fields(refused) == ["taus"], taus
    for draft in ("eap-ig", "latest"):
        drafted = body | {"taus": [0.1, 0.2], "options": {"draft": draft}}
        refused = client.post("/api/sweeps", json=drafted)
        assert refused.status_code == 422 and fields(refused) == ["options.draft"]
        assert "drafts each threshold from its neighbour" in refused.json()["error"]["message"]


def test_only_so_many_runs_may_wait(store):
    client = client_of(store, max_queued=2)
    assert submit(client).status_code == submit(client).status_code == 201
    assert "2 runs wait" in error(submit(client), 429, "QueueFullError")
    body = {"model": "tiny-ioi", "task": "ioi", "taus": "0.1,0.2"}
    error(client.post("/api/sweeps", json=body), 429, "QueueFullError")
    assert len(store.jobs()) == 2
    waiting = [job.id for job in store.jobs()]
    client.post(f"/api/runs/{waiting[0]}/cancel", json={})
    assert submit(client).status_code == 201
    error(client.post(f"/api/runs/{waiting[0]}/retry", json={}), 429, "QueueFullError")
    client.post(f"/api/runs/{waiting[1]}/cancel", json={})
    assert client.post(f"/api/runs/{waiting[0]}/retry", json={}).status_code == 200


def test_what_there_is(client, store):
    models = client.get("/api/models").json()
    assert [m["name"] for m in models["items"]] == [m.name for m in KNOWN_MODELS]
    assert models["any"] is False
    tasks = {task["name"]: task for task in client.get("/api/tasks").json()["items"]}
    assert set(tasks) == set(TASKS)
    assert tasks["induction"]["options"]["length"] == "int"
    assert "abc" in tasks["ioi"]["options"]["corruption"]
    told = client.get("/api/settings").json()
    assert told["metrics"] == METRICS and set(told["formats"]) == set(MEDIA)
    assert told["defaults"]["tau"] == 0.02 and told["auth"] is False
    names = [known["name"] for known in client.get("/api/canonical").json()["items"]]
    assert names == list(canonical_names())
    known = client.get("/api/canonical/ioi").json()
    assert "a9.h9" in known["roles"]["name mover"] and known["edges"]
    planted = "planted:layers=2,heads=2,edges=3,seed=0"
    assert len(client.get(f"/api/canonical/{planted}").json()["edges"]) == 3
    for name in ("nope", "planted:layers=100", "planted:x=1", "..%2f..%2fx"):
        error(client.get(f"/api/canonical/{name}"), 404, "NotFoundError")
    store.add_worker("w<b>", host="h", pid=1, device="cpu")
    worker = client.get("/api/workers").json()["items"][0]
    assert (worker["id"], worker["alive"], worker["run_id"]) == ("w<b>", True, None)
    assert client.get("/api/health").json() == {"status": "ok"}
    assert client.get("/api/version").json()["schema"] == "0003"


def test_infinities_and_times_are_written_so_that_any_parser_takes_them():
    assert dumps({"x": float("inf"), "y": [-float("inf")], "z": "\ud800<"}) == (
        '{"x":"Infinity","y":["-Infinity"],"z":"\\ud800<"}'
    )
    with pytest.raises(TypeError):
        dumps(object())


@dataclasses.dataclass
class Holds:
    x: object


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(), inner)
    | st.dictionaries(st.text(), inner).map(MappingProxyType)
    | inner.map(Holds),
)  # fmt: skip


@given(VALUES)
def test_json_is_the_same_with_infinities_and_without(value):
    """The short way, for values without an infinity, and the long way say the same."""
    assert dumps(value) == json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
