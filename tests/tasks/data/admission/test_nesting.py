import pandas as pd

from tasks.data.admission.nesting import alike_inside, named_like_classes, wrapped


def found(*paths, batch="a", label=None):
    rows = [(batch, path, path.partition("/")[0] if label is None else label) for path in paths]
    return wrapped(pd.DataFrame(rows, columns=["batch", "path", "label"]), target="label")


def test_class_folders_in_one_folder_are_found():
    assert found("birds/kestrel/1.png", "birds/merlin/deep/2.png") == {
        "a": {"folder": "birds", "folders": ["kestrel", "merlin"]}
    }


def test_class_folders_in_two_folders_are_found():
    assert found("data/birds/kestrel/1.png", "data/birds/merlin/2.png") == {
        "a": {"folder": "data/birds", "folders": ["kestrel", "merlin"]}
    }


def test_class_with_files_of_its_own_is_a_class():
    assert found("birds/1.png", "birds/merlin/2.png") == {}
    assert found("birds/1.png", "birds/2.png") == {}


def test_encoding_behind_the_path_of_a_text_is_no_folder():
    assert found("pos/1.txt/;cp1252", "pos/2.txt/;cp1252") == {}
    assert inside("pos/1.txt/;cp1252", "pos/2.txt/;cp1252", "neg/1.txt/;cp1252", "neg/2.txt/;cp1252") == {}


def test_two_classes_are_classes():
    assert found("birds/kestrel/1.png", "cats/merlin/2.png") == {}


def test_label_of_a_table_is_no_folder():
    assert found("birds/kestrel/1.png", "birds/merlin/2.png", label="bird") == {}


def test_folder_that_is_called_like_a_class_is_recognised():
    assert named_like_classes({"folders": ["Kestrel", "x"]}, {"kestrel"})
    assert not named_like_classes({"folders": ["2024", "2025"]}, {"kestrel"})


def inside(*paths, labels=None):
    rows = [("a", path, labels or path.partition("/")[0]) for path in paths]
    return alike_inside(pd.DataFrame(rows, columns=["batch", "path", "label"]), target="label")


def test_classes_that_hold_the_same_folders_are_found():
    paths = ("0_train/kestrel/1.png", "0_train/merlin/2.png", "1_test/kestrel/3.png", "1_test/merlin/4.png")
    assert inside(*paths) == {"a": (["0_train", "1_test"], ["kestrel", "merlin"])}
    assert inside(*paths, "1_test/hobby/5.png") == {}
    assert inside(*paths, "1_test/5.png") == {}
    assert inside(*paths, labels="bird") == {}


def test_splits_in_each_class_are_no_classes():
    assert inside("kestrel/train/1.png", "kestrel/val/2.png", "merlin/train/3.png", "merlin/val/4.png") == {}
