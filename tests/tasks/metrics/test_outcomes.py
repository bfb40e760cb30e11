import numpy as np
import pandas as pd

from tasks.metrics.answered import Answered
from tasks.metrics.outcomes import right_answers
from tasks.prediction.heldout import joined_tables, prediction_table
from tasks.targets.classes import Classes
from tasks.targets.number import Number

ROWS = pd.DataFrame({"sample_id": ["a", "b"], "batch": "first", "path": ["1.png", "2.png"], "age": ["7.0", "9.0"]})


def table_of(name, truths, answers, target):
    return prediction_table(ROWS, name, np.array(truths), {"candidate": Answered(np.array(answers), target)})


def test_answer_is_right_by_its_label_or_by_the_judgement_of_its_kind(tmp_path):
    classes = table_of("label", [0, 1], [[0.9, 0.1], [0.8, 0.2]], Classes(("cat", "dog")))
    number = table_of("age", [7.0, 9.0], [[7.4, 7.0, 8.0], [7.0, 6.0, 8.0]], Number(tolerance=0.5))
    assert right_answers(classes, model="candidate").tolist() == [True, False]
    assert right_answers(number, model="candidate").tolist() == [True, False]
    joined_tables([classes, number]).to_parquet(tmp_path / "both.parquet")
    both = pd.read_parquet(tmp_path / "both.parquet")
    assert right_answers(both, model="candidate").tolist() == [True, False, True, False]


def test_table_of_classes_alone_has_no_column_of_another_kind():
    classes = table_of("label", [0, 1], [[0.9, 0.1], [0.8, 0.2]], Classes(("cat", "dog")))
    assert [*joined_tables([classes])] == [
        "sample_id", "batch", "path", "target", "label", "candidate", "candidate_confidence",
        "candidate_label_probability",
    ]  # fmt: skip


def test_number_has_its_value_and_interval():
    number = table_of("age", [7.0, 9.0], [[7.4, 7.0, 8.0], [7.0, 6.0, 8.0]], Number(tolerance=0.5))
    assert number["label"].tolist() == ["7.0", "9.0"]
    assert number["candidate"].tolist() == ["7.4", "7.0"]
    assert number["candidate_error"].tolist() == [7.4 - 7.0, 2.0]
    assert number[["label_value", "candidate_value", "candidate_low", "candidate_high"]].to_numpy().tolist() == [
        [7.0, 7.4, 7.0, 8.0],
        [9.0, 7.0, 6.0, 8.0],
    ]
