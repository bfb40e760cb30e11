"""A model for a notebook: `tasks.load(bundle)` answers samples, and embeds them, as `python -m tasks.predict` does."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tasks.embedding.options import PlanOptions
from tasks.models.bundle import load_bundle
from tasks.models.domains import AUTO, NONE
from tasks.prediction.answers import Answerer
from tasks.prediction.domains import check_domain
from tasks.prediction.inputs import Input, text_input
from tasks.prediction.prediction_table import rows, schema_for
from tasks.prediction.reading import Reading
from tasks.prediction.stream import Answers, answer_stream
from tasks.targets.target import Target

# a path, or pixels (height, width, 3) or (height, width); for a model of texts a str is a text, and a Path is a path
Sample: TypeAlias = str | Path | NDArray[np.uint8]


class Predictor:
    """A loaded bundle. Its answers are those of `python -m tasks.predict`, to the last bit.

    `domain` is the domain of the samples, among those that the model is adapted to. "none" asks the general
    heads; "auto" finds the domain by the samples, anew at each call. `choices` are fields of
    `tasks.embedding.options.PlanOptions`, such as device="cpu".

    Raises:
        ValueError: a choice or the domain is unknown, or the bundle is not whole or has no targets.
    """

    def __init__(self, bundle: str | Path, *, domain: str = AUTO, **choices: Any) -> None:
        _check(choices)
        model, self.lineage = load_bundle(Path(bundle))
        check_domain(domain, model.domains)
        self.domain = domain
        self.answerer = Answerer(model, **choices)
        self.reading = Reading(self.answerer.transform, self.lineage)

    @property
    def classes(self) -> dict[str, list[str]]:
        """Return the names of the classes, labels or steps of each target."""
        return self.answerer.classes

    @property
    def targets(self) -> dict[str, Target]:
        """Return the targets, each with its kind and its facts, such as the unit of a number."""
        return self.answerer.targets

    @property
    def domains(self) -> dict[str, tuple[str, ...]]:
        """Return the domains that the model is adapted to, each with the targets that have a head of it."""
        return self.answerer.domains.targets_of if self.answerer.domains else {}

    def predict(
        self, samples: Sample | Iterable[Sample], *, top_k: int = 5, domain: str | None = None
    ) -> pd.DataFrame:  # fmt: skip
        """Return a row for each sample and target, in order.

        The columns are those of the Parquet file that `python -m tasks.predict` writes. An input that is no sample has
        a `reason` and no label. A path may be a folder or a table, too. `top_k` is the length of a row's `top_labels`.
        `domain` is the domain of all samples; None takes the one that the model was loaded with.

        Raises:
            ValueError: paths are mixed with arrays or texts, an array is not uint8 (height, width, 3) or (height,
                width), another thing is no sample, `top_k` is below 1, or the domain is unknown.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected at least 1")
        domain = self.domain if domain is None else domain
        check_domain(domain, self.answerer.domains)
        answers = self._answers(samples, domain=domain)
        table = [row for part in answers for row in rows(part, self.targets, top_k=top_k)]
        return pd.DataFrame(table, columns=schema_for(self.answerer).names)

    def embed(self, samples: Sample | Iterable[Sample]) -> NDArray[np.float16]:
        """Return the vectors (n, dim) that the heads read, in order; those of several trunks side by side.

        Raises:
            ValueError: an input is no sample, or as for `predict`.
        """
        vectors = [np.empty((0, self.answerer.dim * len(self.answerer.trunks)), np.float16)]
        for part in self._answers(samples, domain=NONE):
            for item in part.inputs:
                if item.reason:
                    what = "text" if self.reading.is_text else "picture"
                    raise ValueError(f"{item.path} is no {what} ({item.reason}: {item.detail}): leave it out")
            vectors.append(np.hstack(part.vectors))
        return np.concatenate(vectors)

    def _answers(self, samples: Sample | Iterable[Sample], *, domain: str) -> Iterator[Answers]:
        inputs = self._texts(_listed(samples)) if self.reading.is_text else self._images(samples)
        return answer_stream(inputs, self.answerer, reading=self.reading, domain=domain)

    def _texts(self, items: list[Any]) -> Iterator[Input]:
        items = ["" if pd.api.types.is_scalar(item) and pd.isna(item) else item for item in items]
        expected = "a text nor a path: a str is a text, a Path leads to a file; of a DataFrame, hand in a column"
        if _kind_of(items, {str: "texts", Path: "paths"}, expected=expected) == "paths":
            return self.reading.find(items)
        return (text_input([text], path=f"text {number}") for number, text in enumerate(items))

    def _images(self, samples: Sample | Iterable[Sample]) -> Iterator[Input]:
        is_several = isinstance(samples, np.ndarray) and samples.ndim == 4  # (n, height, width, 3)
        listed: list[Any] = [*samples] if is_several else _listed(samples)  # type: ignore[misc]
        items: list[Any] = [Path(item) if isinstance(item, str) else item for item in listed]
        expected = "a path nor an array: of a Pillow image, np.asarray(image.convert('RGB')) makes an array"
        if _kind_of(items, {Path: "paths", np.ndarray: "arrays"}, expected=expected) == "paths":
            return self.reading.find(items)
        for array in items:
            _check_pixels(array)
        return (
            Input(path=f"array {number}", decoded=Image.fromarray(array).convert("RGB"))
            for number, array in enumerate(items)
        )


def _listed(samples: Any) -> list[Any]:
    """Return the samples as a list. An array of objects or text is a column of paths or texts."""
    is_column = isinstance(samples, np.ndarray) and samples.dtype.kind in "OUT"
    is_one = isinstance(samples, str | bytes | np.ndarray | pd.DataFrame)
    if is_column or (isinstance(samples, Iterable) and not is_one):
        return [str(item) if isinstance(item, np.str_) else item for item in samples]
    return [samples]


def _kind_of(items: list[Any], kinds: dict[type, str], *, expected: str) -> str:
    """Return the name of the kind that all items are of; "" where there is none. Raises ValueError for other items."""
    for number, item in enumerate(items):
        if not isinstance(item, tuple(kinds)):
            place = f" (number {number}, from 0)" if len(items) > 1 else ""
            raise ValueError(f"{type(item).__name__}{place} is neither {expected}")
    counts = {name: sum(isinstance(item, kind) for item in items) for kind, name in kinds.items()}
    if all(counts.values()):
        counted = " and ".join(f"{number} {name}" for name, number in counts.items())
        raise ValueError(f"{counted} are mixed: ask for them apart")
    return next((name for name, number in counts.items() if number), "")


def _check_pixels(array: NDArray[Any]) -> None:
    is_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not is_fit or not array.size:
        raise ValueError(
            f"an array is {array.dtype} {array.shape}, expected uint8 (height, width, 3) or (height, width)"
        )


def _check(choices: dict[str, Any]) -> None:
    """Raise ValueError where a choice is no field of `PlanOptions`, or no value of its field."""
    hints = get_type_hints(PlanOptions)
    for name, value in choices.items():
        if name not in hints:
            raise ValueError(f"{name} is unknown, expected one of {', '.join(['domain', *hints])}")
        values = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if values and value not in values:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(values)}")
        if name == "minibatch_size" and value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}, expected a whole number, at least 1")
