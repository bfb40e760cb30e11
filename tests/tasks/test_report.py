import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from tasks.files import write_json
from tasks.params import ReportParams
from tasks.report import confusion, curves, run

NUMBERS = {
    "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "accuracy_without_leaks": 0.89, "num_leaked": 1, "macro_f1": 0.88, "log_loss": 0.3,
    "calibration_error": 0.05, "recall": {},
}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    """Renders the report of an evaluation of two classes; returns the page."""

    def render(
        *,
        names=("cat", "dog"),
        verdict="accepted",
        baseline=None,
        quarantine=(),
        title="Graftline",
        rows=100,
        validation=None,
        audit=None,
        reason="the candidate is the head alone",
    ):
        one, other = names
        for folder in ("validated", "audit", "training", "evaluation", "regression"):
            (tmp_path / folder).mkdir(exist_ok=True)
        ledger = pd.DataFrame(list(quarantine), columns=["batch", "path", "sample_id", "reason", "detail"])
        ledger.to_csv(tmp_path / "validated" / "quarantine.csv", index=False)
        report = {
            "batches": {"a": {"in": 1234 + len(ledger), "used": 1234, "quarantined.empty_file": len(ledger)}},
            "class_changes": {}, "probation": {}, "without_samples": {}, "expectations": [],
        }  # fmt: skip
        write_json(tmp_path / "validated" / "validation.json", report | (validation or {}))
        found = {"num_leaks": 0, "num_leaked": 0, "limits": {"separates": True, "expected_recall": 0.99}}
        write_json(tmp_path / "audit" / "audit.json", found | (audit or {}))
        predictions = {"target": "label", "label": [one, other, other], "candidate": [one, other, one]}
        pd.DataFrame(predictions).to_parquet(tmp_path / "evaluation" / "predictions.parquet")
        metrics = {"candidate": NUMBERS, "head": NUMBERS}
        if baseline:
            metrics |= {"baseline": NUMBERS, "flips": {"negative": 0, "positive": 3, "p_value": 1.0}}
        write_json(tmp_path / "evaluation" / "metrics.json", {"label": metrics})
        lineage = {"epoch": 2, "data": "d" * 64, "backbone": "b" * 64, "versions": {"torch": "2"}}
        subject = {"stage": "finetuned", "candidate": "c" * 64, "lineage": lineage}
        write_json(tmp_path / "evaluation" / "subject.json", subject)
        passed = verdict == "accepted"
        rule = {"name": f"label recall of {one}", "value": 0.5, "bound": "at least 0.7", "passed": passed}
        write_json(
            tmp_path / "regression" / "verdict.json",
            {
                "verdict": verdict, "rules": [rule], "num_tests": 4, "num_failed": 0 if passed else 1,
                "num_heldout": 40, "baseline": baseline, "candidate": "c" * 64,
            },
        )  # fmt: skip
        scores = {
            "train_loss": [None, 0.6],
            "val_loss": [1.0, 0.5],
            "train_accuracy": [None, 0.7],
            "val_accuracy": [0.5, 0.8],
        }
        table = pd.DataFrame({"epoch": [0, 1], "is_kept": [0, 1]} | scores)
        table.to_csv(tmp_path / "training" / "curves.csv", index=False)
        tuned = {
            "ending": "every epoch was run", "epoch_kept": 1, "epochs": 1, "loss_gap": 0.25, "num_all_blocks": 9,
            "num_blocks": 2, "verdict": {"reason": reason},
        }  # fmt: skip
        write_json(tmp_path / "training" / "finetuning.json", tuned)
        run(
            validated=tmp_path / "validated",
            audit=tmp_path / "audit",
            training=tmp_path / "training",
            evaluation=tmp_path / "evaluation",
            regression=tmp_path / "regression",
            out=tmp_path / "report" / "index.html",
            report=ReportParams(title=title, max_quarantined_rows=rows),
        )
        return (tmp_path / "report" / "index.html").read_text("utf-8")

    return render


class Tags(HTMLParser):
    """The names of a page's tags, and the attributes that could fetch something."""

    def __init__(self, page):
        super().__init__()
        self.names = set()
        self.fetched = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.fetched += [(key, value) for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]


