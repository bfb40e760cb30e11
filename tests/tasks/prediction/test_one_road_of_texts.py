"""What the gate judged of texts is what answers: evaluate and predict join the same words with the same vectors."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.evaluate import parts_of
from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer
from tasks.prediction.heldout import ask
from tasks.prediction.inputs import Input
from tasks.prediction.reading import Reading
from tasks.prediction.stream import answer_stream
from tests.tasks.models.test_encoder import TEXTS, encoder
from tests.tasks.models.test_text_bundle import words

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")


@pytest.fixture
def rows(tmp_path):
    """A manifest of texts, each in a file."""
    place = tmp_path / "raw" / "news"
    place.mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        (place / f"{number}.txt").write_text(text.upper(), "utf-8")
    ids = [sample_id(canonical([text.upper()])) for text in TEXTS]
    return pd.DataFrame({"batch": "news", "path": [f"{number}.txt" for number in range(len(TEXTS))], "sample_id": ids})


@pytest.fixture
def models():
    """Two classifiers that share an encoder: one reads words too."""
    torch.manual_seed(1)
    backbone = encoder("bert")
    classes, temperatures = {"topic": ["sport", "world", "trade"]}, {"topic": 0.1}
    return {
        "candidate": Classifier(backbone, classes, temperatures=temperatures, words=words()).eval(),
        "baseline": Classifier(backbone, classes, temperatures=temperatures).eval(),
    }


def test_stream_and_heldout_give_the_same_bits(rows, models, tmp_path):
    answerers = {name: Answerer(model, device="cpu") for name, model in models.items()}
    asked = ask(
        answerers, rows, raw=tmp_path / "raw", store=tmp_path / "store", parts=parts_of("text", ["lowercase"]),
        alterations=["lowercase"],
    )  # fmt: skip
    inputs = [Input(path=path, place=tmp_path / "raw" / "news" / path) for path in rows["path"]]
    for name, answerer in answerers.items():
        [found] = answer_stream(inputs, answerer, reading=Reading(answerer.transform, {}))
        np.testing.assert_array_equal(asked.models[name]["topic"], found.answers["topic"])
    candidate = answerers["candidate"]
    lower = [text.upper().lower() for text in TEXTS]
    expected = candidate.answer(
        [candidate.transform.prepare(text) for text in lower], [candidate.words(text) for text in lower]
    )
    np.testing.assert_array_equal(asked.altered["lowercase"]["topic"], expected["topic"])
    assert not np.allclose(asked.models["candidate"]["topic"], asked.models["baseline"]["topic"])
