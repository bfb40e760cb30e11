"""A classifier and the blocks to unfreeze in; the part of it that is trained, and its groups of parameters, out."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tasks.embedding.boundary import Boundary, find_boundary, trained_part
from tasks.embedding.fusion import trace
from tasks.models.classifier import Classifier
from tasks.training.finetuning.options import UnfreezingOptions
from tasks.training.loop.fit import Group
from tasks.training.loop.schedule import first_epoch


class Trained(nn.Module):
    """The part of a classifier behind the freeze boundary, which shares the weights of the classifier.

    It maps activations (n, width) to logits, a tensor (n, num_classes) a target. Without a boundary it is the whole
    classifier and takes normalised images.
    """

    def __init__(self, model: Classifier, boundary: Boundary | None) -> None:
        super().__init__()
        backbone = model.backbone
        self.top: nn.Module = trained_part(backbone, boundary) if boundary else trace(backbone, shares_weights=True)
        self.heads = model.heads

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.top(inputs)  # (n, dim)
        return [head(features) for head in self.heads]


def unfrozen_blocks(model: Classifier, last: Literal["all"] | int) -> list[nn.ModuleList]:
    """Return the last blocks that the backbone's features come from, from the output to the input.

    Blocks behind them would not change the features.
    """
    graph = trace(model.backbone, shares_weights=True)
    graph.delete_all_unused_submodules()
    used = {id(parameter) for parameter in graph.parameters()}
    blocks = [block for block in model.backbone.blocks()[::-1] if any(id(own) in used for own in block.parameters())]
    return blocks if last == "all" else blocks[:last]


def boundary_of(model: Classifier, last: Literal["all"] | int) -> Boundary | None:
    """Return the boundary between the frozen and the trained part; None where nothing is frozen."""
    return None if last == "all" else find_boundary(model.backbone, unfrozen_blocks(model, last))


def make_groups(model: Classifier, options: UnfreezingOptions, *, epochs: int) -> list[Group]:
    """Return the head's group, then one a block, from the output to the input.

    The rate of a block is `learning_rate_decay` times that of the block behind it (discriminative rates, Howard & Ruder
    2018). With "all", parameters outside of blocks train as the first block does.
    """
    heads, decay = list(model.heads.parameters()), options.weight_decay
    groups = [Group(parameters=heads, learning_rate=options.head_learning_rate, weight_decay=decay)]
    blocks = unfrozen_blocks(model, options.unfreeze)
    parameters: list[Sequence[nn.Parameter]] = [list(block.parameters()) for block in blocks]
    if options.unfreeze == "all" and parameters:
        known = {id(parameter) for block in parameters for parameter in block}
        rest = [parameter for parameter in model.backbone.parameters() if id(parameter) not in known]
        parameters[-1] = [*parameters[-1], *rest]
    groups += [
        Group(
            parameters=block,
            learning_rate=options.backbone_learning_rate * options.learning_rate_decay**depth,
            weight_decay=decay,
            from_epoch=first_epoch(depth, num_blocks=len(blocks), epochs=epochs) if options.gradual else 1,
        )
        for depth, block in enumerate(parameters)
    ]
    return groups
