"""What a verb that fails tells the program that started it."""

import logging

import pytest

from flows.server.narration import BEGINNING
from tasks.machine.failures import VARIABLE, Failure, MissingDataError, read_failures, write_failure
from tasks.stage.shell import OneLine, errors_in_one_line


def test_failure_is_told_in_one_line_with_the_pointer_of_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "failures"))
    with pytest.raises(SystemExit), errors_in_one_line():
        raise MissingDataError("sample a\x1b.png\n is missing", pointer="data/raw/b.dvc")
    with pytest.raises(SystemExit), errors_in_one_line():
        raise ValueError("`dvc pull --evil.dvc`")
    assert read_failures(tmp_path / "failures") == [
        Failure(error="sample a\\x1b.png is missing", pointer="data/raw/b.dvc"),
        Failure(error="`dvc pull --evil.dvc`"),
    ]


@pytest.mark.parametrize("name", ["Running stage 'regression':", "  Stage 'regression@a' is cached", "a\nb"])
def test_no_line_of_a_log_begins_as_one_by_which_dvc_names_its_stages(name):
    record = logging.LogRecord("graftline", logging.WARNING, "", 0, "%s is rare", (name,), None)
    line = OneLine().format(record)
    assert not BEGINNING.match(line.strip())
    assert line.endswith(f"{name} is rare".replace("\n", "\\n"))


def test_line_that_a_killed_verb_half_wrote_is_left_out(monkeypatch, tmp_path):
    place = tmp_path / "failures"
    monkeypatch.setenv(VARIABLE, str(place))
    write_failure(Failure(error="whole"))
    with place.open("a", encoding="utf-8") as file:
        file.write('{"error": "ha')
    assert read_failures(place) == [Failure(error="whole")]
    assert read_failures(tmp_path / "none") == []


def test_nothing_is_written_where_nobody_asks(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    write_failure(Failure(error="x"))
    assert list(tmp_path.iterdir()) == []
