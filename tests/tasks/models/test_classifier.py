import pytest
import torch


def pixels(*, n, seed=0):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_each_target_has_its_own_probabilities(classifier):
    model = classifier({"animal": ["cat", "dog", "eel"], "place": ["in", "out"]})
    animal, place = model.probabilities([pixels(n=4), pixels(n=2, seed=1)])
    assert (animal.shape, place.shape) == ((6, 3), (6, 2))
    assert animal.dtype == torch.float64
    for each in (animal, place):
        assert (each >= 0).all()
        torch.testing.assert_close(each.sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_order_of_minibatches_is_the_order_of_probabilities(classifier):
    model = classifier()
    one, other = pixels(n=2), pixels(n=2, seed=1)
    (forward,), (backward,) = model.probabilities([one, other]), model.probabilities([other, one])
    assert torch.equal(forward, backward[[2, 3, 0, 1]])
    assert not torch.equal(forward[:2], forward[2:])


def test_grafted_head_decides(classifier):
    model = classifier()
    model.graft({"label": [(torch.zeros(3, model.backbone.dim), torch.tensor([0.0, 1.0, 2.0]))]})
    (found,) = model.probabilities([pixels(n=2)])
    expected = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(dim=0)
    torch.testing.assert_close(found, expected.expand(2, 3))


def test_head_of_another_number_of_classes_cannot_be_grafted(classifier):
    model = classifier()
    with pytest.raises(RuntimeError, match="must match"):
        model.graft({"label": [(torch.zeros(4, model.backbone.dim), torch.zeros(4))]})


def test_backbone_is_measured_not_trained_while_it_predicts(classifier):
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model.probabilities([pixels(n=4)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_temperature_softens_its_own_target_alone(classifier):
    model = classifier({"animal": ["cat", "dog"], "place": ["in", "out"]})
    animal, place = model.probabilities([pixels(n=3)])
    model.temperatures["animal"] = 2.0
    softer, same = model.probabilities([pixels(n=3)])
    assert torch.equal(place, same)
    torch.testing.assert_close(softer, (animal.log() / 2).softmax(dim=1))
