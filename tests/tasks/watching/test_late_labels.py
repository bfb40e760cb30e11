"""Labels that come later: they join by sample_id, and nothing about them is guessed."""

import pandas as pd
import pytest

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.watching.labels import Accuracy, are_right, read_labels
from tasks.watching.record import unknown_classes

TARGETS = {"label": Classes(("cat", "dog")), "size": Number(measure="mm", tolerance=1.0)}


def test_labels_of_csv_and_parquet_join_and_say_what_was_right(tmp_path):
    csv, parquet = tmp_path / "a.csv", tmp_path / "b.parquet"
    csv.write_text("sample_id,label,by\na,cat,Ada\nb,dog,Ada\nc,,Ada\n", "utf-8")
    pd.DataFrame({"sample_id": ["a", "d", "b"], "size": [4.0, 5.0, None]}).to_parquet(parquet)
    labels = read_labels([csv, parquet], TARGETS)
    assert labels["label"].to_dict() == {"a": "cat", "b": "dog"}
    answers = pd.DataFrame({"sample_id": ["b", "a", "c"], "label": ["cat", "cat", "dog"], "value": [1.0, 4.5, 0.0]})
    assert are_right(answers, TARGETS["label"], labels["label"]).tolist() == [False, True]
    assert are_right(answers, TARGETS["size"], labels["size"]).tolist() == [True]
    assert read_labels([csv, csv], TARGETS)["label"].to_dict() == {"a": "cat", "b": "dog"}


def test_label_that_the_model_does_not_know_makes_its_answer_wrong(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("sample_id,label\na,fox\n", "utf-8")
    labels = read_labels([file], TARGETS)
    answers = pd.DataFrame({"sample_id": ["a"], "label": ["cat"], "value": [None]})
    assert are_right(answers, TARGETS["label"], labels["label"]).tolist() == [False]
    assert unknown_classes(labels, TARGETS) == 1


def test_interval_of_few_labels_is_wide():
    few, many = (Accuracy.of(pd.Series([True, True, True, False] * n).to_numpy()) for n in (2, 200))
    assert few.accuracy == many.accuracy == 0.75
    assert few.low < 0.45 < 0.71 < many.low < many.high < 0.79 < few.high


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample_id,label\na,cat\na,dog\n", "the sample a has two labels for label, cat and dog: keep one"),
        ("sample_id,age\na,3\n", "expected sample_id and one of the targets label, size"),
        ("label\ncat\n", "expected sample_id and one of the targets label, size"),
        ("sample_id,size\na,tall\n", "'tall' is no number"),
        ("", "has the columns of none"),
    ],
    ids=["two labels", "no target", "no sample_id", "no number", "empty"],
)
def test_table_that_is_wrong_is_refused_in_one_line(tmp_path, content, message):
    file = tmp_path / "labels.csv"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        read_labels([file], TARGETS)
    assert message in str(raised.value)


def test_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    for name, message in (("a.parquet", "cannot be read"), ("b.csv", "there is no"), ("c.txt", "ends in .txt")):
        with pytest.raises(ValueError, match=message):
            read_labels([tmp_path / name], TARGETS)
