import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.data.health.suspects import HEALTH, SUSPECTS
from tasks.data.manifest.tables import write_text_table
from tasks.data.samples.samples import sample_id
from tasks.machine.files import read_json, write_json
from tasks.page.previews import DECODED

ROOT = Path(__file__).parents[3]
HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The tags of a page: scripts, images by their alternative text, and attributes that could fetch or run things."""

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
    """Return the page's text without its tags, its style and its scripts."""
    shown = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def test_class_with_a_name_like_a_script_is_shown_not_run(page):
    html = page(names=(HOSTILE, 'dog" onmouseover="alert(1)'))
    assert Tags(html).scripts == ["application/json", None]
    assert Tags(html).handlers == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_file_and_title_with_a_name_like_a_script_are_shown_not_run(page):
    html = page(title=HOSTILE, quarantine=[["a", f"cat/{HOSTILE}.png", "", "unreadable", HOSTILE]])
    assert len(Tags(html).scripts) == 2
    assert words(html).count("&lt;script&gt;") >= 3


def test_page_says_that_the_candidate_is_accepted(page):
    text = words(page())
    assert "The candidate is accepted The only rule holds, on 12 held-out samples." in text
    assert "No model is in use yet" in text


@pytest.mark.parametrize(
    ("promotes", "what_follows"),
    [(True, "It may be put in use all the same, because it is not behind."), (False, "It waits for a person.")],
)
def test_undecided_candidate_is_shown_with_its_doubts_and_what_follows(judged, promotes, what_follows):
    doubt = f"label: shows that it lost less than 3.1 points {HOSTILE}"
    text = judged(
        verdict="undecided", promotes=promotes, doubts=[doubt], unseen=["label class cat could lose up to 9 points"]
    )
    assert "? The candidate is undecided The only rule holds" in text
    assert f"{what_follows} label: shows that it lost less than 3.1 points &lt;script&gt;" in text
    assert "1 slice could have lost more than the margin unseen label class cat could lose up to 9 points" in text


def test_rejected_candidate_is_shown_with_the_rule_that_it_broke(page):
    text = words(page(verdict="rejected", was_wrong=[]))
    assert "The candidate is rejected 1 of 1 rule is broken, on 12 held-out samples." in text
    assert "label recall of cat is 0.5, expected at least 0.7" in text
    assert "label recall of cat ✕ fail 0.5 at least 0.7 0.12" in text


@pytest.fixture
def judged(project):
    """Return a function that changes fields of the verdict and returns the words of the page."""

    def read(**fields):
        written = project()
        path = written.folder / "regression/verdict.json"
        write_json(path, read_json(path) | fields)
        return words(written.draw().read_text("utf-8"))

    return read


def test_test_that_did_not_pass_is_shown_beside_the_verdict_and_is_not_a_rule(judged):
    text = judged(verdict="rejected", num_failed=1, problems=["test_floors: the disk is full"])
    assert "rejected The only rule holds, but 1 other test did not pass, on 12 held-out samples." in text
    assert text.index("Did not pass: test_floors: the disk is full") < text.index("accuracy")


def test_page_says_that_no_rule_judged_if_the_tests_recorded_none(judged):
    assert "accepted No rule judged it, on 12 held-out samples." in judged(rules=[])


def test_class_without_a_held_out_sample_is_named_at_the_top(judged):
    text = judged(classes_without_samples=["label zebra", f"label {HOSTILE}"])
    warning = "2 classes have no held-out sample, so nothing is known about them: label zebra , label &lt;script&gt;"
    assert text.index(warning) < text.index("accuracy")
    few = judged(classes_without_samples=[f"label {number}" for number in range(12)])
    assert "label 9 and 2 more." in few
    for none in ({}, {"classes_without_samples": []}):
        assert "no held-out sample" not in judged(**none)


