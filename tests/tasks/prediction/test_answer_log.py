"""The log of a service's answers: whole files, nothing lost when the service is killed."""

import errno
import os
import signal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.prediction.answer_log import EVERY_COLUMN, AnswerLog, Journal, LogLimits, answer_files, read_answers
from tasks.prediction.prediction_table import holds_predictions, prediction_writer, schema_of
from tasks.targets.number import Number

SCHEMA = schema_of("images", [], has_embeddings=True, is_log=True)
ROW = {
    "path": "=a,\n.png", "sample_id": "ab" * 32, "target": "label", "label": "cat", "probability": 0.75,
    "top_labels": ["cat", "dog"], "top_probabilities": [0.75, 0.25], "embedding": np.arange(3, dtype=np.float16),
}  # fmt: skip


def rows(number: int) -> list[dict]:
    return [ROW | {"path": f"{place}.png"} for place in range(number)]


def test_log_is_read_as_it_was_written(tmp_path):
    log = AnswerLog(tmp_path)
    log.add([ROW, {"path": "b", "target": "label", "reason": "blank", "detail": "…"}], SCHEMA, model="ef" * 32)
    log.turn()
    assert not list(tmp_path.glob("*.parquet"))
    log.turn(is_over=True)
    [file] = answer_files([tmp_path])
    assert holds_predictions(file)
    first, second = read_answers(file).to_pylist()
    assert {name: first[name] for name in ROW if name != "embedding"} == {
        name: ROW[name] for name in ROW if name != "embedding"
    }
    assert first["embedding"] == [0.0, 1.0, 2.0]
    assert first["model"] == "ef" * 32
    assert second["reason"] == "blank"
    assert second["embedding"] is None
    assert first["answered_at"] == second["answered_at"]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_full_file_ends_and_the_oldest_go(tmp_path):
    log = AnswerLog(tmp_path, limits=LogLimits(max_rows=2, max_bytes=20_000))
    for number in range(12):
        log.add([ROW | {"path": f"{number}.png"}] * 2, SCHEMA, model="")
        log.turn()
    files = answer_files([tmp_path])
    assert 1 < len(files) < 12
    assert sum(file.stat().st_size for file in files) <= 20_000
    assert read_answers(files[-1])["path"].to_pylist() == ["11.png"] * 2


def test_old_file_ends(tmp_path):
    log = AnswerLog(tmp_path, limits=LogLimits(max_seconds=0))
    log.add([ROW], SCHEMA, model="")
    log.turn()
    assert read_answers(answer_files([tmp_path])[0]).num_rows == 1


def test_another_model_with_other_columns_begins_a_file(tmp_path):
    log = AnswerLog(tmp_path)
    log.add([ROW], SCHEMA, model="")
    log.add([{"path": "a", "value": 1.0}], schema_of("images", [Number()], is_log=True), model="")
    log.turn(is_over=True)
    assert [read_answers(file)["value"].to_pylist() for file in answer_files([tmp_path])] == [[None], [1.0]]


def test_no_row_of_a_killed_service_is_lost(tmp_path):
    if (child := os.fork()) == 0:
        AnswerLog(tmp_path).add(rows(5), SCHEMA, model="")
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    [journal] = tmp_path.iterdir()
    with journal.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x80\x01\x00\x00torn")
    mine = AnswerLog(tmp_path)
    mine.add([ROW], SCHEMA, model="")
    mine.turn()
    [file] = answer_files([tmp_path])
    assert read_answers(file)["path"].to_pylist() == [f"{place}.png" for place in range(5)]
    assert len(list(tmp_path.glob(".answers-*.journal"))) == 1  # its own, which it holds
    mine.turn(is_over=True)


def test_journal_that_ends_anywhere_keeps_its_whole_rows(tmp_path):
    log = AnswerLog(tmp_path)
    log.add(rows(2), SCHEMA, model="")
    [journal] = tmp_path.iterdir()
    first = journal.stat().st_size
    log.add([ROW], SCHEMA, model="")
    content = journal.read_bytes()
    for number, end in enumerate([*range(first, len(content), 29), len(content) - 1]):
        folder = tmp_path / f"torn {number}"
        folder.mkdir()
        (folder / journal.name).write_bytes(content[:end])
        AnswerLog(folder).turn()
        [file] = answer_files([folder])
        assert read_answers(file)["path"].to_pylist() == ["0.png", "1.png"]
    log.turn(is_over=True)


def test_journal_that_cannot_be_read_holds_up_no_other(tmp_path):
    (tmp_path / ".answers-0.journal").mkdir()
    log = AnswerLog(tmp_path)
    log.add([ROW], SCHEMA, model="")
    with pytest.raises(OSError, match=r"answers-0\.journal"):
        log.turn(is_over=True)
    assert read_answers(answer_files([tmp_path])[0]).num_rows == 1


def test_rows_before_a_full_disk_stay_and_those_after_it_begin_a_file(tmp_path, monkeypatch):
    log = AnswerLog(tmp_path)
    log.add([ROW], SCHEMA, model="")
    add = Journal.add

    def full(self, batch):
        self._file.write(b"\xff\xff\xff\xff\x80")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Journal, "add", full)
    with pytest.raises(OSError, match="No space"):
        log.add([ROW], SCHEMA, model="")
    monkeypatch.setattr(Journal, "add", add)
    log.add([ROW, ROW], SCHEMA, model="")
    log.turn(is_over=True)
    assert [read_answers(file).num_rows for file in answer_files([tmp_path])] == [1, 2]


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_files_of_predict_are_read_too(ending, tmp_path):
    out = tmp_path / f"out{ending}"
    schema = schema_of("text", [Number()], has_domains=True)
    own = {name: value for name, value in ROW.items() if name != "embedding"}
    with prediction_writer(out, schema, ending=ending) as writer:
        writer.add(own | {"truncated": True, "share_unknown": 0.5})
        writer.add({"path": "b", "target": "angle", "value": 12.5, "low": 1.0, "high": 20.0, "truncated": False})
    assert answer_files([out]) == [out]
    table = read_answers(out)
    assert table.schema == EVERY_COLUMN
    first, second = table.to_pylist()
    assert first["path"] == ROW["path"]
    assert first["truncated"] is True
    assert first["probability"] == 0.75
    assert first["top_labels"] == (None if ending == ".csv" else ["cat", "dog"])
    assert (second["value"], second["label"], second["truncated"]) == (12.5, None, False)


def test_what_holds_no_answers_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="has no answers"):
        answer_files([tmp_path])
    with pytest.raises(ValueError, match="is not there"):
        answer_files([tmp_path / "x.csv"])
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="holds no predictions"):
        answer_files([other])
    with pytest.raises(ValueError, match=r"is a file, expected a folder"):
        AnswerLog(other)


def test_damaged_file_is_refused_by_name(tmp_path):
    whole, torn = tmp_path / "whole.parquet", tmp_path / "answers-torn.parquet"
    pq.write_table(pa.Table.from_pylist([ROW], schema=SCHEMA), whole)
    torn.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"answers-torn.parquet is damaged"):
        read_answers(torn)
    pd.DataFrame({"probability": ["x"]}).to_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="is damaged"):
        read_answers(tmp_path / "x.csv")
