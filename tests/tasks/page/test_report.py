import base64
import io
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from tasks.machine.files import read_json, write_json

HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The scripts of a page, its pictures by their alternative text, and the attributes that could fetch or run something."""

    def __init__(self, page):
        super().__init__()
        self.scripts = []
        self.pictures = {}
        self.fetched = []
        self.handlers = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))
        if tag == "img":
            self.pictures[dict(attrs)["alt"]] = dict(attrs)["src"]
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]


def words(page):
    """The page's text without its tags, its style and its scripts."""
    shown = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def test_class_that_is_called_like_a_script_is_shown_not_run(page):
    found = page(names=(HOSTILE, 'dog" onmouseover="alert(1)'))
    assert Tags(found).scripts == ["application/json", None]
    assert Tags(found).handlers == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found


def test_file_and_title_that_are_called_like_a_script_are_shown_not_run(page):
    found = page(title=HOSTILE, quarantine=[["a", f"cat/{HOSTILE}.png", "", "unreadable", HOSTILE]])
    assert len(Tags(found).scripts) == 2
    assert words(found).count("&lt;script&gt;") >= 3


def test_accepted_candidate_is_said_to_be_so(page):
    found = words(page())
    assert "The candidate is accepted The one rule holds, on 12 held-out samples." in found
    assert "No model is in use yet" in found


def test_rejected_candidate_is_shown_with_the_rule_that_it_broke(page):
    found = words(page(verdict="rejected", was_wrong=[]))
    assert "The candidate is rejected 1 of 1 rule is broken, on 12 held-out samples." in found
    assert "label recall of cat is 0.5, expected at least 0.7" in found
    assert "label recall of cat ✕ fail 0.5 at least 0.7 0.12" in found


@pytest.fixture
def judged(project):
    """The words of a page whose verdict has other fields."""

    def read(**fields):
        made = project()
        path = made.folder / "regression/verdict.json"
        write_json(path, read_json(path) | fields)
        return words(made.draw().read_text("utf-8"))

    return read


def test_test_that_did_not_pass_is_told_beside_the_verdict_and_is_no_rule(judged):
    found = judged(verdict="rejected", num_failed=1, problems=["test_floors: the disk is full"])
    assert "rejected The one rule holds, but 1 other test did not pass, on 12 held-out samples." in found
    assert found.index("Did not pass: test_floors: the disk is full") < found.index("accuracy")


def test_tests_that_recorded_no_rule_are_not_said_to_have_judged(judged):
    assert "accepted No rule judged it, on 12 held-out samples." in judged(rules=[])


def test_class_that_no_sample_is_held_out_of_is_told_at_the_top(judged):
    found = judged(classes_without_samples=["label zebra", f"label {HOSTILE}"])
    said = "2 classes have no held-out sample, and nothing is known of them: label zebra , label &lt;script&gt;"
    assert found.index(said) < found.index("accuracy")
    few = judged(classes_without_samples=[f"label {number}" for number in range(12)])
    assert "label 9 and 2 more." in few
    for none in ({}, {"classes_without_samples": []}):
        assert "no held-out sample" not in judged(**none)


def test_comparison_with_the_model_in_use_is_shown_even_without_losses(page):
    found = words(page(wrong=[6], was_wrong=[6, 7, 8]))
    assert "+16.7 points 2 gained, 0 lost" in found
    assert "Accuracy higher is better; +0.1667, better" in found
    assert "Log-loss lower is better; +0.0000, equal" in found


def test_each_number_has_its_interval(page):
    found = words(page())
    for said in ("Macro F1", "Log-loss", "Brier score", "Calibration error"):
        assert said in found
    assert "0.1200 0.1000 to 0.1400" in found


def test_interval_without_width_is_not_shown_as_certainty(project):
    made = project(wrong=[])
    path = made.folder / "evaluation/metrics.json"
    metrics = read_json(path)
    metrics["label"]["candidate"] |= {"macro_f1": 1.0}
    metrics["label"]["candidate"]["intervals"] |= {"macro_f1": [1.0, 1.0]}
    write_json(path, metrics)
    found = words(made.draw().read_text("utf-8"))
    assert "Macro F1 higher is better Candidate 1.0000 too few errors to tell" in found
    assert "1.0000 to 1.0000" not in found


def test_candidate_is_compared_on_the_samples_that_both_can_know(page):
    found = words(page(wrong=[0, 1], was_wrong=[0, 4, 5, 6, 7, 8, 9, 10, 11], num_shared=4))
    assert "−25.0 points 0 gained, 1 lost, on 4 samples" in found
    assert "The two are compared on the 4 of 12 samples that the model in use did not learn from" in found
    both, alone = found[found.index("On the 4 samples that both can know") :].split(
        "The candidate on all 12 held-out samples"
    )
    assert "Accuracy higher is better; −0.2500, worse Candidate 0.5000" in both
    assert "Accuracy higher is better Candidate 0.8333" in alone
    assert "Model in use" not in alone[: alone.index("Slices")]


def test_without_a_sample_that_both_can_know_nothing_is_compared(page):
    found = words(page(was_wrong=range(12), num_shared=0))
    compared = found[found.index("Candidate against the model in use") : found.index("Slices Those")]
    assert "– no sample to compare on" in found
    assert "The two cannot be compared" in compared
    assert "Accuracy higher is better Candidate 0.8333" in compared
    assert "right in both" not in compared


def test_sizes_of_the_bundles_are_compared(page):
    assert "Bundle on disk lower is better; +1.00 MB, worse Candidate 45.00 MB Model in use 44.00 MB" in words(
        page(was_wrong=[])
    )
    assert "Bundle on disk lower is better Candidate 45.00 MB" in words(page())