def test_comparison_with_the_model_in_use_is_shown_even_without_losses(page):
    text = words(page(wrong=[6], was_wrong=[6, 7, 8]))
    assert "+16.7 points 2 gained, 0 lost" in text
    assert "Accuracy higher is better; +0.1667, better" in text
    assert "Log-loss lower is better; +0.0000, equal" in text


def test_each_number_has_its_interval(page):
    text = words(page())
    for measure in ("Macro F1", "Log-loss", "Brier score", "Calibration error"):
        assert measure in text
    assert "0.1200 0.1000 to 0.1400" in text


def test_interval_without_width_is_not_shown_as_certainty(project):
    written = project(wrong=[])
    path = written.folder / "evaluation/metrics.json"
    metrics = read_json(path)
    metrics["label"]["candidate"] |= {"macro_f1": 1.0}
    metrics["label"]["candidate"]["intervals"] |= {"macro_f1": [1.0, 1.0]}
    write_json(path, metrics)
    text = words(written.draw().read_text("utf-8"))
    assert "Macro F1 higher is better Candidate 1.0000 too few errors for an interval" in text
    assert "1.0000 to 1.0000" not in text


def test_models_are_compared_on_the_samples_that_both_can_know(page):
    text = words(page(wrong=[0, 1], was_wrong=[0, 4, 5, 6, 7, 8, 9, 10, 11], num_shared=4))
    assert "−25.0 points 0 gained, 1 lost, on 4 samples" in text
    reason = "those whose class the model in use knows, and that it did not learn from"
    assert f"The two models are compared on 4 of 12 samples: {reason}" in text
    both, alone = text[text.index("Both models on 4 samples") :].split("The candidate on all 12 held-out samples")
    assert "Accuracy higher is better; −0.2500, worse Candidate 0.5000" in both
    assert "Accuracy higher is better Candidate 0.8333" in alone
    assert "Model in use" not in alone[: alone.index("Slices")]


def test_without_a_sample_that_both_can_know_nothing_is_compared(page):
    text = words(page(was_wrong=range(12), num_shared=0))
    compared = text[text.index("Candidate against the model in use") : text.index("Slices The slices")]
    assert "– no sample to compare on" in text
    assert "The two models cannot be compared" in compared
    assert "Accuracy higher is better Candidate 0.8333" in compared
    assert "right in both" not in compared


def test_sizes_of_the_bundles_are_compared(page):
    assert "Bundle on disk lower is better; +1.00 MB, worse Candidate 45.00 MB Model in use 44.00 MB" in words(
        page(was_wrong=[])
    )
    assert "Bundle on disk lower is better Candidate 45.00 MB" in words(page())


def test_page_fetches_nothing(page):
    html = page()
    assert [address for address in Tags(html).fetched if not address.startswith(("data:", "#"))] == []
    assert not re.search(r"https?://|url\(|@import", html)


def test_page_says_that_it_shows_a_part_of_a_long_ledger(page):
    rows = [["a", f"cat/none-{number}.png", "", "empty_file", "the file has no bytes"] for number in range(5)]
    text = words(page(quarantine=rows, max_quarantined_rows=2))
    assert "2 of 5 rows, the newest batch first. The file quarantine.csv has all of them." in text
    assert "cat/none-1.png" in text
    assert "cat/none-2.png" not in text


def test_counts_of_a_batch_are_shown(page):
    text = words(page(quarantine=[["a", "cat/none.png", "", "empty_file", "no bytes"]]))
    assert "a 7 6 0 0 6 0 1 0 1 empty file" in text


def test_quarantined_image_is_shown_only_if_it_can_be_decoded(page, quarantined):
    rows = [
        quarantined("cat/twice.png", "exact_duplicate"),
        quarantined("cat/bomb.png", "too_many_pixels"),
        ["a", "../../secret.png", "", "outside_batch", "it leaves the batch"],
    ]
    shown = Tags(page(quarantine=rows)).pictures
    assert "cat/twice.png" in shown
    assert not {"cat/bomb.png", "../../secret.png"} & set(shown)


