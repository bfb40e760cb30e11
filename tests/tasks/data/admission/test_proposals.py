import pandas as pd
import pytest
import yaml

from tasks.data.admission.proposals import line, propose


@pytest.mark.parametrize(
    ("labels", "declaration"),
    [
        (["cat", "dog", "very good", "bad"], {"kind": "classes"}),
        ([str(number / 4) for number in range(50)], {"kind": "number"}),
        ([*map(str, range(99)), "north"], {"kind": "number"}),
        ([*map(str, range(10))] * 9, {"kind": "classes"}),
        (["a|b", "b|c", "a", "c"], {"kind": "several"}),
        (["a; b", "b;c", "a", "c"], {"kind": "several", "separator": ";"}),
        (['["a"]', "[]", '["b","a"]'], {"kind": "several"}),
        (["Paris, France", "Rome, Italy", "Oslo, Norway"], {"kind": "classes"}),
        (["High", "low", "medium"], {"kind": "ordinal", "steps": ["low", "medium", "High"]}),
        (["excellent", "poor", "good"], {"kind": "ordinal", "steps": ["poor", "good", "excellent"]}),
        (["high", "low"], {"kind": "classes"}),
        ([], {"kind": "classes"}),
    ],
)  # fmt: skip
def test_kind_follows_from_the_form_of_the_labels(labels, declaration):
    found = propose(pd.Series(labels, dtype="str"))
    assert found.declaration() == declaration
    assert found.question is None
    said = line("my label", declaration, others={"no": "classes"}).partition("validate.targets: ")[2]
    wanted = declaration if len(declaration) > 1 else declaration["kind"]
    assert yaml.safe_load(said) == {"no": "classes", "my label": wanted}


@pytest.mark.parametrize(
    ("labels", "steps"),
    [("12345", list("12345")), (["1 star", "3 stars", "2*"], ["1 star", "2*", "3 stars"])],
)
def test_ratings_stay_classes_and_are_asked_about(labels, steps):
    found = propose(pd.Series(list(labels), dtype="str"))
    assert (found.kind, found.question) == ("classes", {"kind": "ordinal", "steps": steps})
