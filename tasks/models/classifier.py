"""A classifier: a backbone with a linear head grafted on for each target. Images in, logits out."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from tasks.models.backbone import Backbone


class Classifier(nn.Module):
    """Maps normalised images (n, 3, size, size) to logits (n, num_classes), a tensor for each target in order.

    `classes` names, for each target, its classes in the order of the logits.
    """

    def __init__(self, backbone: Backbone, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = {target: list(names) for target, names in classes.items()}
        self.heads = nn.ModuleList(nn.Linear(backbone.dim, len(names)) for names in classes.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.backbone(images)  # (n, dim)
        return [head(features) for head in self.heads]

    def graft(self, heads: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Set the heads to (weight (num_classes, dim), bias (num_classes,)) by target."""
        with torch.no_grad():
            for head, target in zip(self.heads, self.classes, strict=True):
                assert isinstance(head, nn.Linear)
                weight, bias = heads[target]
                head.weight.copy_(weight)
                head.bias.copy_(bias)

    @torch.inference_mode()
    def probabilities(self, minibatches: Iterable[Tensor]) -> list[Tensor]:
        """Minibatches of pixels (n, 3, size, size) uint8 -> probabilities (all n, num_classes), a tensor a target."""
        self.eval()
        logits = [self(self.backbone.transform.normalize(pixels)) for pixels in minibatches]
        return [torch.cat(parts).double().softmax(dim=1) for parts in zip(*logits, strict=True)]
