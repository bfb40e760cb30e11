"""What params.yaml sets for the report page."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.machine.bounds import Count


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The title of the page and how much it shows."""

    title: str
    max_quarantined_rows: Count
    max_pictures: Count
    max_examples: Count
    picture_size: Annotated[int, Field(ge=8, le=512)]  # px, the longer side
    max_points: Count
