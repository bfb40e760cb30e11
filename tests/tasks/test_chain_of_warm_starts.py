"""Night after night, the model that was in use when a batch landed learns it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tasks.machine.files import read_json, sha256, write_json
from tasks.models.bundle import load_bundle
from tasks.stage.params import load_params
from tests.kit.chain import FEW_FEATURES, ROOT, Chain

FIRST, NEW = 400, 40  # samples of the first batch, and of each later one


def write_digits(folder, *, start, num):
    """Write pictures of digits into class folders."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for place in range(start, start + num):
        picture = Image.fromarray((digits.images[place] * 15.9).astype(np.uint8)).resize((16, 16))
        into = folder / f"digit {digits.target[place]}"
        into.mkdir(parents=True, exist_ok=True)
        picture.save(into / f"{place:04d}.png")


class Nights(Chain):
    """A project whose trainings go on from the model in use."""

    def __init__(self, folder, **changes):
        params = load_params(ROOT / "params.yaml")
        super().__init__(
            folder,
            validate_=replace(params.validate_, min_samples_per_class=5),
            backbone=replace(params.backbone, **FEW_FEATURES),
            finetune=replace(params.finetune, **{"start": "in_use", "epochs": 3, "num_views": 2} | changes),
        )
        self.num = 0

    def night(self, num=NEW):
        """A batch lands and is learned; return the facts of the start."""
        if self.num:
            self.record()
            self.land(f"batch-{self.num}")
        write_digits(self.paths["scan"]["raw"], start=self.num, num=num)
        self.num += num
        self.do("scan", "validate", *([] if (self.data / "backbone").exists() else ["backbone"]))
        self.do("embed", "audit", "train_head")
        return self.train()

    def train(self):
        self.do("finetune")
        return self.json("training/finetuning.json")["start"]

    def record(self):
        """Record the trained model as the one in use, as an ingest after its promotion does."""
        shutil.rmtree(self.data / "start", ignore_errors=True)
        shutil.copytree(self.data / "trained", self.data / "start")
        files = {"model_sha256": "model.safetensors", "description_sha256": "model.json"}
        record = {key: sha256(self.data / "start" / name) for key, name in files.items()}
        write_json(self.data / "start.json", record | {"metrics": {"label": {"accuracy": 0.9}}})

    def files(self):
        return {path.name: path.read_bytes() for part in ("trained", "training")
                for path in sorted((self.data / part).iterdir())}  # fmt: skip


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory, great_expectations):
    nights = Nights(tmp_path_factory.mktemp("nights"))
    nights.starts = [nights.night(FIRST), nights.night()]
    nights.verdict = nights.json("training/finetuning.json")["verdict"]
    nights.lineage = read_json(nights.data / "trained/model.json")["lineage"]
    nights.starts.append(nights.night())
    return nights


def test_first_run_starts_from_the_backbone_and_says_why(three_nights):
    start = three_nights.starts[0]
    assert start["reason"].startswith("no model in use is recorded")
    assert start["warm_runs"] == 0


def test_new_batch_is_learned_by_the_model_in_use_with_a_few_old_samples(three_nights):
    """A fifth of a batch is held out, and a sixth is val."""
    first, second = three_nights.starts[1:]
    assert 15 < first["new"] < NEW
    assert first["replayed"] == max(3 * first["new"], 32)
    assert (first["warm_runs"], second["warm_runs"]) == (1, 2)


def test_last_run_from_the_backbone_is_kept_in_mind(three_nights):
    scratch, first, second = three_nights.starts
    assert first["last_from_backbone"] == {"val": scratch["val"], "heldout": {"label": {"accuracy": 0.9}}}
    assert second["last_from_backbone"] == first["last_from_backbone"]
    assert second["val"]["label"]["accuracy"] > scratch["val"]["label"]["accuracy"] - 0.03


def test_head_of_the_run_is_one_of_the_candidates(three_nights):
    verdict = three_nights.verdict
    assert [own["share"] for own in verdict["candidates"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert verdict["head"]["loss"] > verdict["candidates"][0]["loss"]
    assert "of the model in use" in verdict["reason"]


def test_lineage_has_the_data_of_all_batches_and_the_model_that_it_goes_on_from(three_nights):
    assert len(three_nights.lineage["start"]["model_sha256"]) == 64
    assert three_nights.lineage["params"]["start"] == "in_use"
    assert three_nights.lineage["params"]["head_learning_rate"] == 0.001


def test_second_run_elsewhere_gives_the_same_bytes(three_nights):
    nights, before = three_nights, three_nights.files()
    shutil.rmtree(nights.data / "scratch")
    nights.train()
    assert nights.files() == before


def test_model_that_is_trained_on_answers_after_a_bundle_too(three_nights):
    model, lineage = load_bundle(three_nights.data / "trained")
    assert list(model.targets) == ["label"]
    assert lineage["start"]["warm_runs"] == 2


def test_recorded_model_that_is_missing_or_another_stops_the_run_in_a_line(three_nights):
    nights = three_nights
    (nights.data / "start/model.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"start/model\.json is not that of the model in use"):
        nights.train()
    shutil.rmtree(nights.data / "start")
    with pytest.raises(ValueError, match=r"the model in use is not at .*start: run `dvc pull .*start\.dvc`"):
        nights.train()