def words(page):
    """The page's text without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


HOSTILE = "<script>alert(1)</script>"


def test_class_that_is_called_like_a_script_is_shown_not_run(page):
    found = page(names=(HOSTILE, 'dog" onmouseover="alert(1)'))
    assert "script" not in Tags(found).names
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found
    assert 'onmouseover="' not in found


def test_file_and_title_that_are_called_like_a_script_are_shown_not_run(page):
    found = page(title=HOSTILE, quarantine=[["a", f"cat/{HOSTILE}.png", "", "unreadable", HOSTILE]])
    assert "script" not in Tags(found).names
    assert found.count("&lt;script&gt;") >= 4


def test_accepted_candidate_is_said_to_be_so(page):
    found = words(page())
    assert "The candidate is accepted All 4 regression tests passed , on 40 held-out samples." in found.replace(
        "passed,", "passed ,"
    )
    assert "No model is in use yet" in found


def test_rejected_candidate_is_shown_with_the_rule_that_it_broke(page):
    found = words(page(verdict="rejected", baseline="b" * 64))
    assert "The candidate is rejected 1 of 4 regression tests failed" in found
    assert "label recall of cat 0.5 at least 0.7 fail" in found


def test_comparison_with_the_model_in_use_is_shown_even_without_losses(page):
    found = words(page(baseline="b" * 64))
    assert "3 samples are right now and were wrong, 0 are wrong now and were right" in found
    assert "model in use 0.9000" in found


def test_page_fetches_nothing(page):
    found = page()
    assert Tags(found).fetched == []
    assert not re.search(r"https?://|url\(|@import", found)


def test_long_ledger_is_cut_and_says_so(page):
    rows = [["a", f"cat/{number}.png", "", "empty_file", "the file has no bytes"] for number in range(5)]
    found = words(page(quarantine=rows, rows=2))
    assert "2 of 5; the ledger has them all" in found
    assert "cat/1.png" in found
    assert "cat/2.png" not in found


def test_counts_of_a_batch_are_shown(page):
    assert "a 1,235 1,234 1 " in words(page(quarantine=[["a", "cat/1.png", "", "empty_file", "no bytes"]]))


def test_what_changed_in_the_classes_is_shown(page):
    named = {"new": ["Cat", "eel"], "missing": ["cat"], "perhaps_renamed": [["cat", "Cat"]]}
    changes = {"label": {"b": {what: {"count": len(which), "named": which} for what, which in named.items()}}}
    gone = {"label": {"count": 1, "named": ["dodo"]}}
    waiting = {"label": {"count": 1, "named": {"<eel>": 3}}, "colour": {"count": 0, "named": {}}}
    found = page(validation={"class_changes": changes, "probation": waiting, "without_samples": gone})
    assert "Batch b, classes of label: 2 new: Cat, eel. 1 missing: cat. Is cat now called Cat?" in words(found)
    assert "1 classes of label wait for more samples: &lt;eel&gt; (3)." in words(found)
    assert "of colour wait" not in found
    assert "Registered classes of label without samples: dodo." in words(found)


def test_expectation_that_is_not_met_is_shown_with_its_severity(page):
    unmet = {
        "expectation": "expect_x", "column": "y", "expected": {"max_value": 0.3}, "observed": None, "num_unexpected": 4,
        "severity": "warning", "success": False,
    }  # fmt: skip
    assert "warning: expect_x y: expected {&#39;max_value&#39;: 0.3}" in words(
        page(validation={"expectations": [unmet]})
    )


def test_leaks_are_told(page):
    assert "No near-duplicates were found between training and the held-out set." in words(page())
    found = words(page(audit={"num_leaks": 1200, "num_leaked": 3}))
    assert "1,200 samples of train and val are near-duplicates of 3 held-out samples and were left out" in found
    assert "leaks may remain" not in found


def test_data_on_which_copies_cannot_be_told_is_said_to_be_so(page):
    found = words(page(audit={"limits": {"separates": False, "expected_recall": 0.42}}))
    assert "Only 42 % of altered copies can be told from other pictures of this data: leaks may remain." in found


def test_same_input_gives_the_same_page(page):
    assert page() == page()


def test_confusion_counts_rows_actual_and_columns_predicted():
    table = pd.DataFrame({"label": ["b", "b", "a"], "candidate": ["a", "b", "c"]})
    found = confusion(table)
    assert found["names"] == ["a", "b", "c"]
    assert [[cell["count"] for cell in row["cells"]] for row in found["rows"]] == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert [cell["share"] for cell in found["rows"][1]["cells"]] == [0.5, 0.5, 0.0]


def test_page_says_what_became_of_fine_tuning_and_why(page):
    found = words(page(reason=f"the candidate is the head alone: {HOSTILE} may be chance"))
    assert "The candidate is the head alone: &lt;script&gt;alert(1)&lt;/script&gt; may be chance." in found
    assert "2 of 9 blocks of the backbone were trained for 1 epochs; every epoch was run." in found
    assert "In epoch 1 the loss on val is 0.250 above that on train: a gap that grows" in found


def epochs(*, losses, kept):
    numbers = range(len(losses))
    return pd.DataFrame(
        {"epoch": numbers, "train_loss": losses, "val_loss": losses, "is_kept": [int(each == kept) for each in numbers]}
    )


def test_curve_goes_from_edge_to_edge_and_shows_the_epoch_kept():
    drawn = curves(epochs(losses=[2.0, 1.0, 0.0], kept=1), "loss", width=100, height=50)
    assert drawn["lines"]["val"] == "0.0,0.0 50.0,25.0 100.0,50.0"
    assert drawn["kept"] == 50.0


def test_curve_of_accuracy_ends_at_1():
    table = pd.DataFrame(
        {"epoch": [0, 1], "train_accuracy": [None, 0.75], "val_accuracy": [0.5, 1.0], "is_kept": [0, 1]}
    )
    drawn = curves(table, "accuracy", width=100, height=50)
    assert drawn["lines"] == {"train": "100.0,25.0", "val": "0.0,50.0 100.0,0.0"}


def test_curve_of_no_epochs_is_one_point():
    assert curves(epochs(losses=[0.5], kept=0), "loss", width=100, height=50)["lines"]["val"] == "0.0,0.0"