def test_page_fetches_nothing(page):
    found = page()
    assert [each for each in Tags(found).fetched if not each.startswith(("data:", "#"))] == []
    assert not re.search(r"https?://|url\(|@import", found)


def test_long_ledger_is_cut_and_says_so(page):
    rows = [["a", f"cat/none-{number}.png", "", "empty_file", "the file has no bytes"] for number in range(5)]
    found = words(page(quarantine=rows, max_quarantined_rows=2))
    assert "2 of 5, newest batch first; the ledger has them all" in found
    assert "cat/none-1.png" in found
    assert "cat/none-2.png" not in found


def test_counts_of_a_batch_are_shown(page):
    found = words(page(quarantine=[["a", "cat/none.png", "", "empty_file", "no bytes"]]))
    assert "a 7 6 0 0 6 1 0 1 empty file" in found


def test_quarantined_picture_that_can_be_decoded_is_shown_and_no_other(page, quarantined):
    rows = [
        quarantined("cat/twice.png", "exact_duplicate"),
        quarantined("cat/bomb.png", "too_many_pixels"),
        ["a", "../../secret.png", "", "outside_batch", "it leaves the batch"],
    ]
    shown = Tags(page(quarantine=rows)).pictures
    assert "cat/twice.png" in shown
    assert not {"cat/bomb.png", "../../secret.png"} & set(shown)


def test_pictures_are_small_ones_without_metadata(project):
    found = Tags(project().draw(picture_size=8).read_text("utf-8")).pictures
    assert set(found) == {"dog/1.png", "cat/6.png"}
    for source in found.values():
        content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
        with Image.open(io.BytesIO(content)) as small:
            assert max(small.size) == 8
            assert not {"exif", "icc_profile", "xmp"} & set(small.info)


def test_picture_of_a_batch_that_is_not_here_is_told_with_the_command(project):
    made = project()
    shutil.rmtree(made.folder / "raw" / "b")
    with pytest.raises(ValueError, match=r"b/cat/6\.png is missing: restore it, or run `dvc pull .*raw/b\.dvc`"):
        made.draw()


def test_picture_that_changed_is_refused(project, picture):
    made = project()
    picture(50).save(made.folder / "raw" / "a" / "dog" / "1.png")
    with pytest.raises(ValueError, match="changed after it was validated"):
        made.draw()


def test_what_changed_in_the_classes_is_shown(page):
    named = {"new": ["Cat", "eel"], "missing": ["cat"], "perhaps_renamed": [["cat", "Cat"]]}
    changes = {"label": {"b": {what: {"count": len(which), "named": which} for what, which in named.items()}}}
    gone = {"label": {"count": 1, "named": ["dodo"]}}
    waiting = {"label": {"count": 1, "named": {"<eel>": 3}}, "colour": {"count": 0, "named": {}}}
    found = words(page(validation={"class_changes": changes, "probation": waiting, "without_samples": gone}))
    assert "Batch b , classes of label : 2 new: Cat , eel . 1 missing: cat . Is cat now called Cat ?" in found
    assert "1 class of label waits for more samples: &lt;eel&gt; (3)." in found
    assert "of colour wait" not in found
    assert "Registered classes of label without samples: dodo ." in found


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


def test_same_input_gives_the_same_page(project):
    made = project(was_wrong=[6, 7])
    assert made.draw().read_bytes() == made.draw().read_bytes()


def test_candidate_that_is_right_everywhere_is_said_to_be_so(page):
    assert "The candidate is right on every held-out sample." in words(page(wrong=[]))


def test_slice_that_lost_the_most_comes_first(page):
    rows = [
        ["label", "domain", "night", 5, 0.7, 0.5, 0.9, 5, 0.6, 0, 1],
        ["label", "domain", HOSTILE, 5, 0.8, 0.6, 0.9, 5, 0.95, 2, 0],
    ]
    found = words(page(slices=rows, was_wrong=[]))
    assert "by domain 2 slices" in found
    assert found.index("&lt;script&gt;alert(1)&lt;/script&gt; 5 0.800") < found.index("night 5 0.700")


def test_slice_says_on_how_many_samples_the_model_in_use_was_measured_where_these_are_fewer(page):
    found = words(page(slices=[["label", "domain", "night", 5, 0.7, 0.5, 0.9, 3, 0.6, 0, 1]], was_wrong=[]))
    assert "by domain 1 slice Slice" in found
    assert "night 5 0.700 0.50 to 0.90 0.600 on 3 1 0" in found


def test_learning_curves_are_told_in_numbers(page):
    found = words(page())
    assert "0 – 1.0000 – 0.5000 1 kept 0.6000 0.5000 0.7000 0.8000" in found


def test_held_out_set_that_judged_too_often_is_said_to_be_worn(page):
    assert "Decision 1 on this held-out set." in words(page())
    assert "21 candidates have been judged on this held-out set: rotate it" in words(page(num_decisions=21))


def test_page_says_what_became_of_fine_tuning_and_why(page):
    found = words(page(reason=f"the candidate is the head alone: {HOSTILE} may be chance"))
    assert "The candidate is the head alone: &lt;script&gt;alert(1)&lt;/script&gt; may be chance." in found
    assert "2 of 9 blocks of the backbone were trained for 1 epoch; every epoch was run." in found
    assert "In epoch 1 the loss on val is 0.250 above that on train: a gap that grows" in found


def test_table_of_slices_that_is_missing_is_told(project):
    made = project()
    (made.folder / "evaluation" / "slices.csv").unlink()
    with pytest.raises(ValueError, match=r"slices\.csv is missing: run `dvc repro evaluate`"):
        made.draw()
