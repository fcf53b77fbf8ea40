"""A client that sends rubbish, and one that does as the OpenAPI says: schemathesis."""

from __future__ import annotations

import pytest
import schemathesis
from helpers_service import client_of, evaluated, finished_run, submit
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from discover.service.app import make_app
from discover.service.reference import reference_page
from discover.store import Store

load_all_checks()

EXAMPLES = 12

# A schema cannot say which models, tasks and files there are.
SEMANTIC = ("POST /api/runs", "POST /api/sweeps")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with Store.open(str(tmp_path_factory.mktemp("openapi") / "runs.db")) as store:
        client = client_of(store, max_queued=50)
        run_id = finished_run(store)
        evaluated(store, run_id)
        # Not left waiting: the stream of a run that waits has no end.
        client.post(f"/api/runs/{submit(client).json()['id']}/cancel")
        yield client.app


def operations():
    # The OpenAPI is the same whatever the store.
    found = schemathesis.openapi.from_dict(make_app(None).openapi()).get_all_operations()
    return [operation.ok() for operation in found]


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_every_answer_is_as_the_openapi_says_whatever_is_sent(operation, app):
    left_out = {"positive_data_acceptance"} if operation.label in SEMANTIC else set()
    checks = [CHECKS.get_one(name) for name in sorted(set(CHECKS.get_all_names()) - left_out)]

    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def anything(case):
        answer = case.call(app=app, base_url="http://localhost:8000")
        case.validate_response(answer, checks=checks)

    anything()


def test_every_route_is_described(app):
    told = app.openapi()
    for path, methods in told["paths"].items():
        for method, route in methods.items():
            assert route["summary"] and route["description"], (method, path)
            assert {"401", "403", "422", "503"} <= set(route["responses"]), (method, path)
    ids = [route["operationId"] for m in told["paths"].values() for route in m.values()]
    assert len(set(ids)) == len(ids)
    page = reference_page(told)
    for path in told["paths"]:
        assert path in page
    assert "<script" not in page and "http" not in page.replace("HTTP", "").split("<body>")[0]
