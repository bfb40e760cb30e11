from dataclasses import replace

import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.training.finetuning.options import UnfreezingOptions
from tasks.training.finetuning.unfreezing import Trained, boundary_of, make_groups, unfrozen
from tasks.training.loop.dropout import Dropout
from tasks.training.loop.fit import PLAIN, fit

HEAD_RATE, BACKBONE_RATE = 0.01, 0.002


def classifier(architecture="shufflenet_v2_x0_5", *, features="penultimate", image_size=32):
    torch.manual_seed(0)
    return Classifier(
        load_backbone(architecture, weights="random", features=features, image_size=image_size),
        {"label": ["cat", "dog"]},
    ).eval()


@pytest.fixture
def model():
    return classifier()


def groups_of(model, *, unfreeze=2, is_gradual=False, epochs=8, learning_rate_decay=0.5):
    options = UnfreezingOptions(
        unfreeze=unfreeze,
        gradual=is_gradual,
        head_learning_rate=HEAD_RATE,
        backbone_learning_rate=BACKBONE_RATE,
        learning_rate_decay=learning_rate_decay,
        weight_decay=0.1,
    )
    return make_groups(model, options, blocks=unfrozen(model, options.unfreeze)[0], epochs=epochs)


def names(model, group):
    found = {id(parameter) for parameter in group.parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def test_head_comes_first_then_the_blocks_from_the_output_to_the_input(model):
    head, last, before = groups_of(model)
    assert names(model, head) == {"heads.0.weight", "heads.0.bias"}
    assert all(name.startswith("backbone.network.conv5.") for name in names(model, last))
    assert all(name.startswith("backbone.network.stage4.3.") for name in names(model, before))


def test_rates_fall_from_the_output_to_the_input(model):
    assert [each.learning_rate for each in groups_of(model, unfreeze=3)] == [HEAD_RATE, 0.002, 0.001, 0.0005]
    assert {each.learning_rate for each in groups_of(model, unfreeze=3, learning_rate_decay=1.0)} == {
        HEAD_RATE,
        BACKBONE_RATE,
    }


def test_blocks_are_trained_from_the_first_epoch_on_unless_they_are_unfrozen_one_by_one(model):
    assert [each.from_epoch for each in groups_of(model, unfreeze=4)] == [1] * 5
    assert [each.from_epoch for each in groups_of(model, unfreeze=4, is_gradual=True)] == [1, 1, 2, 3, 4]


def test_nothing_of_the_backbone_is_trained_on_request(model):
    [head] = groups_of(model, unfreeze=0)
    assert names(model, head) == {"heads.0.weight", "heads.0.bias"}


def test_all_of_the_backbone_is_trained_on_request_each_weight_once():
    """Also what lies in no block: the class token and the places of a transformer."""
    model = classifier("vit_b_32", image_size=64)
    groups = groups_of(model, unfreeze="all")
    found = [name for group in groups for name in names(model, group)]
    assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    assert "backbone.network.class_token" in names(model, groups[-1])


def test_more_blocks_than_there_are_is_all_of_them(model):
    assert len(unfrozen(model, 1000)[0]) == len(model.backbone.blocks())
    assert boundary_of(model, 1000) is None
    assert boundary_of(model, "all") is None


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [("mobilenet_v3_small", "pooled", "features.12"), ("resnet18", ["layer1", "layer3"], "layer3.1")],
)
def test_blocks_behind_the_features_do_not_count(architecture, features, expected):
    """Training them would change nothing."""
    model = classifier(architecture, features=features, image_size=64)
    [block], _ = unfrozen(model, 1)
    assert names(model, groups_of(model, unfreeze=1)[1]) == {
        f"backbone.network.{expected}.{name}" for name, _ in block[0].named_parameters()
    }


def test_weights_behind_the_features_are_left_alone():
    """A training that resumes has only the weights that the answers come from."""
    model = classifier(features=["stage2"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    minibatch = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([[0.0], [1.0]] * 2)
    fit(
        Trained(model, None), replace(PLAIN, epochs=1), targets=list(model.targets.values()), seed=0,
        groups=groups_of(model, unfreeze="all"), minibatches=lambda epoch: [minibatch], num_minibatches=1,
        val_minibatches=lambda: [minibatch],
    )  # fmt: skip
    after = model.state_dict().items()
    changed = {name.split(".")[2] for name, tensor in after if not torch.equal(tensor, before[name])}
    assert changed == {"weight", "bias", "conv1", "stage2"}


@pytest.mark.parametrize("unfreeze", [0, 1, 3, "all"])
def test_trained_part_gives_the_logits_of_the_classifier(model, unfreeze):
    from tasks.embedding.boundary import frozen_part

    boundary = boundary_of(model, unfreeze)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        inputs = frozen_part(model.backbone, boundary)(images) if boundary else images
        found, expected = Trained(model, boundary).eval()(inputs), model(images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_trained_part_is_trained_with_the_classifiers_own_weights(model):
    trained = Trained(model, boundary_of(model, 2))
    own = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in own for parameter in trained.parameters())
    wanted = {id(parameter) for group in groups_of(model, unfreeze=2) for parameter in group.parameters}
    assert wanted <= {id(parameter) for parameter in trained.parameters()}


def test_dropout_of_the_trained_part_is_drawn_by_part():
    model = classifier("mobilenet_v3_small")
    trained = Trained(model, None)
    assert [type(part) for part in trained.modules() if getattr(part, "p", 0)] == [Dropout]
