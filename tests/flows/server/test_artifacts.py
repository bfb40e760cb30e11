"""The artifacts on Prefect's page."""

import base64
from xml.etree import ElementTree

from flows.server.artifacts import LOGGED, charts, confusions, in_words, rows

HOSTILE = "<script>alert(1)</script> | **b** [a](javascript:alert(2))\n# `x`"


def test_names_from_the_data_are_text_in_the_verdict():
    rule = {"name": f"label recall of {HOSTILE}", "value": 0.5, "bound": "at least 0.7", "smallest_detectable": None}
    verdict = {"verdict": "rejected", "baseline": None, "candidate": "c" * 64, "num_heldout": 9, "problems": [HOSTILE]}
    text = in_words(verdict | {"rules": [rule | {"passed": False}]})
    [row] = [line for line in text.splitlines() if "recall" in line]
    assert row.replace("\\|", "").count("|") == 6
    assert "\nDid not pass: " in text
    assert "<script>" not in text
    assert "](" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# The candidate is rejected"]


def test_undecided_verdict_says_why_and_whether_a_person_is_asked():
    verdict = {"verdict": "undecided", "baseline": "b" * 64, "candidate": "c" * 64, "num_heldout": 9, "problems": []}
    verdict |= {"rules": [], "doubts": [f"label: {HOSTILE}"]}
    text = in_words(verdict | {"promotes": False})
    assert "# The candidate is undecided" in text
    assert "Undecided: label: \\<script\\>" in text
    assert "It waits for a person." in text
    assert "It may be put in use all the same." in in_words(verdict | {"promotes": True})


def test_effect_that_a_rule_could_have_detected_has_its_unit():
    rule = {"name": "angle mean error", "value": 3.0, "bound": "at most 4", "passed": True, "smallest_detectable": 0.5}
    verdict = {"verdict": "accepted", "baseline": None, "candidate": "c" * 64, "num_heldout": 9, "problems": []}
    for unit, words in {"degrees": "| 0.5 degrees |", "share of wrong labels": "| 50.0% wrong labels |"}.items():
        assert words in in_words(verdict | {"rules": [rule | {"unit": unit}]})
    assert "<b>" not in in_words(verdict | {"rules": [rule | {"unit": "<b>"}]})


def test_names_from_the_data_are_text_in_the_table():
    candidate = dict.fromkeys(LOGGED, 0.5) | {"intervals": {"accuracy": [0.4, 0.6]}}
    [row] = rows({"<b>label</b>": {"candidate": candidate, "flips": {"negative": 1}}})
    assert row["target"] == "‹b›label‹/b›"
    assert row["interval of accuracy"] == "0.4000 to 0.6000"


def test_calibration_error_that_no_sample_could_show_is_left_out():
    measured = {"accuracy": 0.5, "macro_f1": 0.5, "log_loss": 1.0, "intervals": {"accuracy": [0.25, 0.75]}}
    with_error = measured | {"calibration_error": 0.125}
    candidate, head = rows({"label": {"candidate": measured, "head": with_error}})
    assert (candidate["calibration error"], head["calibration error"]) == ("", "0.1250")


def test_confusion_matrix_has_a_row_for_each_class_and_counts_the_answers():
    table = "target,label,candidate\nlabel,<b>,cat\nlabel,cat,cat\nlabel,cat,cat\n"
    assert confusions(table, names={"label": []}) == {
        "label": [{"class": "‹b›", "as ‹b›": "0", "as cat": "1"}, {"class": "cat", "as ‹b›": "0", "as cat": "2"}]
    }


def test_charts_of_the_report_can_stand_alone(finished):
    drawings = charts((finished / "data/report/index.html").read_text("utf-8"))
    assert [label.split()[0] for label, _ in drawings] == ["Loss", "Accuracy", "Reliability"]
    for _, address in drawings:
        picture = ElementTree.fromstring(base64.b64decode(address.partition(",")[2]))  # noqa: S314  our own
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert "font-family" in picture[0].text