def test_page_is_drawn_with_rows_of_every_reason(project, quarantined):
    """The ledger has a picture for each reason, one removed since, one that changed, a text and an unread file."""
    reasons = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/data.md").read_text("utf-8"), re.M)
    rows = [
        row
        for reason in reasons
        for row in (
            quarantined(f"cat/{reason}.png", reason),
            ["a", f"cat/gone-{reason}.png", "0" * 64, reason, "detail"],
            ["a", f"cat/{reason}.png", "0" * 64, reason, "it had other bytes"],
            ["a", "notes.txt", sample_id(b"notes"), reason, "detail"],
            ["a", "notes.txt", "", reason, "never read"],
        )
    ]
    written = project(quarantine=rows)
    (written.folder / "raw/a/notes.txt").write_bytes(b"notes")
    shown = Tags(written.draw(max_quarantined_rows=len(rows)).read_text("utf-8")).pictures
    assert {path for path in shown if path.removeprefix("cat/").removesuffix(".png") in reasons} == {
        f"cat/{reason}.png" for reason in DECODED
    }


def test_thumbnails_are_small_and_have_no_metadata(project):
    shown = Tags(project().draw(picture_size=8).read_text("utf-8")).pictures
    assert {"dog/1.png", "cat/6.png"} < set(shown)
    for source in shown.values():
        content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
        with Image.open(io.BytesIO(content)) as small:
            assert max(small.size) == 8
            assert not {"exif", "icc_profile", "xmp"} & set(small.info)


def test_error_about_an_image_of_a_missing_batch_has_the_command(project):
    written = project()
    shutil.rmtree(written.folder / "raw" / "b")
    with pytest.raises(ValueError, match=r"b/cat/6\.png is missing: restore it, or run `dvc pull .*raw/b\.dvc`"):
        written.draw()


def test_image_that_changed_is_refused(project, picture):
    written = project()
    picture(50).save(written.folder / "raw" / "a" / "dog" / "1.png")
    with pytest.raises(ValueError, match="changed after it was validated"):
        written.draw()


def test_changes_of_the_classes_are_shown(page):
    named = {"new": ["Cat", "eel"], "missing": ["cat"], "perhaps_renamed": [["cat", "Cat"]]}
    changes = {"label": {"b": {kind: {"count": len(names), "named": names} for kind, names in named.items()}}}
    gone = {"label": {"count": 1, "named": ["dodo"]}}
    waiting = {"label": {"count": 1, "named": {"<eel>": 3}}, "colour": {"count": 0, "named": {}}}
    text = words(page(validation={"class_changes": changes, "probation": waiting, "without_samples": gone}))
    assert "Batch b , classes of label : 2 new: Cat , eel . 1 missing: cat . Is cat now called Cat ?" in text
    assert "1 class of label waits for more samples: &lt;eel&gt; (3)." in text
    assert "of colour wait" not in text
    assert "Registered classes of label without samples: dodo ." in text


def test_unmet_expectation_is_shown_with_its_severity(page):
    unmet = {
        "name": "min_samples", "sentence": "9 samples can be used, expected at least <10>", "severity": "warning",
        "success": False,
    }  # fmt: skip
    assert "warning: 9 samples can be used, expected at least &lt;10&gt;." in words(
        page(validation={"expectations": [unmet]})
    )


def test_pool_is_counted_apart_from_what_is_used_and_quarantined(page):
    counts = {"a": {"in": 9, "used": 6, "pool": 3}, "b": {"in": 7, "used": 6, "pool": 0, "quarantined.torn": 1}}
    text = words(page(validation={"batches": counts}))
    assert "a 9 6 0 0 6 3 0 0" in text
    assert "b newest 7 6 0 0 6 0 1 0 1 torn" in text


