"""The settings in params.yaml for ranking candidate backbones."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """The candidates, and the limit of the samples that they are ranked on.

    candidates: the changes of each to the section `backbone`, which is a candidate itself.
    max_samples: the most samples that are embedded.
    """

    candidates: list[dict[str, Any]]
    max_samples: Annotated[int, Field(ge=20, le=20000)]
