"""Ctrl-C where Python would lose it."""

from __future__ import annotations

import signal
import threading

import pytest

from discover.interrupts import Interrupts
from discover.report import Reporter
from discover.run import run
from discover.spec import RunSpec
from discover.store import Store


class Finalised:
    """Something that is interrupted while it is finalised, as anything in a search may be."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def usual():
    """SIGINT as any program has it, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_finaliser_swallows_is_remembered():
    with Interrupts() as interrupts:
        assert not interrupts.asked
        Finalised()
        assert interrupts.asked
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_elsewhere_it_is_raised_as_ever():
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.asked
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_other_threads_are_left_alone():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
    assert not interrupts.asked
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    def enter() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_search_ends_at_the_next_decision(tmp_path, capsys):
    spec = RunSpec(model="tracr-xproportion", task="xproportion", metric="l2", tau=0.01, prompts=6)
    with Store.open(str(tmp_path / "runs.db")) as store:
        with pytest.raises(KeyboardInterrupt), Reporter(store) as reporter:
            phase = reporter.phase

            def swallowed(name: str) -> None:
                phase(name)
                if name == "searching":
                    Finalised()

            reporter.phase = swallowed
            run(spec, store, engine="reference", observer=reporter.observer())
        (record,) = store.runs()
        assert record.status == "interrupted"
        assert store.count(record.id) == 1
    assert "stopped with 1 decision stored; go on with: discover resume" in capsys.readouterr().err
