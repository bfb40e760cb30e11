import pytest
import torch


def test_grafted_head_decides(classifier):
    model = classifier()
    model.graft({"label": [(torch.zeros(3, model.backbone.dim), torch.tensor([0.0, 1.0, 2.0]))]})
    [logits] = model(torch.rand(2, 3, 32, 32))
    assert logits.tolist() == [[0.0, 1.0, 2.0]] * 2


def test_head_of_another_number_of_classes_cannot_be_grafted(classifier):
    model = classifier()
    with pytest.raises(RuntimeError, match="must match"):
        model.graft({"label": [(torch.zeros(4, model.backbone.dim), torch.zeros(4))]})
