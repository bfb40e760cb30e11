"""The settings in params.yaml for the pretrained backbone."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tasks.text.options import TokenOptions

Library = Literal["torchvision", "timm", "transformers"]


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(TokenOptions):
    """The arguments of `tasks.models.weights.load_pretrained`. The bounds are those of a bundle."""

    library: Library
    architecture: str
    weights: str
    features: Literal["penultimate", "pooled"] | Annotated[list[str], Field(min_length=1)]
    power: Annotated[float, Field(ge=0.01, le=1)]
    flip: bool
    resolutions: Annotated[list[Annotated[int, Field(ge=8, le=1024)]], Field(max_length=4)]
    image_size: Annotated[int, Field(ge=8, le=1024)] | None
    decode: Literal["scaled", "full"]
