"""A classifier that is adapted to domains, in memory and on disk."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.domains import AdaptedHeads
from tests.kit.adapted import adapted
from tests.kit.plain import plain_probabilities
from tests.tasks.models.test_bundle import describe

CLASSES = {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}
DOMAINS = {"cartoon": ["animal"], "sketch": ["animal", "place"]}
PIXELS = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(classifier):
    made = classifier(CLASSES)
    made.temperatures.update(animal=0.5, place=2.0)
    return adapted(made, DOMAINS)


@pytest.fixture
def saved(model, tmp_path):
    save_bundle(tmp_path, model, lineage={})
    return tmp_path


def answers(model):
    return [probabilities.numpy() for probabilities in plain_probabilities(model, [PIXELS])]


def test_target_with_a_head_of_the_domain_answers_by_it_and_the_others_as_before(model):
    own, general, both = answers(model.of_domain("cartoon")), answers(model), answers(model.of_domain("sketch"))
    features = model.backbone(model.backbone.transform.normalize(PIXELS))
    expected = model.domains.of_domain("cartoon")["animal"](features).double().softmax(dim=1)  # at temperature 1
    np.testing.assert_allclose(own[0], expected.detach().numpy(), atol=1e-9)
    assert np.array_equal(own[1], general[1])
    assert not any(np.allclose(one, other) for one, other in zip(both, general, strict=True))
    assert not np.allclose(both[0], own[0])


def test_classifier_of_a_domain_shares_the_weights_and_draws_no_random_number(model):
    state = torch.get_rng_state()
    own = model.of_domain("cartoon")
    assert torch.equal(torch.get_rng_state(), state)
    assert own.backbone is model.backbone
    assert own.heads[1] is model.heads[1]
    assert own.domains is None
    assert not own.training
    assert not any(tensor.is_meta for tensor in own.state_dict().values())


@pytest.mark.parametrize("domain", ["photo", "", "animal"])
def test_unknown_domain_is_no_domain(model, classifier, domain):
    for each in (model, classifier(CLASSES)):
        with pytest.raises(KeyError, match=re.escape(repr(domain))):
            each.of_domain(domain)


@pytest.mark.parametrize("hidden_features", [None, 8])
@pytest.mark.parametrize("trunk_of", [{}, {"place": 1}])
def test_heads_of_domains_survive_a_bundle(classifier, tmp_path, hidden_features, trunk_of):
    trunks = [classifier(seed=1).backbone] if trunk_of else []
    model = Classifier(
        classifier().backbone, CLASSES, hidden_features=hidden_features, trunks=trunks, trunk_of=trunk_of
    )
    adapted(model, DOMAINS)
    save_bundle(tmp_path, model, lineage={})
    back, _ = load_bundle(tmp_path)
    assert back.domains.targets_of == {"cartoon": ("animal",), "sketch": ("animal", "place")}
    assert torch.equal(back.domains.teller.weight, model.domains.teller.weight)
    for domain in DOMAINS:
        for one, other in zip(answers(model.of_domain(domain)), answers(back.of_domain(domain)), strict=True):
            assert np.array_equal(one, other)


def test_bundle_of_no_domain_does_not_name_domains(classifier, tmp_path):
    save_bundle(tmp_path, classifier(CLASSES), lineage={})
    assert "domains" not in json.loads((tmp_path / DESCRIPTION).read_text("utf-8"))
    assert {name.split(".")[0] for name in load_file(tmp_path / WEIGHTS)} == {"backbone", "heads"}


def test_heads_are_made_of_layers_by_domain_and_target():
    def layer(num_outputs, value):
        return np.full((num_outputs, 4), value, np.float32), np.full(num_outputs, value, np.float32)

    heads = AdaptedHeads.of({"a": {"animal": layer(3, 1)}, "b": {"animal": layer(3, 2)}}, layer(3, 3))
    assert heads.of_domain("b")["animal"].bias.tolist() == [2, 2, 2]
    assert heads.teller.weight.tolist() == [[3] * 4] * 3
    with pytest.raises(ValueError, match="a domain is called 'auto', which means something else: rename it"):
        AdaptedHeads.of({"auto": {"animal": layer(3, 1)}}, layer(2, 3))


def test_name_of_a_domain_may_look_like_a_path(classifier, tmp_path):
    model = adapted(classifier(CLASSES), {"../a": ["animal"], "C:\\x": ["animal"]})
    save_bundle(tmp_path, model, lineage={"adapt": {"domains": {"../a": "infomax"}}})
    assert list(load_bundle(tmp_path)[0].domains.targets_of) == ["../a", "C:\\x"]


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (["cartoon"], "domains expected a valid dictionary"),
        ("cartoon", "domains expected a valid dictionary"),
        ({"cartoon": "animal"}, "domains.cartoon expected a valid list"),
        ({"cartoon": [7]}, "domains.cartoon.0 expected a valid string"),
        ({"cartoon": []}, "domains.cartoon List should have at least 1 item"),
        ({"": ["animal"]}, "at least 1 character"),
        ({"cartoon": ["size"]}, "the domain 'cartoon' names the unknown target 'size'"),
        ({"cartoon": ["animal", "animal"]}, "the domain 'cartoon' names a target twice"),
        ({"sketch": ["animal"], "cartoon": ["animal"]}, "domains are not in alphabetical order"),
        ({"none": ["animal"]}, "a domain is called 'none', which means something else"),
        ({str(n): ["animal"] for n in range(1001)}, "domains Dictionary should have at most 1000 items"),
        ({"cartoon": ["animal"] * 10**6}, "domains have 1000000 heads, expected at most 10000"),
        ({"cartoon": ["animal"]}, "unknown domains.heads.1"),
        ({"cartoon": ["animal"], "drawing": ["animal"], "sketch": ["animal", "place"]}, "they lack domains.heads.2"),
        ({"cartoon": ["place"], "sketch": ["animal", "place"]}, "domains.heads.0.0."),
        (None, "unknown domains."),
    ],
)
def test_domains_that_a_stranger_changed_are_refused_before_any_weight_is_read(saved, monkeypatch, domains, message):
    monkeypatch.setattr("tasks.models.bundle.read_tensors", lambda path: pytest.fail("the weights were read"))
    describe(saved, domains=domains)
    with pytest.raises(ValueError, match=f"is not a whole bundle .*{re.escape(message)}") as refused:
        load_bundle(saved)
    assert "\n" not in str(refused.value)


def test_heads_that_the_weights_lack_take_no_memory(saved):
    """The description asks for 2,000 heads of 2 GiB."""
    names = [str(number) for number in range(2**19)]
    domains = {f"{number:04d}": ["animal", "place"] for number in range(1000)}
    describe(saved, classes={"animal": names, "place": names}, domains=domains)
    with pytest.raises(ValueError, match="its weights do not fit: they lack domains"):
        load_bundle(saved)


def test_tensor_of_another_shape_or_that_is_not_finite_is_refused_by_name(saved):
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {"domains.teller.bias": torch.zeros(2)}, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=r"domains\.teller\.bias"):
        load_bundle(saved)
    save_file(tensors | {"domains.teller.bias": torch.full((3,), torch.nan)}, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=r"domains\.teller\.bias has numbers that are not finite"):
        load_bundle(saved)
