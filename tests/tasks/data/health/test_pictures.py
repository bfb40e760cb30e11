import numpy as np

from tasks.data.health.pictures import bad_pictures


def found(marks):
    return {kind: rows.tolist() for kind, rows, _, _ in bad_pictures(np.array(marks, dtype=np.uint8))}


def test_dark_bright_and_blurred_pictures_are_found():
    usual = np.random.default_rng(0).integers([100, 180], [160, 220], (100, 2)).tolist()
    assert found([*usual, [4, 200], [251, 200], [120, 40]]) == {"dark": [100], "bright": [101], "blurred": [102]}


def test_pictures_that_are_all_dark_are_usual():
    assert found([[3, 100]] * 50 + [[2, 101]] * 50) == {"dark": [], "bright": [], "blurred": []}


def test_sentence_says_what_is_usual():
    marks = np.array([[130, 200]] * 20 + [[3, 200]], dtype=np.uint8)
    [(_, _, scores, [said]), *_] = bad_pictures(marks)
    assert said == "mean brightness 3 of 255, where 130 is usual"
    assert 0 < scores[0] <= 1
