"""What the page says of a training that went on from the model in use."""

from tasks.machine.files import read_json, write_json
from tasks.page.start import start_in_words

WARM = {
    "model_sha256": "abcdef0123456789", "new": 1200, "replayed": 3600, "warm_runs": 3,
    "val": {"label": {"loss": 0.3456, "accuracy": 0.9}},
    "last_from_backbone": {
        "val": {"label": {"loss": 0.3, "accuracy": 0.91}}, "heldout": {"label": {"accuracy": 0.953, "log_loss": 0.2}}
    },
}  # fmt: skip


def test_start_and_drift_are_said_in_sentences():
    metrics = {"label": {"candidate": {"accuracy": 0.951}}}
    assert start_in_words(WARM, metrics) == [
        "Training went on from the model in use, abcdef012345: it learned from 1,200 new samples of train, and again "
        "from 3,600 old ones. It is run 3 since the last one from the backbone.",
        "Drift of label since that one, each on the samples of its day: the loss on val was 0.3000 and is 0.3456, and "
        "the held-out accuracy was 95.3% and is 95.1%.",
    ]


def test_drift_of_a_number_is_that_of_its_error():
    start = WARM | {"last_from_backbone": {"val": None, "heldout": {"label": {"error": 3.0, "unit": "mm"}}}}
    [_, drift] = start_in_words(start, {"label": {"candidate": {"error": 2.5}}})
    assert drift.endswith("each on the samples of its day: the held-out error was 3 and is 2.5 (mm).")


def test_unknown_drift_and_a_start_from_the_backbone_are_said_as_they_are():
    unknown = WARM | {"last_from_backbone": {"val": None, "heldout": None}}
    assert len(start_in_words(unknown, {})) == 1
    reason = {"reason": "the model in use has another backbone", "warm_runs": 0}
    assert start_in_words(reason, {}) == [
        "Training started from the backbone: the model in use has another backbone."
    ]  # fmt: skip
    assert start_in_words(None, {}) == []


def test_page_names_the_model_in_use_as_a_candidate_beside_the_head(project):
    drawn = project()
    path = drawn.folder / "training/finetuning.json"
    tuned = read_json(path)
    verdict = tuned["verdict"] | {"head": {"loss": 0.8765, "accuracy": 0.4}, "is_finetuned": True, "share": 0.0}
    write_json(path, tuned | {"start": WARM, "verdict": verdict})
    page = drawn.draw().read_text("utf-8")
    assert "Training went on from the model in use, abcdef012345" in page
    section = page[page.index('id="training"') :]
    rows = [row.split("</tr>")[0] for row in section[: section.index("</table>")].split("<tr>")[2:]]
    assert "head alone" in rows[0]
    assert "0.8765" in rows[0]
    assert "model in use" in rows[1]
    assert "chosen" in rows[1]
    assert not any("chosen" in row for row in [rows[0], *rows[2:]])
    assert "Epoch 0 is the model in use" in page


def test_page_of_a_training_from_the_backbone_says_nothing_about_a_start(project):
    page = project().draw().read_text("utf-8")
    assert "from the backbone" not in page
    assert "Epoch 0 is the head alone" in page
