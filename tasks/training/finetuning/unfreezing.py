"""A classifier and the blocks to unfreeze in; the part of it that is trained, and its groups of parameters, out."""

from typing import Literal

from torch import Tensor, nn

from tasks.embedding.boundary import Boundary, find_boundary, trained_part
from tasks.embedding.fusion import trace
from tasks.embedding.layers import TrainedLayers, find_layers
from tasks.models.classifier import Classifier
from tasks.models.encoder import Encoder
from tasks.text.packed import Packed
from tasks.training.finetuning.adapters import adapter_parameters
from tasks.training.finetuning.convolution import convolve_by_tiles
from tasks.training.finetuning.options import UnfreezingOptions
from tasks.training.finetuning.pooling import pool_by_products
from tasks.training.loop.dropout import draw_by_part
from tasks.training.loop.fit import Group
from tasks.training.loop.schedule import first_epoch


class Trained(nn.Module):
    """The part of a classifier behind the freeze boundary, which shares the weights of the classifier.

    It maps activations, (n, width) or packed, to logits, a tensor (n, num_classes) a target; `with_features` the
    features (n, dim) stand before them. With `heads_apart` the loss of the heads has no gradient for the features.
    Without a boundary it is the whole classifier and takes normalised images or packed token ids.
    """

    def __init__(self, model: Classifier, boundary: Boundary | int | None) -> None:
        super().__init__()
        backbone, self.top = model.backbone, nn.Module()
        if isinstance(backbone, Encoder):
            assert not isinstance(boundary, Boundary)
            self.top = TrainedLayers(backbone, boundary)
        else:
            assert not isinstance(boundary, int)
            self.top = trained_part(backbone, boundary) if boundary else trace(backbone, shares_weights=True)
            draw_by_part(self.top)
            if next(model.parameters()).is_cuda:
                pool_by_products(self.top)
            else:
                convolve_by_tiles(self.top)
        self.heads = model.heads

    def forward(
        self, inputs: Tensor | Packed, *, with_features: bool = False, heads_apart: bool = False
    ) -> list[Tensor]:
        features = self.top(inputs)  # (n, dim)
        read = features.detach() if heads_apart else features
        logits = [head(read) for head in self.heads]
        return [features, *logits] if with_features else logits


def all_blocks(model: Classifier) -> list[nn.ModuleList]:
    """Return the blocks of the backbone, from the input to the output: those of an encoder are its layers."""
    if isinstance(model.backbone, Encoder):
        layers = find_layers(model.backbone)
        return layers.blocks() if layers else []
    blocks: list[nn.ModuleList] = model.backbone.blocks()
    return blocks


def unfrozen(
    model: Classifier, last: Literal["all"] | int
) -> tuple[list[nn.ModuleList], Boundary | int | None]:  # fmt: skip
    """Return the unfrozen blocks, and the boundary between the frozen and the trained part; None if nothing is frozen.

    The blocks are the last ones that the backbone's features come from, from the output to the input: blocks behind
    them would not change the features. Of an encoder the boundary is the number of its first trained layer.

    Raises:
        ValueError: an encoder has no layers that run one after the other, and not all of it is to be trained.
    """
    blocks = all_blocks(model)[::-1]
    if isinstance(model.backbone, Encoder):
        if last == "all":
            return blocks, None
        if not blocks:
            raise ValueError(
                f"finetune.unfreeze is {last}, but {model.backbone.architecture} has no layers that run one after the "
                "other: set it to all"
            )
        return blocks[:last], len(blocks) - len(blocks[:last])
    graph = trace(model.backbone, shares_weights=True)
    graph.delete_all_unused_submodules()
    used = {id(parameter) for parameter in graph.parameters()}
    blocks = [block for block in blocks if any(id(parameter) in used for parameter in block.parameters())]
    if last == "all":
        return blocks, None
    return blocks[:last], find_boundary(model.backbone, blocks[:last], graph=graph)


def boundary_of(model: Classifier, last: Literal["all"] | int) -> Boundary | int | None:
    """Return the boundary between the frozen and the trained part, as `unfrozen` does, and raise what it raises."""
    return None if last == "all" else unfrozen(model, last)[1]


def make_groups(
    model: Classifier, options: UnfreezingOptions, *, blocks: list[nn.ModuleList], epochs: int
) -> list[Group]:
    """Return the head's group, then one an unfrozen block, from the output to the input.

    The rate of a block is `learning_rate_decay` times that of the block behind it (discriminative rates, Howard & Ruder
    2018). With "all", parameters outside of blocks train as the first block does. Of blocks with adapters (see
    `tasks.training.finetuning.adapters`), the adapters alone are trained.
    """
    heads, decay = list(model.heads.parameters()), options.weight_decay
    groups = [Group(parameters=heads, learning_rate=options.head_learning_rate, weight_decay=decay)]
    parameters = [adapter_parameters(block) for block in blocks]
    if not any(parameters):
        parameters = [list(block.parameters()) for block in blocks]
        if options.unfreeze == "all":
            known = {id(parameter) for block in parameters for parameter in block}
            rest = [parameter for parameter in model.backbone.parameters() if id(parameter) not in known]
            parameters = [*parameters[:-1], [*(parameters[-1] if parameters else []), *rest]]
    groups += [
        Group(
            parameters=block,
            learning_rate=options.backbone_learning_rate * options.learning_rate_decay**depth,
            weight_decay=decay,
            from_epoch=first_epoch(depth, num_blocks=len(parameters), epochs=epochs) if options.gradual else 1,
        )
        for depth, block in enumerate(parameters)
    ]
    return groups
