"""Texts are fine-tuned as images are: on cached activations or anew, with adapters, stopped and resumed, to one bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks import finetune
from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import Samples, sample_id
from tasks.data.samples.text_cells import canonical
from tasks.embedding.layers import FrozenLayers
from tasks.embedding.packing import TextEmbedder
from tasks.machine import cores
from tasks.machine.files import sha256, write_json
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer
from tasks.prediction.latency import example, latency
from tasks.stage.params import load_params
from tasks.targets.head import Head, save_heads
from tasks.text.augment import AugmentedViews
from tasks.text.decode import decode_sample, read
from tasks.text.packed import PAGE, Packed
from tasks.training.finetuning.adapters import LowRank, adapt, merge
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.finetuning.tuning import Data, fine_tune, for_modality, label_tensor, lengths_of, open_source
from tests.kit.killed import KilledAfter, KilledError
from tests.tasks.models.test_encoder import encoder
from tests.tasks.text.test_tokenizer import transform

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

ROOT = Path(__file__).parents[4]
CLASSES = {"topic": ["early", "late"]}
NUM_TRAIN, NUM_VAL = 40, 24
EAGER = {
    "epochs": 6, "minibatch_size": 8, "head_learning_rate": 0.02, "backbone_learning_rate": 0.005, "unfreeze": 1,
    "harm_significance": 0.01, "precision": "fp32", "device": "cpu", "mixup": 0.0,
}  # fmt: skip


def text_of(number):
    """Letters of the first half of the alphabet or of the second, 1 to 50 of them."""
    chance = np.random.default_rng(number)
    letters = "abcdefg" if number % 2 else "defghij"
    return " ".join(letters[at] for at in chance.integers(0, len(letters), 1 + number * 7 % 50))


class Project:
    """A manifest of texts and the classifiers to train on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "raw/first").mkdir(parents=True)
        rows = []
        for number in range(NUM_TRAIN + NUM_VAL):
            path = folder / f"raw/first/{number}.txt"
            path.write_text(text_of(number), "utf-8")
            rows.append(
                {
                    "batch": "first", "path": path.name, "sample_id": sample_id(canonical([text_of(number)])),
                    "topic": CLASSES["topic"][number % 2], "split": "train" if number < NUM_TRAIN else "val",
                }
            )  # fmt: skip
        self.rows = pd.DataFrame(rows)
        self.data = Data(
            labels=label_tensor(self.rows, CLASSES),
            train=np.arange(NUM_TRAIN),
            val=np.arange(NUM_TRAIN, NUM_TRAIN + NUM_VAL),
        )

    def samples(self):
        return Samples(self.rows, raw=self.folder / "raw", decode=decode_sample, read=read)

    def model(self, kind="bert", *, long="head", pooling="mean"):
        made = encoder(kind, pooling=pooling)
        made.transform = transform(max_tokens=16 if long == "windows" else 64, long=long)
        torch.manual_seed(1)
        return Classifier(made, CLASSES).eval()

    def options(self, **changes):
        return replace(load_params(ROOT / "params.yaml").finetune, **EAGER | changes)

    def source(self, model, *, store="store", **changes):
        options = self.options(**changes)
        samples = self.samples()
        return open_source(
            samples, model, self.data, views=AugmentedViews(augmentation=options, seed=0),
            scratch=self.folder / store, backbone=model.backbone.fingerprint(), options=options,
            lengths=lengths_of(samples, model.backbone.transform),
        )  # fmt: skip

    def tune(self, model, *, store="store", keeper=None, **changes):
        source = self.source(model, store=store, **changes)
        return fine_tune(model, source, self.data, options=self.options(**changes), seed=0, keeper=keeper)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def moved(model, before):
    return {name for name, content in bits(model).items() if content != before[name]}


def epoch_of(source, project):
    """Return what a training reads in an epoch, in an order of its own."""
    order = np.random.default_rng(0).permutation(project.data.train)
    parts = [*source.minibatches(project.data.val, None, size=5), *source.minibatches(order, 0, size=5)]
    return torch.cat([part.values for part in parts]), [lengths for part in parts for lengths in part.lengths]


