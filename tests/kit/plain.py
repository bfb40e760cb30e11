"""The plain way to a model's probabilities, without the project's engine, to compare with."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tasks.models.classifier import Classifier


@torch.inference_mode()
def plain_probabilities(model: Classifier, minibatches: Iterable[Tensor]) -> list[Tensor]:
    """Minibatches of pixels (n, 3, size, size) uint8 -> probabilities (all n, num_classes), a tensor a target."""
    model.eval()
    logits = [model(model.backbone.transform.normalize(pixels)) for pixels in minibatches]
    return [
        (torch.cat(parts).double() / model.temperatures[target]).softmax(dim=1)
        for target, parts in zip(model.targets, zip(*logits, strict=True), strict=True)
    ]