def test_remarks_and_lost_classes_are_shown(page):
    lost = {"label": {"<eel>": "2 empty_file, such as a/<eel>/1.png"}}
    text = words(page(validation={"remarks": ["not learned: '<id>'"], "lost_classes": lost}))
    assert "not learned: &#39;&lt;id&gt;&#39;." in text
    assert "Every sample of class &lt;eel&gt; of label is lost: 2 empty_file, such as a/&lt;eel&gt;/1.png." in text


def test_leaks_are_reported(page):
    assert "There are no near-duplicates between training and the held-out set." in words(page())
    text = words(page(audit={"num_leaks": 1200, "num_leaked": 3}))
    assert "1,200 training or val samples are near-duplicates of 3 held-out samples and were left out" in text
    assert "leaks may remain" not in text


def test_page_warns_if_copies_cannot_be_distinguished(page):
    text = words(page(audit={"limits": {"separates": False, "expected_recall": 0.42}}))
    assert "The search finds only 42 % of altered copies in this data: leaks may remain." in text


def test_losses_below_a_hundredth_are_drawn_with_the_number_at_the_top(project):
    written = project()
    table = written.folder / "training/curves.csv"
    curves = pd.read_csv(table)
    curves.filter(like="loss").div(1000).combine_first(curves)[curves.columns].to_csv(table, index=False)
    assert '<text x="-6" y="4" text-anchor="end">0.001</text>' in written.draw().read_text("utf-8")


def test_same_input_gives_the_same_page(project):
    written = project(was_wrong=[6, 7])
    assert written.draw().read_bytes() == written.draw().read_bytes()


def test_page_says_that_the_candidate_is_right_everywhere(page):
    assert "The candidate is right on every held-out sample." in words(page(wrong=[]))


def test_slice_that_lost_the_most_comes_first(page):
    rows = [
        ["label", "domain", "night", 5, 0.7, 0.5, 0.9, 5, 0.6, 0, 1],
        ["label", "domain", HOSTILE, 5, 0.8, 0.6, 0.9, 5, 0.95, 2, 0],
    ]
    text = words(page(slices=rows, was_wrong=[]))
    assert "by domain 2 slices" in text
    assert text.index("&lt;script&gt;alert(1)&lt;/script&gt; 5 0.800") < text.index("night 5 0.700")


def test_slice_has_the_number_of_samples_of_the_model_in_use_if_it_is_smaller(page):
    text = words(page(slices=[["label", "domain", "night", 5, 0.7, 0.5, 0.9, 3, 0.6, 0, 1]], was_wrong=[]))
    assert "by domain 1 slice Slice" in text
    assert "night 5 0.700 0.50 to 0.90 0.600 on 3 1 0" in text


def test_learning_curves_are_shown_in_numbers(page):
    text = words(page())
    assert "0 – 1.0000 0.9000 – 0.5000 1 kept 0.6000 0.5000 0.4000 0.7000 0.8000" in text


def test_page_says_that_a_held_out_set_is_worn(page):
    assert "Decision 1 on this held-out set." in words(page())
    assert "21 candidates have been judged on this held-out set. Rotate it" in words(page(num_decisions=21))


def test_page_says_how_fine_tuning_ended_and_why(page):
    text = words(page(reason=f"the candidate is the head alone: {HOSTILE} may be chance"))
    assert "The candidate is the head alone: &lt;script&gt;alert(1)&lt;/script&gt; may be chance." in text
    assert "2 of 9 blocks of the backbone were trained for 1 epoch; every epoch was run." in text
    assert "In epoch 1 the loss on val is 0.250 above the loss on train, before calibration. If the gap grows" in text


def test_page_says_what_was_chosen_among_what_with_each_val_loss(page):
    text = words(page(reason="the candidate is three quarters of the way to the fine-tuned model of epoch 2"))
    assert "It is three quarters of the way to the fine-tuned model of epoch 2." in text
    assert (
        "head alone 0.9000 0.5000 25 % of the way 0.7750 0.5625 50 % of the way 0.6500 0.6250 "
        "75 % of the way chosen 0.5250 0.6875 fine-tuned 0.4000 0.7500" in text
    )
    assert "head alone chosen 0.9000" in words(page())


