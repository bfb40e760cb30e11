"""The settings in params.yaml for the head on frozen features."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tasks.machine.bounds import Count, Positive

ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """The kind of head and how it is fitted.

    class_weights: balanced gives every class the same weight in all.
    hidden_features: the width of the hidden layer of an mlp.
    l2_strengths, max_iterations: of a linear head; val chooses one of the strengths.
    sharing: auto lets a target of several learn from the heads of the others where cross-validation says that it pays.
    words: auto joins a head on the words of a text with the head on its vector; an image has none.
    """

    head: Literal["logistic", "centroid", "mlp"]
    class_weights: ClassWeights
    hidden_features: Annotated[int, Field(ge=1, le=65536)]
    l2_strengths: Annotated[list[Positive], Field(min_length=1)]
    max_iterations: Count
    words: Literal["auto", "never"]
    sharing: Literal["auto", "never"]