@pytest.mark.parametrize("long", ["head", "windows"])
def test_training_reads_the_same_to_the_bit_whatever_pages_are_kept(project, long):
    """All of them, some, and none: texts whose pages are not kept are computed each time."""
    model = project.model(long=long)
    whole = project.source(model)
    expected, lengths = epoch_of(whole, project)
    assert whole.num_kept == whole.num_wanted > NUM_TRAIN + NUM_VAL  # pages
    assert whole.value_bytes == PAGE * model.backbone.dim * 2
    half = project.source(model, store="half", cache_gigabytes=whole.num_wanted // 2 * whole.record_bytes / 1e9)
    assert 0 < half.num_kept <= whole.num_wanted // 2
    for source in (half, project.source(model, store="none", cache_gigabytes=0.0)):
        values, found = epoch_of(source, project)
        assert torch.equal(values, expected)
        assert found == lengths


def test_activations_are_those_of_the_frozen_layers_and_are_computed_once(project):
    model = project.model()
    source = project.source(model)
    [first] = source.minibatches(project.data.val[:3], None, size=3)
    texts = Packed.of_ids([model.backbone.transform.prepare(text_of(NUM_TRAIN + number)) for number in range(3)])
    with torch.no_grad():
        expected = torch.cat([*FrozenLayers(model.backbone, 1)(texts.values, texts.windows)])
    torch.testing.assert_close(first.values, expected, atol=1e-4, rtol=1e-3)  # in half precision
    assert source.keep() == 0
    assert project.source(model).keep() == 0


def test_last_layers_and_the_head_learn_and_all_else_keeps_every_byte(project):
    model = project.model()
    before = bits(model)
    tuned = project.tune(model)
    assert tuned.verdict.is_finetuned, tuned.verdict.reason
    assert (tuned.num_blocks, tuned.num_all_blocks) == (1, 2)
    names = {name for name in before if name.startswith(("heads.", "backbone.network.encoder.layer.1."))}
    assert moved(model, before) == names


@pytest.mark.parametrize("kind", ["modernbert", "mpnet"])
def test_other_kinds_learn_too(project, kind):
    """ModernBERT has a normalisation behind its layers; MPNet computes one text at a time."""
    model = project.model(kind)
    before = bits(model)
    tuned = project.tune(model)
    assert tuned.verdict.candidates[1.0].loss < tuned.verdict.candidates[0.0].loss
    changed = moved(model, before)
    assert any(".1." in name for name in changed)
    assert not any(".0." in name for name in changed - {"heads.0.weight", "heads.0.bias"})
    assert ("backbone.network.final_norm.weight" in changed) == (kind == "modernbert")


@pytest.mark.parametrize(("unfreeze", "part"), [("all", "embeddings"), (0, "heads.0"), (2, "layer.0")])
def test_whole_encoder_or_the_head_alone_is_trained_on_request(project, unfreeze, part):
    model = project.model()
    before = bits(model)
    project.tune(model, unfreeze=unfreeze)
    changed = moved(model, before)
    assert any(part in name for name in changed)
    assert any("embeddings" in name for name in changed) == (unfreeze == "all")
    assert unfreeze != 0 or changed == {"heads.0.weight", "heads.0.bias"}


def test_same_bytes_come_of_any_cache_and_any_number_of_cores(project, monkeypatch):
    def trained(number, cache):
        monkeypatch.setattr(cores, "num_cores", lambda: number)
        model = project.model()
        project.tune(model, store=f"store-{number}-{cache}", cache_gigabytes=cache)
        return bits(model)

    expected = trained(1, 4.0)
    assert trained(2, 4.0) == expected
    assert trained(2, 0.0) == expected


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(project, tmp_path, method):
    undisturbed = project.model()
    project.tune(undisturbed, method=method)
    with pytest.raises(KilledError):
        project.tune(project.model(), method=method, keeper=KilledAfter(tmp_path, recipe={}))
    resumed = project.model()
    project.tune(resumed, method=method, keeper=Checkpoint(tmp_path, recipe={}))
    assert bits(resumed) == bits(undisturbed)


def test_adapters_are_merged_so_that_the_saved_model_answers_as_the_trained_one(project, tmp_path):
    model = project.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = project.tune(model, method="lora", lora_rank=2, backbone_learning_rate=0.05)
    assert tuned.verdict.candidates[1.0].loss < tuned.verdict.candidates[0.0].loss
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    for name in changed - {"heads.0.weight", "heads.0.bias"}:
        assert name.startswith("backbone.network.encoder.layer.1.")
        assert torch.linalg.matrix_rank(model.state_dict()[name] - before[name], atol=1e-4) <= 2
    assert len(changed) == 2 + 6  # query, key, value, output and the two layers behind them
    folder = tmp_path / "bundle"
    folder.mkdir()
    save_bundle(folder, model, lineage={})
    prepared = [model.backbone.transform.prepare(text_of(number)) for number in range(NUM_TRAIN + NUM_VAL)]
    answers = Answerer(load_bundle(folder)[0], device="cpu").answer(prepared)["topic"]
    hits = answers[NUM_TRAIN:].argmax(axis=1) == project.data.labels[project.data.val][:, 0].numpy()
    assert hits.mean() == tuned.verdict.candidates[1.0].accuracy


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "modernbert", "deberta-v2", "mpnet"])
def test_adapter_changes_nothing_at_the_start_and_its_merged_layers_give_what_it_gave(kind):
    made = encoder(kind)
    texts = Packed.of_ids([made.transform.prepare("a b c d e")])
    with torch.no_grad():
        before = made(texts.values, texts.windows)
        adapt(made, [made.network], rank=3, seed=0)
        assert torch.equal(made(texts.values, texts.windows), before)
        for part in made.modules():
            if isinstance(part, LowRank):
                part.up.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.05)
        adapted = made(texts.values, texts.windows)
        assert not torch.allclose(adapted, before)
        merge(made)
        torch.testing.assert_close(made(texts.values, texts.windows), adapted, atol=1e-5, rtol=1e-4)
    assert made.state_dict().keys() == encoder(kind).state_dict().keys()