def test_missing_table_of_slices_is_an_error_with_the_command(project):
    written = project()
    (written.folder / "evaluation" / "slices.csv").unlink()
    with pytest.raises(ValueError, match=r"slices\.csv is missing: run `dvc repro evaluate`"):
        written.draw()


def test_each_class_is_shown_by_right_answers_of_the_newest_batches(page):
    html = page(num_samples=40, wrong=[21])
    text = words(html)
    assert "cat 20 of 20 right" in text
    assert "dog 19 of 20 right" in text
    shown = set(Tags(html).pictures) - {"dog/21.png"}  # the wrong one
    assert len(shown) == 8
    assert {name.partition("/")[0] for name in shown} == {"cat", "dog"}
    assert all(int(name.partition("/")[2].removesuffix(".png")) >= 20 for name in shown)  # batch b


def test_samples_of_the_pool_are_counted_and_are_not_quarantined(page):
    counts = {"a": {"in": 11, "used": 6, "pool": 5}, "b": {"in": 6, "used": 6, "pool": 0}}
    text = words(page(validation={"batches": counts}))
    assert "a 11 6 0 0 6 5 0 0" in text
    assert "b newest 6 6 0 0 6 0 0 0" in text


def test_lineage_is_read_in_words_and_short_hashes(page):
    html = page()
    assert f'<code title="{"d" * 64}">{"d" * 12}</code>' in html
    assert f"version of the data {'d' * 12} " in words(html)
    assert "made with torch 2" in words(html)
    assert "data 12 samples of 2 batches, the newest is b" in words(html)


def test_places_of_another_held_out_set_are_refused(project):
    few = (project(num_samples=4).folder / "evaluation/places.safetensors").read_bytes()
    written = project(num_samples=12)
    places = written.folder / "evaluation/places.safetensors"
    places.write_bytes(few)
    with pytest.raises(ValueError, match=r"places\.safetensors has 4 places, expected 12: run `dvc repro evaluate`"):
        written.draw()
    places.unlink()
    with pytest.raises(ValueError, match=r"places\.safetensors is missing: run `dvc repro evaluate`"):
        written.draw()


LETTER = "Miss Quincunx of 14 Elm Street said {{ 7 * 7 }} & <b>so</b>"


def test_texts_are_not_on_the_page_unless_params_allow_it(page):
    html = page(texts=[LETTER], leaks=[(2, 0)], audit={"num_leaks": 1, "num_leaked": 1})
    assert "Quincunx" not in html
    assert "The texts themselves are not shown: report.show_text: true in params.yaml shows them." in words(html)
    assert "a/dog/1.txt" in html


def test_texts_are_shown_escaped_and_with_masked_digits(page):
    html = page(texts=[LETTER], show_text=True)
    quoted = "Miss Quincunx of •• Elm Street said {{ • * • }} &amp; &lt;b&gt;so&lt;/b&gt;"
    assert f">{quoted}</blockquote>" in html
    assert "of 14 Elm Street" in page(texts=[LETTER], show_text=True, mask_digits=False)
    assert Tags(html).pictures == {}


def test_text_in_the_ledger_is_shown_only_if_it_could_be_decoded_and_may_be_shown(project, tmp_path):
    (tmp_path / "raw/a").mkdir(parents=True)
    for name in ("twice", "none"):
        (tmp_path / f"raw/a/{name}.txt").write_text(f"words of {name}", "utf-8")
    rows = [
        ["a", f"{name}.txt", sample_id(f'["words of {name}"]'.encode()), reason, "detail"]
        for name, reason in (("twice", "exact_duplicate"), ("none", "no_text"))
    ]
    written = project(texts=["cat"], quarantine=rows)
    assert "words of" not in written.draw().read_text("utf-8")
    shown = written.draw(show_text=True).read_text("utf-8")
    assert "words of twice" in shown
    assert "words of none" not in shown


