import numpy as np
import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer, answers
from tests.kit.plain import plain_probabilities

CLASSES = {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}


def pixels(*, n, seed=0):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def ask(model, images, **choices):
    return Answerer(model, device="cpu", **choices).answer(images)


def test_answers_are_the_calibrated_probabilities_of_each_target(classifier):
    model = classifier(CLASSES)
    model.temperatures["animal"] = 0.5
    probabilities = ask(model, pixels(n=21))
    assert list(probabilities) == list(CLASSES)
    for values, expected in zip(probabilities.values(), plain_probabilities(model, [pixels(n=21)]), strict=True):
        assert values.shape == tuple(expected.shape)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-3)
        np.testing.assert_allclose(values.sum(axis=1), 1)


@pytest.mark.parametrize("hidden_features", [None, 8])
def test_answer_is_the_same_to_the_bit_with_any_neighbours(classifier, hidden_features):
    torch.manual_seed(1)
    model = Classifier(classifier().backbone, CLASSES, hidden_features=hidden_features).eval()
    images = pixels(n=40)
    whole = ask(model, images)
    for rows in ([7], [3, 39, 0], list(range(39, -1, -1))):
        some = ask(model, images[rows])
        assert all(np.array_equal(some[target], whole[target][rows]) for target in CLASSES)


def test_vectors_of_the_store_give_the_same_bits_as_the_pixels(classifier):
    model = classifier(CLASSES)
    answerer = Answerer(model, device="cpu")
    images = pixels(n=5)
    [vectors] = (own.numpy() for own in answerer.vectors(images))
    assert vectors.dtype == np.float16
    from_vectors, from_pixels = answers(answerer.heads, answerer.targets, vectors), answerer.answer(images)
    assert all(np.array_equal(from_vectors[target], from_pixels[target]) for target in CLASSES)


def test_temperature_softens_only_its_own_target(classifier):
    model = classifier({"animal": ["cat", "dog"], "place": ["in", "out"]})
    before = ask(model, pixels(n=3))
    model.temperatures["animal"] = 2.0
    after = ask(model, pixels(n=3))
    assert np.array_equal(after["place"], before["place"])
    softer = np.sqrt(before["animal"]) / np.sqrt(before["animal"]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after["animal"], softer)


def test_model_does_not_change_while_it_answers(classifier):
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    ask(model, pixels(n=4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_backbone_without_targets_is_refused(classifier):
    with pytest.raises(ValueError, match="a backbone, which has no targets"):
        Answerer(Classifier(classifier().backbone, {}))