def test_fine_tuned_encoder_embeds_to_the_bit_whatever_the_neighbours(project):
    model = project.model()
    project.tune(model)
    embedder = TextEmbedder(model.backbone, Answerer(model, device="cpu").plan)
    windows = [embedder.transform.prepare(text_of(number)) for number in range(9)]
    assert torch.equal(embedder(windows)[4], embedder([windows[4]])[0])


def test_texts_are_not_mixed(project):
    with pytest.raises(ValueError, match=r"finetune.mixup is 0.3, but texts of different lengths cannot be mixed: set"):
        project.tune(project.model(), mixup=0.3)


def test_texts_of_another_domain_are_aligned_to(project):
    """Their labels are there, and no training sees them."""
    project.data = replace(project.data, train=np.arange(24), unlabelled=np.arange(24, NUM_TRAIN))
    aligned, plain = project.model(), project.model()
    project.tune(aligned, align="mmd")
    project.tune(plain)
    assert moved(aligned, bits(plain))
    project.data.labels[24:NUM_TRAIN] = 1 - project.data.labels[24:NUM_TRAIN]
    again = project.model()
    project.tune(again, align="mmd")
    assert not moved(again, bits(aligned))


def test_encoder_without_layers_in_a_row_is_trained_whole_or_refused(project):
    with pytest.raises(ValueError, match=r"finetune.unfreeze is 1, but albert has no layers .*: set it to all"):
        project.tune(project.model("albert"))
    with pytest.raises(ValueError, match=r"finetune.method is lora, but albert has no layers"):
        project.tune(project.model("albert"), unfreeze="all", method="lora")
    assert project.tune(project.model("albert"), unfreeze="all").history.kept > 0


def test_adapters_of_images_are_refused(project):
    with pytest.raises(ValueError, match=r"finetune.method is lora, which is for text encoders: set it to full"):
        for_modality(project.options(method="lora"), "images")


# the verb, and the latency of what it makes


