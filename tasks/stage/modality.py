"""The two modalities, images and text, each with a room of the same shape: `tasks/images` and `tasks/text`.

A verb takes the parts that it needs from a room: `room(modality, "decode")`. So a project loads the code of its
modality alone, and `tasks.machine.sources` finds these calls as it finds imports.
"""

from importlib import import_module
from typing import Any, Literal

Modality = Literal["images", "text"]


def room(modality: Modality, part: str) -> Any:
    """Return a module of the modality's room, such as `tasks.text.decode`.

    Every part has the same names in both rooms:

    - `facts`: `Facts`, the facts of a sample that scan writes beside its labels;
    - `decode`: `ENDINGS` of the files of samples, `NOT_ONE` (reasons of bytes that do not begin like a sample;
      None where the name alone decides), `read`, `inspect_content`, `decode_sample`, `decode_stranger`;
    - `copy_hash`: `copy_hashes`, `HASHES_SHAPE`, `DISTANCE`;
    - `alterations`: `ALTERED_COPIES`, `PERTURBATIONS`, `may_be_altered`;
    - `augment`: `AugmentedViews`;
    - `preview`: `is_shown`, `preview` and `preview_twins`, which show samples on the page.
    """
    return import_module(f"tasks.{modality}.{part}")
