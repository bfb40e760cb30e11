"""What the page says of other forms of the candidate."""

from tasks.page.forms import describe_forms
from tasks.targets.classes import Classes
from tasks.targets.number import Number

COSTS = {"candidate_bytes": 8e6, "candidate_milliseconds": 6.31}


def measured(form, **changes):
    return {"forms": {form: {"changed": 0.01, "change": -0.02, "interval": [-0.05, 0.01]} | changes}}


def test_form_is_shown_beside_the_bundle_with_its_change_and_costs():
    subject = COSTS | {"forms": {"int8": {"bytes": 2_000_000, "milliseconds": 0.176}}}
    bundle, int8 = describe_forms(measured("int8", accuracy=0.93), subject, target=Classes(("a", "b")))
    assert bundle == {
        "title": "Bundle", "value": "0.9500", "change": "–", "changed": "–", "megabytes": "8.0", "milliseconds": "6.3"
    }  # fmt: skip
    assert int8 == {
        "title": "ONNX, int8", "value": "0.9300", "change": "−0.0200 (−0.0500 to 0.0100)", "changed": "1.00 %",
        "megabytes": "2.0", "milliseconds": "0.18",
    }  # fmt: skip


def test_error_of_a_number_has_its_unit_and_may_lack_an_interval():
    subject = COSTS | {"forms": {"onnx": {"bytes": 8_000_000, "milliseconds": 1.0}}}
    facts = measured("onnx", error=2.5, change=0.0, interval=None) | {"kind": "number"}
    _, onnx = describe_forms(facts, subject, target=Number(measure="degrees"))
    assert (onnx["value"], onnx["change"]) == ("2.5 degrees", "0 degrees")


def test_without_forms_the_page_has_no_row():
    assert describe_forms({}, {}, target=Classes(("a", "b"))) == []
