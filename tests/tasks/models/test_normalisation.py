"""Statistics of a domain's own: the copy that normalises by them shares its weights, and bundles keep them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.embedding.embedder import Embedder, Plan
from tasks.machine.files import sha256
from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.domains import AdaptedHeads
from tasks.models.normalisation import num_channels, running_statistics, with_statistics
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer

PIXELS = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLAN = Plan(device="cpu", precision="fp32", execution="fused", minibatch_size=4)
FEATURES = {"penultimate": "penultimate", "of several depths": ["stage2", "conv5"]}


def network(features="penultimate"):
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32, features=features)


def others(trunk, *, seed=1):
    """Return possible statistics of another domain."""
    generator = torch.Generator().manual_seed(seed)
    mean, variance = torch.rand(2, num_channels(trunk), generator=generator)
    return torch.stack([mean - 0.5, variance + 0.5])


def adapted(*, statistics=None, trunks=1):
    """Return a classifier of two targets that is adapted to two domains, one of which has statistics of its own."""
    generator = np.random.default_rng(0)
    own = [network() for _ in range(trunks)]

    def layer(num):
        return generator.normal(size=(num, own[0].dim)), generator.normal(size=num)

    layers = {"cartoon": {"animal": layer(2)}, "night": {"animal": layer(2)}}
    heads = AdaptedHeads.of(layers, layer(3), {"night": statistics} if statistics is not None else None)
    targets = {"animal": ["cat", "dog"], "place": ["in", "out", "far"]}
    model = Classifier(
        own[0], targets, trunks=own[1:], trunk_of={"place": trunks - 1} if trunks > 1 else None, domains=heads
    )
    return model.eval()


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_a_copy_normalises_by_its_statistics_and_shares_the_weights(features):
    trunk = network(features)
    own = with_statistics(trunk, others(trunk))
    with torch.inference_mode():
        images = trunk.transform.normalize(PIXELS)
        before = trunk(images)
        assert torch.equal(with_statistics(trunk, running_statistics(trunk))(images), before)
        vectors = own(images)
        assert not torch.allclose(vectors, before, rtol=0.1)
        assert torch.equal(trunk(images), before)
        torch.testing.assert_close(Embedder(own, PLAN)(PIXELS), vectors, rtol=1e-4, atol=1e-4)
    assert own.fingerprint() != trunk.fingerprint()
    assert {id(one) for one in own.parameters()} == {id(one) for one in trunk.parameters()}


@pytest.mark.parametrize("trunks", [1, 2])
def test_statistics_of_a_domain_survive_a_bundle_and_answer_for_it_alone(tmp_path, trunks):
    statistics = torch.stack([others(network(), seed=number) for number in range(trunks)])
    model = adapted(statistics=statistics, trunks=trunks)
    save_bundle(tmp_path, model, lineage={})
    back, _ = load_bundle(tmp_path)
    with torch.inference_mode():
        images = model.backbone.transform.normalize(PIXELS)
        for name in ("cartoon", "night"):
            for one, other in zip(model.of_domain(name)(images), back.of_domain(name)(images), strict=True):
                assert torch.equal(one, other)
        for number, trunk in enumerate(back.of_domain("night").all_trunks()[:trunks]):
            assert torch.equal(running_statistics(trunk), statistics[number])
        assert back.of_domain("cartoon").backbone is back.backbone


@pytest.mark.parametrize("trunks", [1, 2])
def test_target_without_a_head_of_the_domain_answers_as_it_does_elsewhere(trunks):
    statistics = torch.stack([others(network(), seed=number) for number in range(trunks)])
    model = adapted(statistics=statistics, trunks=trunks)
    own = Answerer(model).of_domain("night")
    with torch.inference_mode():
        images = model.backbone.transform.normalize(PIXELS)
        (animal, place), (animal_at_night, place_at_night) = model(images), model.of_domain("night")(images)
        before, at_night = Answerer(model).answer(PIXELS), own.answer(PIXELS)
    assert torch.equal(place_at_night, place)
    assert not torch.allclose(animal_at_night, animal, rtol=0.1)
    assert np.array_equal(at_night["place"], before["place"])
    assert not np.allclose(at_night["animal"], before["animal"], rtol=0.1)


def test_bundle_without_such_statistics_says_nothing_of_them(tmp_path):
    save_bundle(tmp_path, adapted(), lineage={})
    assert "statistics" not in json.loads((tmp_path / DESCRIPTION).read_text("utf-8"))
    assert "domains.statistics" not in load_file(tmp_path / WEIGHTS)
    assert load_bundle(tmp_path)[0].of_domain("night")


def forge(folder, *, change=lambda statistics: statistics, **description):
    tensors = load_file(folder / WEIGHTS)
    tensors["domains.statistics"] = change(tensors["domains.statistics"]).contiguous()
    save_file(tensors, folder / WEIGHTS)
    content = json.loads((folder / DESCRIPTION).read_text("utf-8")) | description
    content["weights_sha256"] = sha256(folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(with_digest(content)), "utf-8")


@pytest.mark.parametrize(
    ("forgery", "message"),
    [
        ({"statistics": ["day"]}, "or one that domains lack"),
        ({"statistics": ["night", "night"]}, "name a domain twice"),
        ({"statistics": ["cartoon", "night"]}, "domains.statistics"),
        ({"change": lambda statistics: statistics[..., :-1]}, "domains.statistics"),
        ({"change": lambda statistics: -statistics}, "negative variance"),
        ({"change": lambda statistics: statistics * float("nan")}, "domains.statistics"),
    ],
)
def test_impossible_statistics_are_refused(tmp_path, forgery, message):
    save_bundle(tmp_path, adapted(statistics=others(network())[None]), lineage={})
    forge(tmp_path, **forgery)
    with pytest.raises(ValueError, match=message):
        load_bundle(tmp_path)


def test_statistics_are_refused_where_no_layer_normalises(tmp_path):
    trunk = load_backbone("squeezenet1_1", weights="random", image_size=32)
    layer = np.zeros((2, trunk.dim)), np.zeros(2)
    heads = AdaptedHeads.of({"night": {"animal": layer}}, layer)
    save_bundle(tmp_path, Classifier(trunk, {"animal": ["cat", "dog"]}, domains=heads), lineage={})
    content = json.loads((tmp_path / DESCRIPTION).read_text("utf-8")) | {"statistics": ["night"]}
    (tmp_path / DESCRIPTION).write_text(json.dumps(with_digest(content)), "utf-8")
    with pytest.raises(ValueError, match="no layer normalises"):
        load_bundle(tmp_path)
