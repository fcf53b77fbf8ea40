"""What must not come in, each tried and refused; and nothing in an answer that a page would run."""

from __future__ import annotations

import ast
import hmac
import json
import logging
from pathlib import Path

import anyio
import pytest
from helpers_service import BODY, TOKEN, client_of, finished_run, submit
from hypothesis import given, settings
from hypothesis import strategies as st

import discover
from discover.errors import InputError, ModelError
from discover.service import access, guard
from discover.service.access import COOKIE, COOKIE_SECONDS, Access
from discover.service.guard import nests_deeper
from discover.service.settings import NotAllowedError, Settings, names_of, token_for
from discover.store import Store

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store.open(str(tmp_path_factory.mktemp("safe") / "runs.db")) as opened:
        yield opened


@pytest.fixture(scope="module")
def run_id(store):
    return finished_run(store)


@pytest.fixture
def client(store):
    return client_of(store)


def kind(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["kind"]


# --- models: a name may be a path or a download ---


@pytest.mark.parametrize(
    "name",
    ["gpt2", "/etc/passwd", "../x", "~/m", "a.gguf", "tiny-ioi/../x", "TINY-IOI", "file:///x",
     "planted:layers=17", "planted:d_mlp=9000", "planted:heads=128,layers=1"],
)  # fmt: skip
def test_models_that_are_on_no_list_are_refused(client, store, name):
    before = len(store.jobs())
    answer = submit(client, model=name)
    assert kind(answer, 403) == "NotAllowedError"
    assert answer.json()["error"]["fields"][0]["field"] == "model"
    assert len(store.jobs()) == before


def test_models_are_allowed_by_name_by_size_or_all(store):
    some = Settings(models=("gpt2", "/models/mine"))
    for name in ("gpt2", "/models/mine", "tiny-ioi", "planted:layers=2,heads=2,edges=3,seed=9"):
        some.check_model(name)
    for name in ("gpt2-medium", "/models/mine/..", "/models"):
        with pytest.raises(NotAllowedError):
            some.check_model(name)
    with pytest.raises(ModelError):
        some.check_model("planted:layers=0")
    Settings(any_model=True).check_model("/anything")
    listed = client_of(store, models=("gpt2",)).get("/api/models").json()["items"]
    assert listed[-1]["name"] == "gpt2"


# --- names and ids ---

HOSTILE = ["..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/", "latest%00", "'", '"',
           "1 OR 1=1", "1;DROP TABLE runs", "%", "_", "a" * 17, "g", "<script>", "\u0661", "-1",
           "..\\..\\x", "%ff%fe"]  # fmt: skip
PLACES = ["runs/{}", "runs/{}/view", "runs/{}/decisions", "runs/{}/events", "runs/{}/export/svg",
          "sweeps/{}", "evaluations/{}", "canonical/{}"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_ids_and_names_are_only_ids_and_names(client, run_id, place):
    for hostile in HOSTILE:
        answer = client.get("/api/" + place.format(hostile))
        assert answer.status_code in (404, 422), (hostile, answer.status_code, answer.text[:200])
        assert "root:" not in answer.text and "Traceback" not in answer.text
    assert client.get(f"/api/runs/{run_id}").status_code == 200


@pytest.mark.parametrize(
    "path", ["/static/../data.py", "/static/%2e%2e/data.py", "/static/..%2fdata.py", "/static//",
             "/static/....//data.py", "/static/%00", "/static/vendor/../../single.py", "/static"],
)  # fmt: skip
def test_static_files_are_those_of_the_page_alone(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 405), (path, answer.text[:100])
    assert "import" not in answer.text


def test_exports_are_named_by_the_run_alone(client, store):
    run_id = finished_run(store, model='x"\r\nSet-Cookie: a=b')
    header = client.get(f"/api/runs/{run_id}/export/dot").headers["content-disposition"]
    assert header == f'attachment; filename="discover-{run_id[:8]}.dot"'


# --- bodies ---


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(store):
    client = client_of(store, max_body=1000)
    large = json.dumps(BODY | {"note": "x" * 1000}).encode()
    assert kind(client.post("/api/runs", content=large, headers=JSON), 413) == "TooLargeError"
    chunks = (large[i : i + 100] for i in range(0, len(large), 100))
    assert kind(client.post("/api/runs", content=chunks, headers=JSON), 413) == "TooLargeError"
    lying = JSON | {"content-length": "9" * 30}
    assert kind(client.post("/api/runs", content=b"{}", headers=lying), 413) == "TooLargeError"
    small = json.dumps(BODY).encode()
    assert client.post("/api/runs", content=iter([small]), headers=JSON).status_code == 201


@pytest.mark.parametrize(
    "body", [b"[" * 5000, b'{"a":' * 5000, b"[" * 30 + b"]" * 30, b'{"x":' + b"[" * 40 + b"]" * 40]
)
def test_a_body_that_nests_deep_is_refused(client, body):
    answer = client.post("/api/runs", content=body, headers=JSON)
    assert kind(answer, 422) == "ValidationError"
    # Said before anything is parsed: a parser that recurses never sees it.
    assert answer.json()["error"]["message"] == "the body nests deeper than 20 levels"


@pytest.mark.parametrize("place", [{}, {"options": {}}, {"task_options": {}}, {"taus": []}])
def test_a_body_of_very_many_fields_is_refused_before_each_is_looked_at(client, place, monkeypatch):
    many = {f"k{n}": n for n in range(guard.MAX_ITEMS)}
    body = BODY | {
        key: many if isinstance(value, dict) else [0] * 6000 for key, value in place.items()
    }
    answer = client.post("/api/runs", json=body if place else body | many)
    assert kind(answer, 422) == "ValidationError"
    assert "fields and values" in answer.json()["error"]["message"]


def test_a_body_of_very_many_strings_is_refused_before_they_are_looked_at(client, monkeypatch):
    def never(*_):
        raise AssertionError("it takes a second")

    monkeypatch.setattr(guard, "nests_deeper", never)
    monkeypatch.setattr(guard, "has_more_items", never)
    body = b"[" + b'"\\\\"' * (2 * guard.MAX_ITEMS + 1) + b"]"
    answer = client.post("/api/runs", content=body, headers=JSON)
    assert "fields and values" in answer.json()["error"]["message"]


def test_a_text_of_very_many_commas_is_no_body_of_many_fields(client, store):
    text = '{"clean": "a, b: c", "corrupted": "d, e"}\n' * guard.MAX_ITEMS
    body = {key: value for key, value in BODY.items() if key != "task"}
    answer = client.post(
        "/api/runs", json=body | {"prompts_file": {"name": "p.jsonl", "text": text}}
    )
    assert answer.status_code == 201, answer.text


def test_who_has_no_token_cannot_send_much(store):
    client = client_of(store, token=TOKEN)
    for path in ("login", "logout"):
        large = json.dumps({"token": "x" * guard.LOGIN_BODY})
        answer = client.post(f"/api/{path}", content=large, headers=JSON)
        assert kind(answer, 413) == "TooLargeError"
        chunks = (large[at : at + 1000].encode() for at in range(0, len(large), 1000))
        assert kind(client.post(f"/api/{path}", content=chunks, headers=JSON), 413)
    assert client.post("/api/login", json={"token": TOKEN}).status_code == 204


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"{", b'"', b"[]", b"null", b"1", b"NaN", b'{"model": NaN}', b"\xff\xfe{}", b"\x00",
     b'{"tau": 1e999, "model": "tiny-ioi", "task": "ioi"}', b'{"seed": ' + b"9" * 5000 + b"}",
     b'{"model": "tiny-ioi", "task": "ioi", "note": "\\ud800"}', b'{"a":1}{"a":2}'],
)  # fmt: skip
def test_a_body_that_is_rubbish_is_refused(client, body):
    answer = client.post("/api/runs", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["kind"] == "ValidationError"


@pytest.mark.parametrize("kind_", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_must_say_that_it_is_json(client, kind_):
    answer = client.post("/api/runs", content=json.dumps(BODY), headers={"content-type": kind_})
    assert kind(answer, 415) == "ContentTypeError"


NESTED = st.recursive(
    st.none() | st.booleans() | st.text('[]{}"\\a', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[}"\\', max_size=4), inner)
    ),
    max_leaves=20,
)


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, (dict, list)) else 0


@given(NESTED, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_depth_is_that_of_the_value_and_brackets_in_strings_do_not_count(value, most):
    assert nests_deeper(json.dumps(value).encode(), most) == (depth(value) > most)


@given(st.binary(max_size=60) | st.text('[]{}"\\', max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_no_bytes_upset_the_measuring_of_depth(body):
    nests_deeper(body, 3)


# --- where a request comes from ---


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9000"},
        {"origin": "moz-extension://localhost:8000"},
        {"origin": "http://localhost:8000.evil.example"},
        {"origin": "localhost:8000"},
        {"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_changes_from_other_pages_are_refused(store, run_id, headers, token):
    client = client_of(store, token=token)
    shown = headers | ({"authorization": f"Bearer {token}"} if token else {})
    before = store.listed()[0]
    for method, path, body in (
        ("POST", "/api/runs", BODY),
        ("PATCH", f"/api/runs/{run_id}", {"note": "x"}),
        ("DELETE", f"/api/runs/{run_id}", None),
        ("POST", f"/api/runs/{run_id}/cancel", {}),
        ("POST", "/api/login", {"token": TOKEN}),
    ):
        answer = client.request(method, path, json=body, headers=shown)
        assert kind(answer, 403) == "CrossOriginError"
        assert "access-control-allow-origin" not in answer.headers
    assert store.listed()[0] == before
    assert client.get("/api/runs", headers=shown).status_code == 200


def test_changes_from_the_own_page_and_from_programs_pass(client, run_id):
    for headers in (
        {},
        {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        answer = client.patch(f"/api/runs/{run_id}", json={"note": "x"}, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1",
     "", "a b", "localhost:8000@evil.example", "[::1", "localhost:x", "localhost/", "0x7f.1"],
)  # fmt: skip
def test_a_name_that_is_not_the_servers_is_refused(client, host):
    for path in ("/", "/api/runs", "/api/health", "/static/app.css"):
        assert kind(client.get(path, headers={"host": host}), 403) == "HostError"


def test_the_names_of_a_server(store):
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "localhost."):
        assert client_of(store).get("/api/health", headers={"host": host}).status_code == 200
    hosts, any_address = names_of("0.0.0.0", ("Lab.Example",))
    client = client_of(store, hosts=hosts, any_address=any_address, token=TOKEN)
    for host in ("lab.example", "192.168.1.5:8000", "[fe80::1]"):
        assert client.get("/api/health", headers={"host": host}).status_code == 200
    for host in ("evil.example", "192.168.1.5.evil.example"):
        assert kind(client.get("/api/health", headers={"host": host}), 403) == "HostError"
    assert names_of("127.0.0.1", ())[1] is False


# --- the token ---

WRONG = [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
         f"Basic {TOKEN}", TOKEN, "Bearer caf\xe9".encode("latin-1"), b"Bearer \xff\xfe",
         f"Bearer {TOKEN.upper()}", "Bearer " + "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("shown", WRONG)
def test_without_the_token_nothing_is_told(store, run_id, shown):
    client = client_of(store, token=TOKEN)
    headers = {} if shown is None else {"authorization": shown}
    for path in ("runs", f"runs/{run_id}", f"runs/{run_id}/events", "openapi.json", "docs", "nope",
                 "settings", "workers", "runs/", "health/"):  # fmt: skip
        answer = client.get(f"/api/{path}", headers=headers)
        assert kind(answer, 401) == "LoginError"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert kind(client.post("/api/runs", json=BODY, headers=headers), 401) == "LoginError"
    for path in ("/", "/api/health", "/api/version"):
        assert client.get(path, headers=headers).status_code == 200


def test_the_token_opens_as_a_bearers_or_by_a_login(store):
    client = client_of(store, token=TOKEN)
    bearer = {"authorization": f"bearer {TOKEN}"}
    assert client.get("/api/runs", headers=bearer).status_code == 200
    assert kind(client.post("/api/login", json={"token": "x"}), 401) == "LoginError"
    assert kind(client.post("/api/login", json={"token": "caf\xe9\u4e2d"}), 401) == "LoginError"
    answer = client.post("/api/login", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    assert "Secure" not in cookie and "Path=/;" in cookie
    assert client.get("/api/runs").status_code == 200
    assert client.get("/api/settings").json()["auth"] is True
    assert client.post("/api/logout").status_code == 204
    assert client.get("/api/runs").status_code == 401


def test_tokens_and_sessions_are_compared_in_constant_time(monkeypatch):
    compared, compare = [], hmac.compare_digest

    def seen(one, other):
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(access.hmac, "compare_digest", seen)
    door = Access(TOKEN)
    for shown, right in (("", False), (TOKEN[:-1], False), (TOKEN, True), ("x" * 999, False)):
        compared.clear()
        assert door.is_token(shown) is right
        assert [(len(one), len(other)) for one, other in compared] == [(32, 32)]
    session = door.session()
    for cookie, right in ((session, True), (session[:-1], False), (session + "x", False)):
        compared.clear()
        assert door.admits("/api/runs", {"cookie": f"{COOKIE}={cookie}"}) is right
        assert [(len(one), len(other)) for one, other in compared] == [(32, 32)]


def test_behind_https_the_cookie_is_sent_over_it_alone(store):
    client = client_of(store, token=TOKEN, root_path="/lab")
    client.base_url = "https://localhost"
    cookie = client.post("/api/login", json={"token": TOKEN}).headers["set-cookie"]
    assert "Secure" in cookie and "Path=/lab;" in cookie


def test_sessions_end_and_cannot_be_made_up():
    access, path = Access(TOKEN), "/api/runs"

    def admits(value):
        return access.admits(path, {"cookie": f'odd="x; {COOKIE}={value}; b=c'})

    assert admits(access.session())
    ends, _, proof = access.session().partition(".")
    assert not admits(access.session(now=0))
    assert not admits(f"{int(ends) + 1}.{proof}")
    assert not admits(Access(TOKEN + "x").session())
    for value in ("", ".", ends, f"{ends}.", f"{ends}.{proof[:-1]}", f"\u0661.{proof}", "9" * 99):
        assert not admits(value)
    assert COOKIE_SECONDS == 30 * 24 * 3600
    assert Access(None).admits(path, {})
    assert not Access(None).is_token("")


def test_where_others_may_come_in_a_token_is_demanded(monkeypatch):
    monkeypatch.delenv("DISCOVER_TOKEN", raising=False)
    assert token_for("127.0.0.1") is token_for("localhost") is token_for("::1") is None
    for host in ("0.0.0.0", "::", "192.168.1.5", "lab.example"):
        with pytest.raises(InputError, match="set DISCOVER_TOKEN to a secret"):
            token_for(host)
    for weak in ("short", "x" * 15, "caf\xe9" * 8, "with spaces in it all"):
        monkeypatch.setenv("DISCOVER_TOKEN", weak)
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(InputError, match="at least 16 characters of plain ASCII"):
                token_for(host)
    monkeypatch.setenv("DISCOVER_TOKEN", TOKEN)
    assert token_for("0.0.0.0") == token_for("127.0.0.1") == TOKEN


# --- code ---


def test_nothing_reads_a_pickle_or_runs_text() -> None:
    """Weights come by safetensors, all else as JSON: bytes of others are never code."""
    bad = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {"eval", "exec", "compile", "__import__", "torch.load", "numpy.load", "np.load"}
    found, seen = [], 0
    for file in Path(discover.__file__).parent.rglob("*.py"):
        seen += 1
        for node in ast.walk(ast.parse(file.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names} & bad
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]} & bad
            elif isinstance(node, ast.Call):
                names = {ast.unparse(node.func)} & calls
            found += [f"{file.name}:{node.lineno}: {name}" for name in names]
    assert seen > 100
    assert found == []


# --- answers ---

MARKUP = "<img src=x onerror=alert(1)></script><!--\"'&\u2028"


def test_markup_in_what_people_write_stays_text(client, store):
    told = submit(client, note=MARKUP).json()
    assert told["note"] == MARKUP
    run_id = finished_run(store, task=None, prompts_file=f"/x/{MARKUP}", model=MARKUP)
    client.patch(f"/api/runs/{run_id}", json={"note": MARKUP})
    for path in (f"/api/runs/{run_id}", f"/api/runs/{run_id}/view", "/api/runs",
                 f"/api/runs?search={MARKUP}&sort={MARKUP}"):  # fmt: skip
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = client.get(f"/api/runs/{run_id}/export/html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert MARKUP not in page.text and "<img src=x" not in page.text
    assert "<img" not in client.get("/api/docs").text


def test_every_answer_carries_what_keeps_a_page_safe(client, run_id):
    for path in ("/", "/static/app.css", "/api/runs", "/api/nope", f"/api/runs/{run_id}/events",
                 "/nope", "/api/docs", f"/api/runs/{run_id}/export/html"):  # fmt: skip
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert ("sandbox" in policy) == path.startswith("/api/")
        assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    refused = client.get("/", headers={"host": "evil.example"})
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_a_bug_is_one_line_to_the_client_and_all_of_it_to_the_log(
    client, store, caplog, monkeypatch
):
    def broken(*_):
        raise ZeroDivisionError("secret /etc/passwd")

    monkeypatch.setattr(store, "statuses", broken)
    with caplog.at_level(logging.ERROR, "discover.service"):
        answer = client.get("/api/runs")
    assert kind(answer, 500) == "InternalError"
    assert "secret" not in answer.text and "Traceback" not in answer.text
    number = answer.json()["error"]["message"].split()[-1]
    assert number in caplog.text and "secret /etc/passwd" in caplog.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_errors_do_not_say_where_the_database_is(client, store):
    answer = client.get("/api/runs/ffffffffffffffff")
    assert answer.status_code == 404
    assert store.label not in answer.text and "runs.db" not in answer.text


def test_a_database_that_is_away_is_503_and_comes_back(tmp_path):
    path = tmp_path / "runs.db"
    with Store.open(str(path), busy_timeout=0.2) as store:
        client = client_of(store)
        away = path.rename(tmp_path / "away.db")
        answer = client.get("/api/health")
        assert answer.status_code == 503 and str(tmp_path) not in answer.text
        assert answer.headers["retry-after"] == "5"
        away.rename(path)
        assert client.get("/api/health").status_code == 200


def test_a_prefix_must_be_one():
    Settings(root_path="/a/b-c")
    Settings(root_path="/apis")
    for bad in ("a", "/a/", "/a b", '/"><script>', "//", "/api", "/static/x"):
        with pytest.raises(InputError):
            Settings(root_path=bad)


def test_under_a_prefix_both_kinds_of_proxy_work(store):
    client = client_of(store, root_path="/lab", token=TOKEN)
    for path in ("/api/health", "/", "/static/icon.svg", "/static/app/app.js"):
        for asked in (path, f"/lab{path}"):
            assert client.get(asked).status_code == 200, asked
    told = client.get("/api/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert told["servers"] == [{"url": "/lab"}]
    assert client.get("/static/../app.py").status_code == 404
    for path in ("/api/runs", "/lab/api/runs"):
        assert client.get(path).status_code == 401, path


def talk_to(client, receive):
    """One request whose body is received like that; returns what was sent back."""
    sent = []

    async def talk():
        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/runs", "query_string": b"",
                 "headers": [(b"host", b"localhost")], "root_path": ""}  # fmt: skip
        await client.app(scope, receive, send)

    anyio.run(talk)
    return sent


def test_a_body_that_never_comes_is_not_waited_for(client, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    assert talk_to(client, anyio.sleep_forever)[0]["status"] == 408


def test_a_body_without_an_end_is_read_to_the_limit_alone(store):
    asked = []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": b"[" * 100, "more_body": True}

    assert talk_to(client_of(store, max_body=1000), receive)[0]["status"] == 413
    assert len(asked) == 11