def test_near_duplicates_are_shown_beside_their_twins_the_least_alike_first(page):
    pairs = {"leaks": [(2, 0), (3, 1)], "audit": {"num_leaks": 2, "num_leaked": 2}}
    html = page(texts=["a cat", "a dog", "a big cat", "the dog"], show_text=True, **pairs)
    first, second = html[html.index('class="twins"') :].split("</li>")[:2]
    assert "<mark>the</mark> dog" in first
    assert "<mark>a</mark> dog" in first
    assert "a <mark>big </mark>cat" in second
    assert "cosine 0.988, 4 bits of the hash differ" in words(second)
    assert "2 of 2 near-duplicates beside their held-out twins" in words(html)
    assert "1 of 2 near-duplicates" in words(page(texts=["a", "b"], max_twins=1, **pairs))


def test_near_duplicates_among_images_are_shown_beside_their_twins(page):
    html = page(leaks=[(2, 0)], audit={"num_leaks": 1, "num_leaked": 1})
    shown = Tags(html[html.index('class="twins"') :].split("</ul>")[0]).pictures
    assert list(shown) == ["cat/2.png", "cat/0.png"]
    assert len({*shown.values()}) == 2


def test_page_says_what_the_encoder_could_not_read(page):
    marks = {"num_samples": 7600, "num_cut": 2, "share_unknown": 0.003}
    text = words(page(texts=["a"], audit={"marks": marks, "warnings": ["40 % of the tokens of batch <b> are unknown"]}))
    assert "2 of 7,600 texts are longer than the encoder reads and are cut; 0.3 % of tokens are unknown to the" in text
    assert "warning: 40 % of the tokens of batch &lt;b&gt; are unknown." in text
    assert "longer than the encoder reads" not in words(page())


def test_words_alone_are_compared_where_they_were_measured(project):
    written = project()
    path = written.folder / "evaluation/metrics.json"
    metrics = read_json(path)
    metrics["label"]["words_alone"] = metrics["label"]["head"] | {"accuracy": 0.8125}
    write_json(path, metrics)
    text = words(written.draw().read_text("utf-8"))
    assert "Words alone 0.8125" in text


def test_page_says_what_there_is_to_look_at_and_how_new_batches_differ(project):
    written = project()
    row = {
        "kind": "label_error", "batch": "a", "path": "cat/<b>.png", "sample_id": "id", "target": "label",
        "label": "cat", "suggested": "dog", "score": 0.9, "detail": "labelled cat, looks like <i>dog</i>",
    }  # fmt: skip
    write_text_table(written.folder / "health" / SUSPECTS, pd.DataFrame([row]))
    findings = {
        "num_suspects": {"label_error": 1200, "outlier": 0},
        "confusions": {"label": [{"one": "cat", "other": "<dog>", "num": 3, "share": 0.125}]},
        "weak_slices": {"label": [{"text": "of 120 alike samples 40 % are answered wrongly"}]},
        "batches": {"a": {"drift": None}, "b": {"drift": {"text": "batch b differs from the 6 samples before it"}}},
    }
    write_json(written.folder / "health" / HEALTH, findings)
    html = written.draw().read_text("utf-8")
    text = words(html)
    assert "Batch b differs from the 6 samples before it." in text
    assert "1,200 labels that are probably wrong" in text
    assert "samples of train or val that" not in text
    assert "Of 120 alike samples 40 % are answered wrongly." in text
    assert "12.5 % of both" in text
    assert "looks like &lt;i&gt;dog&lt;/i&gt;" in html
    assert "&lt;dog&gt;" in html
    assert "To look at:" not in project().draw().read_text("utf-8")
