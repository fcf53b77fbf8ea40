"""One thread for every test: small models gain nothing from more, and workers share a machine."""

import shutil
import signal
import sys

import missing
import pytest
import torch
from browser import browser, new_page, page, watch
from postgres import fresh_database, ready_database

from discover import cli
from discover.store import upgrade
from discover.store.engine import normalise_url

__all__ = ["browser", "new_page", "page", "watch"]  # fixtures that every test can ask for

torch.set_num_threads(1)

# What runs the tests in the background, as `nohup` with `&` does, ignores Ctrl-C for them; every
# program that a test starts would inherit that, and none could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Say loudly, at the very end, what was not tested for want of a browser or a server."""
    skipped = terminalreporter.stats.get("skipped", [])
    for line in missing.summary([str(report.longrepr) for report in skipped]):
        terminalreporter.write_sep("!", line, red=True, bold=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The URL of an empty database, on SQLite and on a real PostgreSQL server."""
    if request.param == "sqlite":
        yield normalise_url(str(tmp_path / "runs.db"))
        return
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "runs.db"
    upgrade(str(path))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """The URL of a database that has the schema already: a copy, which is quicker than making."""
    if request.param == "sqlite":
        path = tmp_path / "runs.db"
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        yield normalise_url(str(path))
        return
    with ready_database() as url:
        yield url


@pytest.fixture
def discover(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, in an empty directory; returns code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISCOVER_DB", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["discover", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return call
