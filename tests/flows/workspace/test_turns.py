"""Runs that want one workspace."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.workspace.hold import only_writer
from flows.workspace.turns import NotNeededError, in_turn
from tests.kit.programs import SECONDS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)


def test_run_that_finds_another_at_work_waits_and_logs_that():
    lines = []
    waits, works = threading.Event(), threading.Event()

    def second():
        with in_turn("retrain", wait_seconds=SECONDS, log=lambda line: (lines.append(line), waits.set())):
            works.set()

    with ThreadPoolExecutor() as pool:
        with only_writer():
            running = pool.submit(second)
            assert waits.wait(SECONDS)
            assert not works.is_set()
        running.result(timeout=SECONDS)
    assert works.is_set()
    assert lines[0].endswith(": waiting")
    assert "is at work in" in lines[0]


def test_run_is_not_needed_behind_a_waiting_run_of_the_same_purpose_only():
    waits = threading.Event()

    def second():
        with in_turn("retrain", wait_seconds=SECONDS, log=lambda line: waits.set()):
            pass

    with ThreadPoolExecutor() as pool:
        with only_writer():
            running = pool.submit(second)
            assert waits.wait(SECONDS)
            with (
                pytest.raises(NotNeededError, match="another run waits"),
                in_turn("retrain", wait_seconds=SECONDS, log=print),
            ):
                pass
            for purpose in ("promote", None):
                with pytest.raises(BlockingIOError), in_turn(purpose, wait_seconds=0.1, log=print):
                    pass
        running.result(timeout=SECONDS)


def test_run_that_comes_after_a_waiting_run_began_waits_too():
    """Its reason may be newer than what the other run reads."""
    waits = [threading.Event(), threading.Event()]
    works, ends = threading.Event(), threading.Event()

    def run(number):
        with in_turn("retrain", wait_seconds=SECONDS, log=lambda line: waits[number].set()):
            works.set()
            assert ends.wait(SECONDS)

    with ThreadPoolExecutor() as pool:
        with only_writer():
            first = pool.submit(run, 0)
            assert waits[0].wait(SECONDS)
        assert works.wait(SECONDS)
        second = pool.submit(run, 1)
        assert waits[1].wait(SECONDS)
        ends.set()
        first.result(timeout=SECONDS)
        second.result(timeout=SECONDS)


def test_run_that_may_not_wait_names_the_process_at_work():
    with only_writer(), pytest.raises(BlockingIOError, match="is at work in"), in_turn("a", wait_seconds=0, log=print):
        pass
