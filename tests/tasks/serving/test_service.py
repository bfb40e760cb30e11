"""A service on loopback: its answers are those of predict, and another model takes over without a lost request."""

import base64
import json
import shutil
import threading

import pytest

from flows.in_use.exchange import put_in_place
from tasks.predict import predict
from tasks.prediction.answer_log import AnswerLog, answer_files, read_answers
from tasks.prediction.prediction_table import COLUMNS
from tasks.serving import minibatches
from tests.kit.service import serving


def test_answers_are_those_of_predict_to_the_last_bit(bundle, png, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = [(f"{seed:02d}.png", png(seed)) for seed in range(20)] + [("cut.png", png(0)[:500])]
    for name, content in files:
        (folder / name).write_bytes(content)
    predict(bundle, [folder], out=tmp_path / "out.json", device="cpu")
    expected = {(row["sample_id"], row["target"]): row for row in json.loads((tmp_path / "out.json").read_text())}
    with serving(bundle) as running:
        of_form = running.ask(*files)
        body = {"images": [base64.b64encode(content).decode() for _, content in files], "names": [n for n, _ in files]}
        of_json = running.client.post("/predict", json=body)
        model = running.health()["model"]
    assert of_form.status_code == of_json.status_code == 200
    answered = of_form.json()["predictions"]
    assert answered == of_json.json()["predictions"]
    assert [row["path"] for row in answered] == [name for name, _ in files for _ in ("animal", "place")]
    for row in answered:
        own = expected[row["sample_id"], row["target"]]
        assert {name: row[name] for name in ("label", "probability", "reason", "detail")} == {
            name: own[name] for name in ("label", "probability", "reason", "detail")
        }
        assert row.get("top_probabilities") == own["top_probabilities"]
        assert row["model"] == model
        assert set(COLUMNS) <= set(row)
    assert {row["reason"] for row in answered[-2:]} == {"truncated"}


def test_no_request_is_lost_while_models_take_over_from_each_other(make_bundle, png, tmp_path):
    """Some have another head, some another backbone, which torch traces while others compute."""
    place = make_bundle(tmp_path / "place")
    news = [make_bundle(tmp_path / f"new{number}", backbone=number // 2, head=number) for number in range(1, 5)]
    log = AnswerLog(tmp_path / "log")
    statuses: list[int] = []
    models: set[str] = set()
    is_over = threading.Event()

    def ask(running, seed):
        while not is_over.is_set():
            answer = running.ask(("a.png", png(seed)), ("b.png", png(seed + 1)))
            statuses.append(answer.status_code)
            models.update(row["model"] for row in answer.json()["predictions"] if row["label"])

    with serving(place, log=log) as running:
        askers = [threading.Thread(target=ask, args=(running, seed)) for seed in range(4)]
        for asker in askers:
            asker.start()
        in_use = []
        for new in news:
            before = running.health()["model"]
            put_in_place(new, place, old=tmp_path / f"old-{new.name}")
            in_use.append(running.until(lambda health, before=before: health["model"] != before)["model"])
        is_over.set()
        for asker in askers:
            asker.join()
        assert running.health()["swaps"] == 4
    assert set(statuses) == {200}
    assert len(set(in_use)) == 4
    assert models >= set(in_use[:-1])
    logged = [row for file in answer_files([tmp_path / "log"]) for row in read_answers(file).to_pylist()]
    assert len(logged) == 4 * len(statuses)  # two samples, two targets
    assert {row["model"] for row in logged} == models


@pytest.mark.parametrize("damage", ["torn", "vanished", "of texts"])
def test_damaged_bundle_leaves_the_old_model_answering_and_health_says_so(damage, make_bundle, png, tmp_path):
    place = make_bundle(tmp_path / "place")
    whole = shutil.copytree(place, tmp_path / "whole")
    with serving(place) as running:
        before = running.health()
        assert before["status"] == "ok"
        if damage == "torn":
            weights = place / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100])
        elif damage == "vanished":
            shutil.rmtree(place)
        else:
            (place / "model.json").write_text('{"modality": "text"}')
        health = running.until(lambda health: health["status"] == "degraded")
        assert str(place) in health["bundle_problem"]
        assert health["model"] == before["model"]
        assert "graftline_serve_bundle_is_whole 0.0" in running.client.get("/metrics").text
        assert running.ask(("a.png", png(0))).status_code == 200
        shutil.rmtree(place, ignore_errors=True)
        whole.rename(place)
        assert running.until(lambda health: health["status"] == "ok")["model"] == before["model"]


def test_health_and_metrics_say_what_happened(bundle, png):
    with serving(bundle) as running:
        running.ask(("a.png", png(0)), ("b.png", b"no picture"))
        health = running.health()
        metrics = running.client.get("/metrics").text
    assert health["targets"] == {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}
    assert health["modality"] == "images"
    assert health["waiting_samples"] == 0
    assert 'graftline_serve_samples_total{reason=""} 1.0' in metrics
    assert 'graftline_serve_samples_total{reason="not_an_image"} 1.0' in metrics
    assert 'graftline_serve_requests_total{path="/predict",status="200"} 1.0' in metrics
    assert f'model="{health["model"]}"' in metrics


def test_balancer_may_ask_for_the_head_of_the_health(bundle):
    with serving(bundle, token=16 * "0") as running:
        whole, head = running.client.get("/health"), running.client.head("/health")
        assert running.client.head("/metrics", headers={"authorization": ""}).status_code == 401
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_sample_that_cannot_be_computed_spoils_no_other_answer(bundle, png, monkeypatch):
    answer = minibatches.answer_minibatch

    def fail(inputs, *arguments, **settings):
        if any(item.path == "bad.png" for item in inputs):
            raise RuntimeError("out of paper")
        return answer(inputs, *arguments, **settings)

    monkeypatch.setattr(minibatches, "answer_minibatch", fail)
    with serving(bundle) as running:
        answered = running.ask(("a.png", png(0)), ("bad.png", png(1)), ("c.png", png(2)))
    assert answered.status_code == 500
    rows = {row["path"]: row for row in answered.json()["predictions"] if row["target"] == "animal"}
    assert rows["bad.png"]["reason"] == "not_computed"
    assert rows["a.png"]["label"]
    assert rows["c.png"]["label"]


def test_log_that_cannot_be_written_stops_no_answer_and_is_reported(bundle, png, tmp_path):
    log = AnswerLog(tmp_path / "log")
    with serving(bundle, log=log, has_embeddings=True) as running:
        running.ask(("a.png", png(0)))
        assert running.health()["status"] == "ok"
        (tmp_path / "log").rename(tmp_path / "away")
        log.turn(is_over=True)
        assert running.ask(("b.png", png(1))).status_code == 200
        health = running.health()
        assert health["status"] == "degraded"
        assert "No such file" in health["log_problem"]
        assert "graftline_serve_lost_rows_total 2.0" in running.client.get("/metrics").text
        (tmp_path / "away").rename(tmp_path / "log")
        running.ask(("c.png", png(2)))
        assert running.health()["status"] == "ok"
    rows = [row for file in answer_files([tmp_path / "log"]) for row in read_answers(file).to_pylist()]
    assert [row["path"] for row in rows] == ["a.png", "a.png", "c.png", "c.png"]
    assert len(rows[0]["embedding"]) == 1024


def test_page_describes_the_service_without_a_script(bundle):
    with serving(bundle) as running:
        page = running.client.get("/")
        description = running.client.get("/openapi.json").json()
    assert set(description["paths"]) == {"/predict", "/health", "/metrics"}
    assert "POST /predict" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("http://HOST", "")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
