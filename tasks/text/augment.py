"""Views of a text that keep its label. There are none: any edit of a text may change its meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AugmentedViews:
    """The numbered views of samples: each is the sample itself."""

    augmentation: Any
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def __call__(self, prepared: Any, sample_ids: Sequence[str], view: int) -> Any:
        return prepared
