import logging
import os
import pty
import sys
import termios
from pathlib import Path

from tasks.machine.progress import progress, shown_seconds
from tests.kit.programs import run

ROOT = Path(__file__).parents[3]
WORK = "from tasks.machine.progress import progress; list(progress(range(3), total=3, what='embed a', unit='images'))"


def test_terminal_shows_a_bar():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    os.set_blocking(ours, False)
    run(sys.executable, "-c", WORK, cwd=ROOT, stdout=None, stderr=theirs)
    shown = os.read(ours, 10_000).decode()  # closing the other end may drop what is not read yet
    os.close(theirs)
    os.close(ours)
    assert "embed a:" in shown
    assert "3/3" in shown or "0/3" in shown


def test_log_has_no_bar_and_no_line_for_short_work():
    done = run(sys.executable, "-c", WORK, cwd=ROOT)
    assert done.stderr == ""


def test_log_has_a_line_now_and_then_for_long_work(monkeypatch, caplog):
    monkeypatch.setattr("tasks.machine.progress.LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="graftline"):
        assert list(progress(range(2), total=2, what="embed a", unit="images")) == [0, 1]
    expected = ["embed a: 1 of 2 images, about 0 s left", "embed a: 2 of 2 images, about 0 s left"]
    assert [record.message for record in caplog.records] == expected


def test_time_that_is_left_is_told_in_a_unit_for_people():
    assert [shown_seconds(seconds) for seconds in (40, 600, 9000)] == ["40 s", "10 min", "2.5 h"]
