"""A service with a model of texts."""

import json

import pytest

from tasks.predict import predict
from tests.kit.service import serving

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")


def test_texts_of_json_of_fields_and_of_files_are_answered_as_predict_does(tmp_path):
    from tests.tasks.test_predict_text import TEXTS, saved

    bundle = saved(tmp_path / "bundle", text_columns=["title", "body"])
    table = "\n".join(f'"{title}","{body}"' for title, body in TEXTS)
    (tmp_path / "news.csv").write_text(f"title,body\n{table}\n", "utf-8")
    predict(bundle, [tmp_path / "news.csv"], out=tmp_path / "out.json", device="cpu")
    expected = json.loads((tmp_path / "out.json").read_text("utf-8"))
    with serving(bundle) as running:
        of_json = running.client.post("/predict", json={"texts": [list(cells) for cells in TEXTS]})
        of_form = running.client.post(
            "/predict",
            files=[("text", (None, "a b")), ("file", ("b.txt", "ü".encode())), ("file", ("c.txt", b"\xff\xfe"))],
        )
        refused = running.client.post("/predict", json={"images": ["aa"]})
    shown = ("sample_id", "target", "label", "probability", "truncated", "share_unknown", "reason")
    assert [[row.get(name) for name in shown] for row in of_json.json()["predictions"]] == [
        [row[name] for name in shown] for row in expected
    ]
    assert [(row["path"], row["reason"]) for row in of_form.json()["predictions"]] == [
        ("text 0", None),
        ("b.txt", None),
        ("c.txt", "not_text"),
    ]
    assert refused.status_code == 400
    assert "the model reads texts" in refused.json()["error"]
