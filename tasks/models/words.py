"""The part of a classifier that reads the words of texts: a vocabulary, and a linear layer and factors a target."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from tasks.targets.head import Factors, WordLayer
from tasks.text.words import Vocabulary


class Words(nn.Module):
    """The tensors of the words of a classifier. The code that answers takes them as NumPy arrays.

    Args:
        num_terms: of the vocabulary.
        sizes: the outputs of each target that reads words.
        factors: of each target.
    """

    hashes: Tensor  # (num_terms,) int64
    idf: Tensor  # (num_terms,)

    def __init__(self, num_terms: int, sizes: Mapping[str, int], factors: Mapping[str, Factors]) -> None:
        super().__init__()
        self.factors = dict(factors)
        self.register_buffer("hashes", torch.zeros(num_terms, dtype=torch.int64))
        self.register_buffer("idf", torch.zeros(num_terms))
        for number, size in enumerate(sizes.values()):
            self.register_buffer(f"weight{number}", torch.zeros(size, num_terms))
            self.register_buffer(f"bias{number}", torch.zeros(size))

    @classmethod
    def of(cls, vocabulary: Vocabulary, layers: Mapping[str, WordLayer]) -> "Words":
        """Return the words of a vocabulary and the layer of each target."""
        sizes = {target: len(layer.layer[1]) for target, layer in layers.items()}
        words = cls(len(vocabulary), sizes, {target: layer.factors for target, layer in layers.items()})
        words.hashes.copy_(torch.from_numpy(vocabulary.hashes))
        words.idf.copy_(torch.from_numpy(vocabulary.idf))
        for number, layer in enumerate(layers.values()):
            for name, values in zip(("weight", "bias"), layer.layer, strict=True):
                words.get_buffer(f"{name}{number}").copy_(torch.from_numpy(values))
        return words

    def without(self, targets: Collection[str]) -> "Words | None":
        """Return the words of the other targets; None where there are none."""
        layers = {target: layer for target, layer in self.layers().items() if target not in targets}
        return Words.of(self.vocabulary(), layers) if layers else None

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary. Raises ValueError where its hashes are not in order."""
        hashes = self.hashes.cpu().numpy()
        if not (hashes[1:] > hashes[:-1]).all():  # a difference of two could overflow
            raise ValueError("the hashes of its words are not in ascending order")
        return Vocabulary(hashes=hashes, idf=self.idf.cpu().numpy())

    def layers(self) -> dict[str, WordLayer]:
        """Return the layer of each target."""
        return {
            target: WordLayer(
                layer=(
                    self.get_buffer(f"weight{number}").cpu().numpy(),
                    self.get_buffer(f"bias{number}").cpu().numpy(),
                ),
                factors=factors,
            )
            for number, (target, factors) in enumerate(self.factors.items())
        }
