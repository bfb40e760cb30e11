import pandas as pd

from tasks.page.examples import by_class, examples


def predictions(rows):
    """Return predictions of one target. A row is the batch, the label and the candidate's answer."""
    table = pd.DataFrame(rows, columns=["batch", "label", "candidate"])
    return table.assign(target="label", sample_id=[f"{number:03d}" for number in range(len(rows))])


def test_classes_share_the_limit_and_the_newest_batches_come_first():
    table = predictions([("old", "x", "x"), ("new", "x", "x"), ("new", "x", "y"), ("old", "y", "y"), ("old", "y", "y")])
    assert examples(table, ["old", "new"], limit=2)["sample_id"].tolist() == ["001", "003"]
    assert examples(table, ["old", "new"], limit=9)["sample_id"].tolist() == ["001", "000", "003", "004"]


def test_more_classes_than_the_limit_are_cut():
    table = predictions([("a", f"{number:02d}", f"{number:02d}") for number in range(20)])
    assert len(examples(table, ["a"], limit=5)) == 5


def test_classes_are_counted_with_their_wrong_answers():
    table = predictions([("a", "x", "x"), ("a", "x", "y"), ("a", "y", "x")])
    [only] = by_class(examples(table, ["a"], limit=9), table)
    assert (only["name"], only["num_right"], only["num_heldout"], len(only["rows"])) == ("x", 1, 2, 1)


def test_without_a_right_answer_there_are_no_examples():
    table = predictions([("a", "x", "y")])
    assert by_class(examples(table, ["a"], limit=9), table) == []
