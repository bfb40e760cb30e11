"""The settings in params.yaml for the report page."""

from dataclasses import dataclass

from tasks.images.options import PictureSize
from tasks.machine.bounds import Count
from tasks.text.options import Snippets


@dataclass(frozen=True, kw_only=True)
class PageOptions(Snippets, PictureSize):
    """The title of the page, the amounts that it shows, and whether it shows the samples themselves."""

    title: str
    max_quarantined_rows: Count
    max_pictures: Count
    max_examples: Count
    max_twins: Count
    max_points: Count