@pytest.fixture
def arguments(project):
    """All that `tasks.finetune.run` takes."""
    folder = project.folder
    for name in ("manifest", "audit", "backbone", "head"):
        (folder / name).mkdir()
    write_table(folder / "manifest/first.parquet", project.rows)
    write_json(folder / "classes.json", CLASSES)
    write_json(folder / "split.json", {"salt": "graftline", "val_fraction": 0.15, "heldout_fraction": 0.2})
    (folder / "batches.yaml").write_text("batches: [first]", "utf-8")
    pd.DataFrame([], columns=COLUMNS).to_csv(folder / "audit" / LEAKS, index=False)
    backbone = project.model().backbone
    save_bundle(folder / "backbone", Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
    weight = np.random.default_rng(0).normal(0, 0.1, (2, backbone.dim)).astype(np.float32)
    layer = weight, np.zeros(2, np.float32)
    save_heads(folder / "head", {"topic": Head(layers=(layer,))}, targets=CLASSES, facts={})
    names = ("classes.json", "split.json", "batches.yaml", "manifests", "audit", "raw", "backbone", "head", "start",
             "scratch")  # fmt: skip
    paths = {name.partition(".")[0]: folder / name for name in names} | {"manifests": folder / "manifest"}
    paths["start_record"] = folder / "start.json"
    params = load_params(ROOT / "params.yaml")
    sections = {"finetune": project.options(), "scan": params.scan, "train_head": params.train_head}
    return paths | sections | {"modality": "text", "seed": 0}


def test_verb_writes_the_same_candidate_again_without_computing_an_activation(project, arguments, caplog):
    caplog.set_level("INFO")
    for name in ("one", "two"):
        finetune.run(**arguments, out=project.folder / name, curves=project.folder / f"{name}-curves")
    assert " 0 of them computed now" in caplog.text
    for file in ("model.safetensors", "model.json", "tokenizer.json"):
        assert (project.folder / "one" / file).read_bytes() == (project.folder / "two" / file).read_bytes()
    assert load_bundle(project.folder / "one")[1]["stage"] == "finetuned"


def test_text_model_in_use_goes_on_with_the_words_of_the_run_and_the_new_texts(project, arguments, caplog):
    """The second half of the texts lands later."""
    caplog.set_level("INFO")
    folder, rows = project.folder, project.rows
    arguments["finetune"] = replace(arguments["finetune"], start="in_use", replay=1.0, pairs="never")
    write_json(folder / "start.json", {})
    is_old = (np.arange(len(rows)) % 4 < 3) | (rows["split"] == "val")
    for batch, own in (("first", rows[is_old]), ("second", rows[~is_old])):
        write_table(folder / f"manifest/{batch}.parquet", own.reset_index(drop=True))
    finetune.run(**arguments, out=folder / "start", curves=folder / "curves")
    assert "fine-tuning starts from the backbone: no model in use is recorded" in caplog.text
    digests = {"model_sha256": "model.safetensors", "description_sha256": "model.json"}
    write_json(folder / "start.json", {key: sha256(folder / "start" / name) for key, name in digests.items()})
    (folder / "batches.yaml").write_text("batches: [first, second]", "utf-8")
    finetune.run(**arguments, out=folder / "candidate", curves=folder / "curves")
    start = load_bundle(folder / "candidate")[1]["start"]
    assert start["new"] == (~is_old & (rows["split"] == "train")).sum() > 0
    assert start["warm_runs"] == 1


def test_latency_is_that_of_a_text_of_the_median_length_and_says_so(project, arguments):
    finetune.run(**arguments, out=project.folder / "candidate", curves=project.folder / "curves")
    model, lineage = load_bundle(project.folder / "candidate")
    words = [len(text_of(number).split()) for number in range(NUM_TRAIN + NUM_VAL)]
    median = round(np.median(words)) + 2  # with the special tokens
    assert str(latency(model, lineage)).endswith(f" ms for one sample, a text of {median} tokens, the median")


@pytest.mark.parametrize(("told", "expected"), [(10**9, 64), (-3, 64), ("many", 64), (9, 9)])
def test_length_that_a_stranger_tells_is_bounded(project, told, expected):
    [window] = example(project.model().backbone.transform, {"median_tokens": told})
    assert len(window) == expected
