import numpy as np
import pandas as pd
import pytest
import torch

from tasks.data.images import sample_id
from tasks.finetune import curve_table, digest, graft, label_tensor, num_full, read_minibatches, unfreeze
from tasks.models.classifier import Classifier
from tasks.models.head import save_heads
from tasks.models.weights import load_backbone
from tasks.params import FinetuneParams
from tasks.training.loop import Epoch, Scores

CLASSES = {"label": ["cat", "dog"]}


def params(**changes):
    settings = {
        "unfreeze": "all", "epochs": 1, "minibatch_size": 4, "head_learning_rate": 0.001,
        "backbone_learning_rate": 0.001, "weight_decay": 0.0, "warmup_fraction": 0.0, "max_rotation_degrees": 20.0,
        "max_shift_fraction": 0.1, "max_scale_fraction": 0.1, "flip": False, "patience_epochs": 1,
        "update_statistics": False,
    }  # fmt: skip
    return FinetuneParams(**settings | changes)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)


@pytest.fixture
def model(backbone):
    return Classifier(backbone, CLASSES).eval()


@pytest.fixture
def rows(batch):
    paths = sorted(batch.rglob("*.png"))
    return pd.DataFrame(
        {
            "batch": batch.name,
            "path": [str(path.relative_to(batch)) for path in paths],
            "sample_id": [sample_id(path.read_bytes()) for path in paths],
            "label": [path.parent.name for path in paths],
        }
    )


def read(rows, model, batch, *, seed=None, **changes):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return list(read_minibatches(rows, model, raw=batch.parent, params=params(**changes), generator=generator))


def test_everything_of_the_backbone_is_trained_on_request(model):
    assert len(unfreeze(model, "all")) == len(list(model.backbone.parameters()))


def test_nothing_of_the_backbone_is_trained_on_request(model):
    assert unfreeze(model, 0) == []
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert all(parameter.requires_grad for parameter in model.heads.parameters())


def test_last_blocks_are_trained_on_request(model):
    trained = {id(parameter) for parameter in unfreeze(model, 1)}
    assert trained == {id(parameter) for parameter in model.backbone.network.conv5.parameters()}


def test_more_blocks_than_there_are_is_all_of_them(model):
    assert len(unfreeze(model, 1000)) == len(list(model.backbone.parameters()))


def test_val_is_read_whole_in_its_order_without_augmentation(model, batch, rows):
    found = read(rows, model, batch)
    assert [len(images) for images, _ in found] == [4, 2]
    assert torch.cat([labels for _, labels in found]).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(found, read(rows, model, batch), strict=True))


def test_train_is_shuffled_with_its_labels(model, batch, rows):
    still = {"max_rotation_degrees": 0.0, "max_shift_fraction": 0.0, "max_scale_fraction": 0.0}
    whole, labels = read(rows, model, batch, minibatch_size=6)[0]
    shuffled, their_labels = read(rows, model, batch, seed=1, minibatch_size=6, **still)[0]
    nearest = torch.cdist(shuffled.flatten(1), whole.flatten(1)).argmin(dim=1)
    assert nearest.sort().values.tolist() == list(range(6))
    assert nearest.tolist() != list(range(6))
    assert torch.equal(their_labels, labels[nearest])


def test_train_is_augmented_by_the_generator_alone(model, batch, rows):
    one, same, other = (read(rows, model, batch, seed=seed, minibatch_size=6)[0][0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_train_has_full_minibatches_only(model, batch, rows):
    assert [len(images) for images, _ in read(rows, model, batch, seed=0)] == [4]
    assert [len(images) for images, _ in read(rows[:3], model, batch, seed=0)] == [3]
    assert [num_full(count, 4) for count in (3, 4, 7, 8)] == [1, 1, 1, 2]


def test_labels_have_a_column_a_target_and_minus_1_for_none():
    rows = pd.DataFrame({"animal": ["cat", "dog"], "place": ["out", None]})
    found = label_tensor(rows, {"animal": ["cat", "dog"], "place": ["in", "out"]})
    assert found.tolist() == [[0, 1], [1, -1]]


def test_trained_head_is_grafted_on(backbone, tmp_path):
    weight = np.random.default_rng(0).normal(size=(2, backbone.dim)).astype(np.float32)
    save_heads(tmp_path, {"label": (weight, np.ones(2, dtype=np.float32))}, classes=CLASSES, facts={})
    model = graft(backbone, tmp_path)
    assert np.array_equal(model.heads[0].weight.detach().numpy(), weight)
    assert model.heads[0].bias.tolist() == [1.0, 1.0]
    assert not model.training


def test_head_for_other_features_is_refused(backbone, tmp_path):
    layer = np.ones((2, 7), dtype=np.float32), np.ones(2, dtype=np.float32)
    save_heads(tmp_path, {"label": layer}, classes=CLASSES, facts={})
    with pytest.raises(ValueError, match=rf"7.* the backbone gives {backbone.dim}: run train_head again"):
        graft(backbone, tmp_path)


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
    assert digest(moved) == digest(manifest())


@pytest.mark.parametrize(
    "changed",
    [{"label": ["cat", "cat", "cat"]}, {"split": ["train", "train", "train"]}, {"sample_id": ["x", "y", "w"]}],
)
def test_version_of_the_data_is_another_for_other_data(changed):
    assert digest(manifest().assign(**changed)) != digest(manifest())


def test_curves_have_a_row_an_epoch_and_a_column_a_split():
    history = [
        Epoch(epoch=0, train=None, val=Scores(loss=1.0, accuracy=0.5)),
        Epoch(epoch=1, train=Scores(loss=0.8, accuracy=0.6), val=Scores(loss=0.9, accuracy=0.7)),
    ]
    table = curve_table(history)
    assert table.loc[0].dropna().to_dict() == {"epoch": 0, "val_loss": 1.0, "val_accuracy": 0.5}
    assert table.loc[1].to_dict() == {
        "epoch": 1, "train_loss": 0.8, "train_accuracy": 0.6, "val_loss": 0.9, "val_accuracy": 0.7,
    }  # fmt: skip
