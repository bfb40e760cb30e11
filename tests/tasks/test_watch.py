"""The verb `watch` on a log of answers: what it writes, what it leaves out, and what it refuses."""

import json

import numpy as np
import pytest

from tasks.prediction.answer_log import AnswerLog
from tasks.prediction.prediction_table import prediction_writer, schema_of
from tasks.watch import lines_of, main, watch

MODEL = "ab" * 32
HOSTILE = '<script>alert(1)</script>"\u202e'
NAMES = ["cat", "dog", HOSTILE]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder that stands for a bundle: its description alone is read."""
    from tasks.targets.classes import Classes

    monkeypatch.setattr("tasks.watch.described", lambda folder: (MODEL, {"label": Classes(tuple(NAMES))}))
    return tmp_path / "bundle"


def rows(generator, n, shares=(0.4, 0.4, 0.2), *, first=0):
    labels = generator.choice(3, n, p=shares)
    return [
        {
            "path": f"{first + number}.png", "sample_id": f"{first + number:064x}", "target": "label",
            "label": NAMES[label], "probability": float(generator.beta(5, 2)),
        }
        for number, label in enumerate(labels)
    ]  # fmt: skip


def reference(tmp_path, generator):
    file = tmp_path / "trusted.parquet"
    with prediction_writer(file, schema_of("images", [])) as writer:
        for row in rows(generator, 500, first=10_000):
            writer.add(row)
    return file


def logged(folder, rows, *, model=MODEL):
    log = AnswerLog(folder)
    log.add(rows, schema_of("images", [], is_log=True), model=model)
    log.turn(is_over=True)
    return folder


def test_drift_in_the_log_of_a_service_is_said_and_names_are_escaped(tmp_path, bundle):
    generator = np.random.default_rng(0)
    folder = logged(tmp_path / "log", [*rows(generator, 100), *rows(generator, 100, (0.1, 0.2, 0.7), first=100)])
    trusted = reference(tmp_path, generator)
    found = watch([folder], bundle=bundle, reference=trusted, out=tmp_path / "out", window=100)
    assert [one["is_drifted"] for one in found["windows"]] == [False, True]
    assert found["is_drifted"]
    assert json.loads((tmp_path / "out/watch.json").read_text("utf-8")) == found
    page = (tmp_path / "out/watch.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    said = "\n".join(lines_of(found))
    assert "window 2 from " in said
    assert "1 of 2 windows drifted" in said
    assert "1.00% at most raise a false alarm" in said
    again = watch([folder], bundle=bundle, reference=trusted, out=tmp_path / "out", window=100)
    assert again == found


def test_window_that_was_judged_is_not_judged_again_until_its_answers_or_the_reference_change(tmp_path, bundle):
    generator = np.random.default_rng(0)
    folder = logged(tmp_path / "log", rows(generator, 60))
    trusted, out = reference(tmp_path, generator), tmp_path / "out"

    def watched(**options):
        options = {"bundle": bundle, "reference": trusted, "out": out, "window": 60} | options
        return watch([folder], **options)["windows"]

    def mark():
        """Change what watch.json says of the first window, so that a decision that was kept is known by it."""
        kept = json.loads((out / "watch.json").read_text("utf-8"))
        kept["windows"][0]["tests"][0]["effect"] = 77.0
        (out / "watch.json").write_text(json.dumps(kept), "utf-8")

    def is_kept(windows):
        return windows[0]["tests"][0]["effect"] == 77.0

    first = watched()
    mark()
    logged(folder, rows(generator, 60, first=100))
    again = watched()
    assert len(again) == 2
    assert is_kept(again)
    assert not is_kept(watched(false_alarms=0.02))
    (out / "watch.json").write_text('{"windows": [{"grounds": 1, "tests": 3, "is_judged": true}]}', "utf-8")
    assert watched() == first + again[1:]
    kept = (out / "watch.json").read_text("utf-8")
    (out / "watch.json").write_text(kept.replace('"p_value": ', '"p_value": "few", "p": '), "utf-8")
    assert watched() == first + again[1:]
    mark()
    reference(tmp_path, np.random.default_rng(5))
    assert not is_kept(watched())


def test_windows_of_a_log_stay_where_they_are_when_its_oldest_file_is_removed(tmp_path, bundle):
    generator = np.random.default_rng(0)
    folder, options = tmp_path / "log", {"bundle": bundle, "reference": reference(tmp_path, generator), "window": 50}
    for first in (0, 100, 200):
        logged(folder, rows(generator, 80, first=first))
    before = watch([folder], out=tmp_path / "out", **options)["windows"]
    min(folder.iterdir()).unlink()
    found = watch([folder], out=tmp_path / "out", **options)
    assert [one["num_samples"] for one in found["windows"]] == [20, 50, 50, 40]
    assert found["windows"][1:] == before[2:]
    assert watch([folder], out=tmp_path / "fresh", **options)["windows"][0]["num_samples"] == 50


def test_answers_of_other_models_and_labels_of_samples_never_answered_are_counted(tmp_path, bundle):
    generator = np.random.default_rng(0)
    folder = logged(tmp_path / "log", rows(generator, 60))
    logged(folder, rows(generator, 40, (0, 0, 1), first=500), model="cd" * 32)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"sample_id,label\n{3:064x},cat\n{500:064x},cat\n{999:064x},fox\n", "utf-8")
    found = watch(
        [folder], bundle=bundle, reference=reference(tmp_path, generator), out=tmp_path / "out", labels=[labels]
    )
    [window] = found["windows"]
    assert window["num_samples"] == 60
    assert window["accuracy"]["label"]["num_labelled"] == 1
    assert found["counts"] == {
        "of_other_models": 40, "without_time": 0, "without_answer": 0, "repeated": 0, "labels": 3,
        "labels_of_other_models": 1, "labels_never_answered": 1, "labels_of_unknown_classes": 1,
    }  # fmt: skip


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".json"])
def test_files_of_predict_have_windows_by_count_and_none_by_time(tmp_path, bundle, ending):
    generator = np.random.default_rng(0)
    file = tmp_path / f"answers{ending}"
    with prediction_writer(file, schema_of("images", []), ending=ending) as writer:
        for row in rows(generator, 70):
            writer.add(row)
        writer.add({"path": "bad.png", "target": "label", "reason": "broken", "detail": "…"})
    trusted = reference(tmp_path, generator)
    found = watch([file], bundle=bundle, reference=trusted, out=tmp_path / "out", window=30)
    assert [one["num_samples"] for one in found["windows"]] == [30, 30, 10]
    assert [one["is_judged"] for one in found["windows"]] == [True, True, False]
    assert found["counts"]["without_answer"] == 1
    with pytest.raises(ValueError, match="no answer has a time"):
        watch([file], bundle=bundle, reference=trusted, out=tmp_path / "out", every="1h")


def test_folder_with_other_files_is_not_replaced(tmp_path, bundle):
    (tmp_path / "thesis.tex").write_text("years of work", "utf-8")
    with pytest.raises(ValueError, match=r"has 'thesis.tex', which the watch would replace: name a folder of its own"):
        watch([tmp_path / "log"], bundle=bundle, reference=tmp_path / "r", out=tmp_path)


def test_project_that_evaluated_another_model_says_what_to_do(tmp_path, bundle):
    folder = logged(tmp_path / "log", rows(np.random.default_rng(0), 40))
    evaluation = tmp_path / "evaluation"
    with pytest.raises(ValueError, match=r"has no answers to held-out samples: bring the project up to date"):
        watch([folder], bundle=bundle, evaluation=evaluation, out=tmp_path / "out")
    evaluation.mkdir()
    (evaluation / "predictions.parquet").touch()
    (evaluation / "subject.json").write_text('{"candidate": "ef", "baseline": null}', "utf-8")
    with pytest.raises(ValueError, match=r"is not about the model abababababab: bring .* or name .* with --reference"):
        watch([folder], bundle=bundle, evaluation=evaluation, out=tmp_path / "out")


@pytest.mark.parametrize("option", [["--window", "29"], ["--false-alarms", "0"], ["--false-alarms", "nan"]])
def test_option_that_is_out_of_bounds_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        main(["log", "--bundle", "b", "--out", "o", *option])
    assert "expected a" in capsys.readouterr().err
