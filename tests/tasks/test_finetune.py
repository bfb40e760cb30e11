"""The verb from the shell, as it is stopped, fed with what does not fit, and run again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import Samples, sample_id
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.machine.files import write_json
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.stage.params import load_params
from tasks.targets.head import Head, save_heads
from tasks.training.finetuning.grafting import graft
from tasks.training.finetuning.tuning import Data, curve_table, fine_tune, label_tensor, num_full, open_source
from tasks.training.finetuning.warm_start import digest_of_data
from tasks.training.loop.fit import Epoch, History
from tasks.training.loop.scores import Scores
from tests.kit.verbs import running_verb
from tests.kit.watching import until

ROOT = Path(__file__).parents[2]
CLASSES = {"label": ["cat", "dog"]}
SIZE = 32  # px
NUM_TRAIN, NUM_VAL = 48, 24
SHORT = {"epochs": 3, "minibatch_size": 8, "precision": "fp32", "num_views": 2}


def params(**changes):
    return replace(load_params(ROOT / "params.yaml").finetune, **SHORT | changes)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=SIZE)


def draw(number):
    """Noise; of a dog, with a bright half."""
    pixels = np.random.default_rng(number).integers(0, 180, (SIZE, SIZE, 3), dtype=np.uint8)
    if number % 2:
        pixels[:, : SIZE // 2] += 60
    return Image.fromarray(pixels)


@pytest.fixture
def inputs(workspace, backbone):
    """All that the verb reads; returns the manifest."""
    raw = workspace / "raw/first"
    raw.mkdir(parents=True)
    rows = []
    for number in range(NUM_TRAIN + NUM_VAL):
        path = raw / f"{number:03d}.png"
        draw(number).save(path)
        rows.append(
            {
                "batch": "first", "path": path.name, "sample_id": sample_id(path.read_bytes()),
                "label": CLASSES["label"][number % 2], "split": "train" if number < NUM_TRAIN else "val",
                "width": SIZE, "height": SIZE,
            }
        )  # fmt: skip
    manifest = pd.DataFrame(rows)
    for name in ("manifest", "audit", "backbone", "head"):
        (workspace / name).mkdir()
    write_table(workspace / "manifest/first.parquet", manifest)
    write_json(workspace / "classes.json", CLASSES)
    write_json(workspace / "split.json", {"salt": "graftline", "val_fraction": 0.15, "heldout_fraction": 0.2})
    pd.DataFrame([], columns=COLUMNS).to_csv(workspace / "audit" / LEAKS, index=False)
    (workspace / "batches.yaml").write_text("batches: [first]", "utf-8")
    save_bundle(workspace / "backbone", Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
    put_head(workspace, CLASSES, dim=backbone.dim)
    put_params(workspace)
    return manifest


def put_head(workspace, classes, *, dim):
    heads = {
        target: Head(layers=((np.zeros((len(names), dim), np.float32), np.zeros(len(names), np.float32)),))
        for target, names in classes.items()
    }
    save_heads(workspace / "head", heads, targets=classes, facts={})


def put_params(workspace, **changes):
    content = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    content["finetune"] |= SHORT | changes
    (workspace / "params.yaml").write_text(yaml.safe_dump(content), "utf-8")


def arguments(out="out", scratch="scratch"):
    named = {
        "manifests": "manifest", "classes": "classes.json", "split": "split.json", "audit": "audit",
        "batches": "batches.yaml", "raw": "raw", "backbone": "backbone", "head": "head",
        "start-record": "start.json", "start": "start", "scratch": scratch,
        "out": f"{out}/candidate", "curves": f"{out}/curves",
    }  # fmt: skip
    return [word for name, value in named.items() for word in (f"--{name}", value)]


def outputs(workspace, out):
    return {
        str(path.relative_to(workspace / out)): path.read_bytes()
        for path in sorted((workspace / out).rglob("*"))
        if path.is_file()
    }


def checkpoints(workspace):
    return list((workspace / "scratch/checkpoints").glob("*.safetensors"))


# stopped, and run again


def kill_when(workspace, is_time):
    """Start the verb and kill it -9 as soon as it is time; asserts that it was still at work."""
    with running_verb("finetune", arguments(), folder=workspace) as run:
        until(lambda: not run.is_alive() or is_time(), pause_seconds=0.005)
        assert run.is_alive()


def epochs_kept(workspace):
    """Return how many epochs the checkpoint has."""
    try:
        content = checkpoints(workspace)[0].read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return len(json.loads(header["__metadata__"]["facts"])["epochs"]) - 1
    except (IndexError, FileNotFoundError):
        return 0


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 8},
        {"epochs": 8, "unfreeze": 3, "gradual": True, "averaging": 0.9, "mixup": 0.3, "cache_gigabytes": 0.0},
    ],
)
def test_run_that_was_killed_goes_on_to_the_same_bytes(inputs, workspace, shell, changes):
    """In the midst of an epoch, with all its blocks unfrozen or one by one."""
    put_params(workspace, **changes)
    kill_when(workspace, lambda: epochs_kept(workspace) >= 2)
    stopped = epochs_kept(workspace)
    assert 2 <= stopped < 8
    assert not (workspace / "out").exists()
    done = shell("finetune", *arguments())
    assert done.status == 0, done.stderr
    assert f"resumes after epoch {stopped}, where an earlier run was stopped" in done.stderr
    assert checkpoints(workspace) == []
    undisturbed = shell("finetune", *arguments(out="fresh", scratch="another"))
    assert undisturbed.status == 0, undisturbed.stderr
    assert "epoch 1/8" in undisturbed.stderr
    assert outputs(workspace, "out") == outputs(workspace, "fresh")


def test_second_run_computes_no_activation_and_gives_the_same_bytes(inputs, workspace, shell):
    assert f"{NUM_VAL + 2 * NUM_TRAIN} of them computed now" in shell("finetune", *arguments()).stderr
    before = outputs(workspace, "out")
    again = shell("finetune", *arguments())
    assert " 0 of them computed now" in again.stderr
    assert outputs(workspace, "out") == before


# what does not fit


def refused(shell, workspace):
    error = shell("finetune", *arguments()).error
    assert not (workspace / "out").exists()
    return error


def test_pool_changes_no_byte_of_the_candidate(inputs, workspace, shell):
    assert shell("finetune", *arguments()).status == 0
    before = outputs(workspace, "out")
    pool = inputs.drop(columns="label").assign(batch="pool", split="pool", sample_id="p" + inputs["sample_id"].str[1:])
    write_table(workspace / "manifest/pool.parquet", pool)  # whose files are not here
    (workspace / "batches.yaml").write_text("batches: [first, pool]", "utf-8")
    assert shell("finetune", *arguments()).status == 0
    assert outputs(workspace, "out") == before


def test_pool_of_another_domain_is_aligned_to_on_request(inputs, workspace, shell):
    """Its samples are darker; the candidate is the same again, whatever is kept of the activations."""
    rows = []
    for number in range(24):
        path = workspace / f"raw/dark/{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        draw(100 + number).point(lambda level: level // 3).save(path)
        rows.append({"batch": "dark", "path": path.name, "sample_id": sample_id(path.read_bytes()), "split": "pool"})
    write_table(workspace / "manifest/dark.parquet", pd.DataFrame(rows).assign(width=SIZE, height=SIZE))
    (workspace / "batches.yaml").write_text("batches: [first, dark]", "utf-8")
    put_params(workspace, align="dann", **EAGER)
    assert "finetune.align_to names no domain: name one there" in refused(shell, workspace)
    put_params(workspace, align="dann", align_to=["dark"], **EAGER)
    done = shell("finetune", *arguments())
    assert done.status == 0, done.stderr
    assert "aligns the features of dark (24 samples, without labels) by dann" in done.stderr
    assert f"{NUM_VAL + 2 * (NUM_TRAIN + 24)} of them computed now" in done.stderr
    _, lineage = load_bundle(workspace / "out/candidate")
    assert (lineage["aligned_to"], lineage["params"]["align"]) == (["dark"], "dann")
    put_params(workspace, align="dann", align_to=["dark"], cache_gigabytes=0.0, **EAGER)
    assert shell("finetune", *arguments(out="again")).status == 0
    weights = "candidate/model.safetensors"
    assert outputs(workspace, "again")[weights] == outputs(workspace, "out")[weights]
    put_params(workspace, **EAGER)
    assert shell("finetune", *arguments(out="plain")).status == 0
    assert outputs(workspace, "plain")[weights] != outputs(workspace, "out")[weights]
    _, lineage = load_bundle(workspace / "plain/candidate")
    assert not {"aligned_to", "align", "align_to", "align_weight"} & {*lineage, *lineage["params"]}


def test_head_of_other_classes_is_refused(inputs, workspace, shell, backbone):
    put_head(workspace, {"label": ["cat", "eel", "owl"]}, dim=backbone.dim)
    expected = (
        "head knows 3 classes of label (cat, eel, owl), the manifest has 2 classes of label (cat, dog): "
        "run train_head again"
    )
    assert refused(shell, workspace) == expected


def test_target_without_a_head_because_train_has_no_label_of_it_changes_nothing(inputs, workspace, shell):
    assert shell("finetune", *arguments()).status == 0
    before = outputs(workspace, "out")
    of_val = inputs["label"].where(inputs["split"] == "val")
    write_table(workspace / "manifest/first.parquet", inputs.assign(colour=of_val))
    write_json(workspace / "classes.json", CLASSES | {"colour": CLASSES["label"]})
    done = shell("finetune", *arguments(out="more"))
    assert done.status == 0, done.stderr
    after = outputs(workspace, "more")
    weights = "candidate/model.safetensors"
    assert after[weights] == before[weights]
    assert after["curves/curves.csv"] == before["curves/curves.csv"]


def test_head_of_another_target_is_refused(backbone, tmp_path):
    layer = np.ones((2, backbone.dim), np.float32), np.ones(2, np.float32)
    save_heads(tmp_path, {"kind": Head(layers=(layer,))}, targets={"kind": ["cat", "dog"]}, facts={})
    with pytest.raises(ValueError, match=r"knows 2 classes of kind \(cat, dog\), the manifest has no target 'kind'"):
        graft(backbone, tmp_path, targets=CLASSES)


def test_head_of_other_features_is_refused(inputs, workspace, shell, backbone):
    put_head(workspace, CLASSES, dim=7)
    assert (
        refused(shell, workspace)
        == f"head was trained on 7 features, the backbone gives {backbone.dim}: run train_head again"
    )


def test_checkpoint_of_another_recipe_or_a_torn_one_is_refused(inputs, workspace, shell):
    """Put another run's checkpoint in the place of this run's own."""
    put_params(workspace, epochs=12)
    kill_when(workspace, lambda: epochs_kept(workspace) >= 1)
    [other] = checkpoints(workspace)
    content = other.read_bytes()
    other.unlink()
    put_params(workspace, epochs=11)
    kill_when(workspace, lambda: epochs_kept(workspace) >= 1)
    [own] = checkpoints(workspace)
    own.write_bytes(content)
    assert re.fullmatch(
        r"scratch/checkpoints/\w+\.safetensors is a checkpoint of another recipe \(params is .*\): "
        "remove it to train anew",
        refused(shell, workspace),
    )
    own.write_bytes(content[:1000])
    assert re.fullmatch(
        r"scratch/checkpoints/\w+\.safetensors is not a whole checkpoint \(.*\): remove it to train anew",
        refused(shell, workspace),
    )


def test_missing_batch_is_named(inputs, workspace, shell):
    (workspace / "batches.yaml").write_text("batches: [first, second]", "utf-8")
    assert "second.parquet is missing, though batch second is listed" in refused(shell, workspace)


def test_missing_pictures_of_a_batch_are_named(inputs, workspace, shell):
    (workspace / "raw/first").rename(workspace / "raw/gone")
    assert "raw/first" in refused(shell, workspace)


@pytest.mark.parametrize("split", ["train", "val"])
def test_manifest_without_samples_of_a_split_is_refused(inputs, workspace, shell, split):
    write_table(workspace / "manifest/first.parquet", inputs[inputs["split"] != split])
    assert f"has no labelled samples of {split}" in refused(shell, workspace)


def test_rate_that_is_far_too_high_keeps_the_head_and_says_why(inputs, workspace, shell):
    put_params(workspace, backbone_learning_rate=1e30, head_learning_rate=1e30)
    done = shell("finetune", *arguments())
    assert done.status == 0, done.stderr
    assert (
        "the loss was not finite in epoch 1: the weights of epoch 0 are kept; lower the learning rates" in done.stderr
    )
    found = json.loads((workspace / "out/curves/finetuning.json").read_text("utf-8"))
    assert found["ending"] == "the loss was not finite"
    assert not found["verdict"]["is_finetuned"]
    assert "lower the learning rates" in found["verdict"]["reason"]
    model, lineage = load_bundle(workspace / "out/candidate")
    assert lineage["stage"] == "head"
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


# several targets


FACTS = {"angle": {"kind": "number", "level": 0.9, "loss": "squared", "unit": "degrees"}, "label": ["cat", "dog"]}


@pytest.fixture
def class_and_noise(inputs, workspace):
    """A label that pictures tell, and a number that follows nothing; some samples lack one of them."""
    chance = np.random.default_rng(0)
    rows = np.arange(len(inputs))
    angles = pd.Series([repr(float(value)) for value in chance.normal(100, 20, len(rows))])
    manifest = inputs.assign(label=inputs["label"].mask(rows % 7 == 3), angle=angles.mask(rows % 5 == 4))
    write_table(workspace / "manifest/first.parquet", manifest)
    write_json(workspace / "classes.json", FACTS)
    features = ["stage2", "stage3", "stage4", "conv5"]
    glyphs = load_backbone(
        "shufflenet_v2_x1_0", weights=str(ROOT / "backbones/glyphs.safetensors"), features=features, image_size=SIZE
    )
    save_bundle(workspace / "backbone", Classifier(glyphs, {}), lineage={"fingerprint": glyphs.fingerprint()})
    layers = {name: (np.zeros((size, glyphs.dim), np.float32), np.zeros(size, np.float32))
              for name, size in (("angle", 1), ("label", 2))}  # fmt: skip
    number = FACTS["angle"] | {"centre": 100.0, "scale": 20.0, "interval": [-30.0, 30.0]}
    save_heads(
        workspace / "head", {name: Head(layers=(layer,)) for name, layer in layers.items()},
        targets=FACTS | {"angle": number}, facts={},
    )  # fmt: skip
    # what follows nothing is harmed by chance alone: ask for a clear gain
    put_params(workspace, epochs=6, unfreeze=2, harm_significance=0.9)


def test_target_that_fine_tuning_harms_keeps_its_head_while_the_other_is_fine_tuned(class_and_noise, workspace, shell):
    done = shell("finetune", *arguments())
    assert done.status == 0, done.stderr
    assert "fine-tuning one trunk for angle, label" in done.stderr
    assert "fine-tuning a trunk for angle alone" in done.stderr
    assert done.stderr.count("of them computed now") == 1  # activations serve all trainings
    assert "angle error" in done.stderr
    found = json.loads((workspace / "out/curves/finetuning.json").read_text("utf-8"))
    assert not found["verdicts"]["angle"]["is_finetuned"]
    assert found["verdicts"]["label"]["is_finetuned"]
    assert checkpoints(workspace) == []
    model, lineage = load_bundle(workspace / "out/candidate")
    assert lineage["stage"] == "finetuned"
    assert lineage["trunks"] == found["trunks"]
    assert lineage["shares"] == {"angle": 0.0, "label": found["verdicts"]["label"]["share"]}
    assert found["trunks"]["angle"] == "head"
    described = json.loads((workspace / "out/candidate/model.json").read_text("utf-8"))
    assert described["trunks"] == model.trunk_of == {"angle": 0, "label": 1}
    # it answers as its parts do
    came = graft(load_bundle(workspace / "backbone")[0].backbone, workspace / "head", targets=FACTS)
    trunk = Classifier(model.trunks["1"], {"label": model.targets["label"]}, temperatures=model.temperatures)
    trunk.heads = model.heads[1:]
    pictures = torch.stack([model.backbone.transform.prepare(draw(number)) for number in range(6)])
    whole, before, tuned = (Answerer(own, device="cpu").answer(pictures) for own in (model, came, trunk))
    assert np.array_equal(whole["angle"], before["angle"])
    assert np.array_equal(whole["label"], tuned["label"])
    assert whole["label"].argmax(axis=1).tolist() == [0, 1] * 3


# in this process


@pytest.fixture
def tune(inputs, workspace):
    """Fine-tune a model on the pictures of `inputs`; returns it with its bytes before, and what came of it."""

    def run(model, *, seed=0, **changes):
        chosen = params(**changes)
        data = Data(
            labels=label_tensor(inputs, model.targets),
            train=np.flatnonzero(inputs["split"] == "train"),
            val=np.flatnonzero(inputs["split"] == "val"),
        )
        source = open_source(
            Samples(inputs, raw=workspace / "raw", decode=decode_sample), model, data,
            views=AugmentedViews(augmentation=chosen, seed=seed), scratch=workspace / "own",
            backbone=model.backbone.fingerprint(), options=chosen,
        )  # fmt: skip
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        tuned = fine_tune(model, source, data, options=chosen, seed=seed)
        return tuned, {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}

    return run


def new_model(architecture="shufflenet_v2_x0_5"):
    torch.manual_seed(0)
    return Classifier(load_backbone(architecture, weights="random", image_size=SIZE), CLASSES).eval()


EAGER = {"harm_significance": 0.01, "head_learning_rate": 0.01, "backbone_learning_rate": 0.005, "epochs": 6}


def is_statistic(name):
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("cache", [4.0, 0.0])
@pytest.mark.parametrize("update_statistics", [False, True])
def test_frozen_layers_keep_every_byte(tune, update_statistics, cache):
    tuned, moved = tune(new_model(), unfreeze=1, update_statistics=update_statistics, cache_gigabytes=cache, **EAGER)
    assert tuned.history.kept > 0
    conv5 = {name for name in new_model().state_dict() if name.startswith("backbone.network.conv5.")}
    expected = {"heads.0.weight", "heads.0.bias"} | {
        each for each in conv5 if update_statistics or not is_statistic(each)
    }
    assert moved == expected


def test_all_of_a_network_is_trained_from_pictures_on_request(tune):
    tuned, moved = tune(new_model(), unfreeze="all", **EAGER)
    assert tuned.history.kept > 0
    assert moved == {name for name in new_model().state_dict() if not is_statistic(name)}


def test_training_is_the_same_to_the_bit_whatever_is_kept_of_its_views(tune, backbone):
    def trained(cache, *, num_views):
        model = new_model()
        history = tune(model, cache_gigabytes=cache, num_views=num_views, **EAGER)[0].history
        return history, [tensor.numpy().tobytes() for tensor in model.state_dict().values()]

    assert trained(4.0, num_views=2) == trained(0.0, num_views=2)
    assert trained(2e-5, num_views=2) == trained(4.0, num_views=2)  # where not even one view fits, all are made


def test_fine_tuning_learns_what_the_head_does_not_know(tune):
    features = ["stage2", "stage3", "stage4", "conv5"]
    glyphs = str(ROOT / "backbones/glyphs.safetensors")
    pretrained = load_backbone("shufflenet_v2_x1_0", weights=glyphs, features=features, image_size=SIZE)
    tuned, _ = tune(Classifier(pretrained, CLASSES).eval(), unfreeze=2, epochs=8)
    assert tuned.verdict.is_finetuned, tuned.verdict.reason
    assert tuned.verdict.candidates[tuned.verdict.share].accuracy > tuned.verdict.candidates[0.0].accuracy
    assert tuned.num_blocks == 2


def test_temperatures_are_those_of_the_fine_tuned_model(tune):
    model = new_model()
    tune(model, **EAGER)
    assert model.temperatures.keys() == {"label"}
    assert model.temperatures["label"] != 1.0


def test_statistics_of_minibatches_of_one_sample_are_refused(tune):
    with pytest.raises(ValueError, match=r"update_statistics needs minibatches of at least 2 samples, found 1: raise"):
        tune(new_model(), update_statistics=True, minibatch_size=1)


def test_targets_without_labels_on_val_are_refused(inputs, workspace, shell):
    in_val = inputs["split"] == "val"
    write_table(workspace / "manifest/first.parquet", inputs.assign(label=inputs["label"].mask(in_val)))
    assert "has no labelled samples of val" in refused(shell, workspace)


def test_train_has_full_minibatches_only():
    assert [num_full(count, 4) for count in (3, 4, 7, 8)] == [1, 1, 1, 2]


def test_labels_have_a_column_a_target_and_nan_for_none():
    rows = pd.DataFrame({"animal": ["cat", "dog"], "place": ["out", None]})
    found = label_tensor(rows, {"animal": ["cat", "dog"], "place": ["in", "out"]})
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found, [[0, 1], [1, np.nan]])


def test_trained_head_is_grafted_on(backbone, tmp_path):
    weight = np.random.default_rng(0).normal(size=(2, backbone.dim)).astype(np.float32)
    head = Head(layers=((weight, np.ones(2, dtype=np.float32)),))
    save_heads(tmp_path, {"label": head}, targets=CLASSES, facts={})
    model = graft(backbone, tmp_path, targets=CLASSES)
    assert np.array_equal(model.heads[0].weight.detach().numpy(), weight)
    assert model.heads[0].bias.tolist() == [1.0, 1.0]
    assert not model.training


def manifest():
    return pd.DataFrame(
        {
            "batch": ["a", "a", "b"],
            "path": ["1", "2", "3"],
            "sample_id": ["x", "y", "z"],
            "label": ["cat", "dog", "cat"],
            "split": ["train", "val", "train"],
        }
    )


def test_version_of_the_data_is_the_same_in_another_order_and_place():
    moved = manifest()[::-1].assign(batch="c", path=["9", "8", "7"])
    assert digest_of_data(moved) == digest_of_data(manifest())


@pytest.mark.parametrize(
    "changed",
    [{"label": ["cat", "cat", "cat"]}, {"split": ["train", "train", "train"]}, {"sample_id": ["x", "y", "w"]}],
)
def test_version_of_the_data_is_another_for_other_data(changed):
    assert digest_of_data(manifest().assign(**changed)) != digest_of_data(manifest())


def test_curves_have_a_row_an_epoch_with_the_gaps_and_the_epoch_kept():
    history = History(
        epochs=[
            Epoch(epoch=0, train=None, val=Scores(loss=1.0, accuracy=0.5), val_calibrated_loss=0.9),
            Epoch(
                epoch=1,
                train=Scores(loss=0.75, accuracy=0.75),
                val=Scores(loss=1.0, accuracy=0.5),
                val_calibrated_loss=0.8,
            ),
        ],
        kept=1,
    )
    table = curve_table(history)
    assert table.loc[0].dropna().to_dict() == {
        "epoch": 0, "val_loss": 1.0, "val_calibrated_loss": 0.9, "val_accuracy": 0.5, "is_kept": 0
    }  # fmt: skip
    assert table.loc[1].to_dict() == {
        "epoch": 1, "train_loss": 0.75, "train_accuracy": 0.75, "val_loss": 1.0, "val_calibrated_loss": 0.8,
        "val_accuracy": 0.5, "is_kept": 1, "loss_gap": 0.25, "accuracy_gap": 0.25,
    }  # fmt: skip
