"""A model for a notebook: `tasks.load(bundle)` answers pictures, and embeds them, as `python -m tasks.predict` does."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tasks.data.samples.defects import DefectError
from tasks.embedding.options import PlanOptions
from tasks.images.decode import decode_stranger
from tasks.images.options import SizeLimits
from tasks.models.bundle import load_bundle
from tasks.prediction.answers import Answerer
from tasks.prediction.inputs import Input, find_inputs, read_input
from tasks.prediction.prediction_table import SCHEMA, rows
from tasks.prediction.stream import Answers, answer_stream, ranked

LIMITS = SizeLimits(min_image_size=1, max_image_pixels=100_000_000)
MAX_FILE_BYTES = 500_000_000  # of a picture

Picture: TypeAlias = str | Path | NDArray[np.uint8]  # a path, or pixels (height, width, 3) or (height, width)


class Predictor:
    """A loaded bundle. Its answers are those of `python -m tasks.predict`, to the last bit.

    `choices` are fields of `tasks.embedding.options.PlanOptions`, such as device="cpu". Raises ValueError where one is
    unknown, or where the bundle is not whole or has no classes.
    """

    def __init__(self, bundle: str | Path, **choices: Any) -> None:
        _check(choices)
        model, self.lineage = load_bundle(Path(bundle))
        self.answerer = Answerer(model, **choices)
        self.decode = partial(
            decode_stranger, limits=LIMITS, shorter_side=self.answerer.transform.shorter_side
        )  # fmt: skip

    @property
    def classes(self) -> dict[str, list[str]]:
        """Return the classes of each target."""
        return self.answerer.classes

    def predict(self, pictures: Picture | Iterable[Picture], *, top_k: int = 5) -> pd.DataFrame:
        """Return a row for each picture and target, in order.

        The columns are those of the Parquet file that `python -m tasks.predict` writes. What is no picture has a
        `reason` and no label. A path may be a folder or a table of paths, too.

        Raises:
            ValueError: paths and arrays are mixed, an array is not uint8 (height, width, 3) or (height, width), another
                thing is no path, or `top_k` is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected at least 1")
        paths, arrays = _sorted(pictures)
        if arrays:
            answers = self._of_arrays(arrays, top_k=top_k)
        else:
            inputs = find_inputs(paths)
            answers = answer_stream(
                inputs, self.answerer, decode=self.decode, max_file_bytes=MAX_FILE_BYTES, top_k=top_k
            )
        table = [row for part in answers for row in rows(part, self.classes)]
        return pd.DataFrame(table, columns=SCHEMA.names)

    def embed(self, pictures: Picture | Iterable[Picture]) -> NDArray[np.float16]:
        """Return the vectors (n, dim) that the heads read, in order.

        Raises:
            ValueError: an input is no picture, or as for `predict`.
        """
        paths, arrays = _sorted(pictures)
        pixels = map(self._pixels_of_array, arrays) if arrays else map(self._pixels_of_file, find_inputs(paths))
        vectors = [part for _, part in self._vectors(pixels)]
        return np.concatenate(vectors) if vectors else np.empty((0, self.answerer.embedder.dim), np.float16)

    def _of_arrays(self, arrays: list[NDArray[np.uint8]], *, top_k: int) -> Iterator[Answers]:
        for first, vectors in self._vectors(map(self._pixels_of_array, arrays)):
            n = len(vectors)
            yield Answers(
                inputs=[Input(path=f"array {first + number}") for number in range(n)],
                sample_ids=[""] * n,
                places=list(range(n)),
                ranked={
                    target: ranked(values, top_k) for target, values in self.answerer.probabilities(vectors).items()
                },
            )

    def _vectors(self, pixels: Iterable[Tensor]) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield the vectors of minibatches, each with the number of its first picture."""
        size = self.answerer.embedder.plan.minibatch_size
        waiting, first = list[Tensor](), 0
        for picture in [*pixels, None]:
            if picture is not None:
                waiting.append(picture)
            if waiting and (picture is None or len(waiting) == size):
                vectors = self.answerer.vectors(self.answerer.transform.stack(waiting))
                if self.answerer.embedder.plan.device == "cuda":
                    torch.cuda.synchronize()
                yield first, vectors.numpy()
                first, waiting = first + len(waiting), []

    def _pixels_of_file(self, item: Input) -> Tensor:
        try:
            if item.reason:
                raise DefectError(item.reason, item.detail)
            pixels: Tensor = self.answerer.transform.prepare(
                self.decode(read_input(item, max_file_bytes=MAX_FILE_BYTES))
            )
            return pixels
        except DefectError as error:
            raise ValueError(f"{item.path} is no picture ({error.reason}: {error}): leave it out") from error

    def _pixels_of_array(self, array: NDArray[np.uint8]) -> Tensor:
        is_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
        if array.dtype != np.uint8 or not is_fit or not array.size:
            raise ValueError(
                f"an array is {array.dtype} {array.shape}, expected uint8 (height, width, 3) or (height, width)"
            )
        pixels: Tensor = self.answerer.transform.prepare(Image.fromarray(array).convert("RGB"))
        return pixels


def _sorted(pictures: Picture | Iterable[Picture]) -> tuple[list[Path], list[NDArray[np.uint8]]]:
    """Return the paths and the arrays, one of which is empty."""
    items: list[Any]
    if isinstance(pictures, np.ndarray) and pictures.dtype.kind not in "OU":  # else a column of paths
        items = list(pictures) if pictures.ndim == 4 else [pictures]  # (n, height, width, 3) is n pictures
    elif isinstance(pictures, Iterable) and not isinstance(pictures, str | bytes):
        items = list(pictures)
    else:
        items = [pictures]
    for item in items:
        if not isinstance(item, str | Path | np.ndarray):
            raise ValueError(
                f"{type(item).__name__} is neither a path nor an array: of a Pillow image, "
                "np.asarray(image.convert('RGB')) makes an array"
            )
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    paths = [Path(item) for item in items if not isinstance(item, np.ndarray)]
    if arrays and paths:
        raise ValueError(f"{len(paths)} paths and {len(arrays)} arrays are mixed: ask for them apart")
    return paths, arrays


def _check(choices: dict[str, Any]) -> None:
    """Raise ValueError where a choice is no field of `PlanOptions`, or no value of its field."""
    hints = get_type_hints(PlanOptions)
    for name, value in choices.items():
        if name not in hints:
            raise ValueError(f"{name} is unknown, expected one of {', '.join(hints)}")
        values = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if values and value not in values:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(values)}")
        if name == "minibatch_size" and value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}, expected a whole number, at least 1")
