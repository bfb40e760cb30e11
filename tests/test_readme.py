"""The code that docs show runs, and does what they say."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.images.decode import decode_sample
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.prediction.export import export
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tests.kit.plain import plain_probabilities
from tests.kit.programs import run

ROOT = Path(__file__).parent.parent
[CODE, CODE_OF_A_POWER, CODE_OF_A_NUMBER], [CODE_OF_TEXTS] = (
    re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text("utf-8"), flags=re.DOTALL)
    for page in ("predict", "text")
)
STAGES = ["stage2", "stage3", "stage4", "conv5"]
ARCHITECTURES = {
    "shufflenet_v2_x1_0": {"features": STAGES, "image_size": 32, "power": 0.5},
    "squeezenet1_1": {"features": "penultimate", "image_size": 64, "power": 1.0},
    "resnet18": {"features": "penultimate", "image_size": 64, "power": 1.0},
}


SCRIPT = """
import os
for folder, code in {pairs!r}:
    os.chdir(folder)
    exec(code, {{}})
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return, by architecture, a backbone, the folder of its model and of a picture, and both lines that are printed.

    One process runs the code for each, so that only the first waits for torch.
    """
    made, pairs = {}, []
    for architecture, settings in ARCHITECTURES.items():
        torch.manual_seed(1)
        backbone = load_backbone(architecture, weights="random", **settings)
        rotation = Number(measure="degrees", centre=180.0, scale=90.0)
        targets = {"label": Classes(("a cat", "a dog", "an eel")), "rotation": rotation}
        model = Classifier(backbone, targets, temperatures={"label": 0.5})
        with torch.no_grad():
            model.heads[0].bias.copy_(torch.tensor([0.1, 0.9, 0.0]))
        folder = tmp_path_factory.mktemp(architecture)
        (folder / "model").mkdir()
        save_bundle(folder / "model", model, lineage={})
        noise = np.random.default_rng(3).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 200), Image.Resampling.BILINEAR).save(folder / "picture.png")
        code = CODE if settings["power"] == 1 else CODE.replace("print(", CODE_OF_A_POWER + "print(")
        pairs.append((str(folder), code + CODE_OF_A_NUMBER))
        made[architecture] = backbone, folder
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = run(sys.executable, "-c", SCRIPT.format(pairs=pairs), cwd=elsewhere, env={"OMP_NUM_THREADS": "1"})
    lines = iter(done.stdout.splitlines())
    return {name: (*facts, next(lines), next(lines)) for name, facts in made.items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_five_statements_classify_an_image_without_this_project(answers, architecture):
    backbone, folder, said, number = answers[architecture]
    probability, label = said.split(" ", 1)
    image = decode_sample((folder / "picture.png").read_bytes())
    loaded, _ = load_bundle(folder / "model")
    pixels = backbone.transform.prepare(image)[None]
    [expected], _ = plain_probabilities(loaded, [pixels])
    assert label == loaded.targets["label"].names[int(expected.argmax())]
    assert float(probability) == pytest.approx(float(expected.max()), abs=2e-3)
    value, unit = number.split()
    assert float(value) == pytest.approx(Answerer(loaded, device="cpu").answer(pixels)["rotation"][0, 0], abs=0.2)
    assert unit == "degrees"


def test_the_statements_are_five_and_import_nothing_of_this_project():
    imports, *statements = ast.parse(CODE).body
    assert len(statements) == 5
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in statements)
    assert set(re.findall(r"\w+", ast.unparse(imports))) == {
        "import", "json", "safetensors", "torch", "torchvision", "as", "tv", "models",
        "feature_extraction", "extraction",
    }  # fmt: skip


@pytest.mark.parametrize("reads_words", [False, True])
def test_exported_texts_need_neither_torch_nor_transformers_nor_this_project(tmp_path, reads_words):
    pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")
    from tests.tasks.models.test_encoder import encoder
    from tests.tasks.prediction.test_export_text import expected, words_of

    torch.manual_seed(1)
    model = Classifier(encoder("bert"), {"label": ["bill", "parcel"]}, temperatures={"label": 0.01})
    [texts] = re.findall(r"^texts = (.*)$", CODE_OF_TEXTS, flags=re.MULTILINE)
    texts = ast.literal_eval(texts)
    if reads_words:
        model.words = words_of(texts, {"label": model.targets["label"].names})
    (tmp_path / "model").mkdir()
    export(model, tmp_path / "model/model.onnx", format="onnx")
    blocked = "import sys\nsys.modules |= dict.fromkeys(['torch', 'transformers', 'tasks', 'flows'])\n"
    done = run(sys.executable, "-c", blocked + CODE_OF_TEXTS, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    [probabilities] = expected(model, texts)
    for line, row in zip(done.stdout.splitlines(), probabilities, strict=True):
        label, probability = line.split()
        assert label == model.targets["label"].names[int(row.argmax())]
        assert float(probability) == pytest.approx(float(row.max()), abs=2e-3)
