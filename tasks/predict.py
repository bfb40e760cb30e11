"""A bundle and pictures in; a row a picture and target with its label and calibrated probability out. Or the bundle as one file
that other programs run."""

import argparse
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tasks.images.decode import decode_stranger
from tasks.images.options import SizeLimits
from tasks.machine.files import whole_file
from tasks.machine.progress import progress
from tasks.models.bundle import load_bundle
from tasks.prediction.answers import PRECISION, Answerer
from tasks.prediction.export import FORMATS, export
from tasks.prediction.inputs import find_inputs
from tasks.prediction.prediction_table import holds_predictions, prediction_writer
from tasks.prediction.stream import Answers, answer_stream
from tasks.stage.shell import errors_in_one_line, set_up

logger = logging.getLogger("graftline")

MIN_IMAGE_SIZE = 1  # px
MAX_IMAGE_PIXELS = 100_000_000
MAX_FILE_BYTES = 500_000_000


def predict(
    bundle: Path,
    inputs: Sequence[Path],
    *,
    out: Path,
    top_k: int = 5,
    root: Path | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
    **choices: Any,
) -> Counter[str]:
    """Classify what the inputs hold, and return how many of them had each reason not to be, and how many none ("").

    `choices` are those of `tasks.embedding.embedder.plan`. Predictions of before are no inputs, unless they are named. Raises
    ValueError where the bundle is not whole, or has no targets, or where `out` would replace something else than predictions.
    """
    check_out(out, bundle=bundle)
    check_replaced(out, inputs)
    if root is not None and not root.is_dir():
        raise ValueError(f"the root {root} is no folder: name the one where the paths in tables begin")
    model, _ = load_bundle(bundle)
    answerer = Answerer(model, **choices)
    return predict_with(
        answerer,
        inputs,
        out=out,
        top_k=top_k,
        root=root,
        max_image_pixels=max_image_pixels,
        max_file_bytes=max_file_bytes,
    )


def predict_with(
    answerer: Answerer,
    inputs: Sequence[Path],
    *,
    out: Path,
    top_k: int,
    root: Path | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Counter[str]:
    """Do what `predict` does, with a model that is loaded."""
    beside = out.with_name(f".{out.name}.part").resolve()
    found = find_inputs(
        inputs, root=root,
        left_out=lambda path: holds_predictions(path) or (path.name == beside.name and path.resolve() == beside),
    )  # fmt: skip
    decode = partial(
        decode_stranger,
        limits=SizeLimits(min_image_size=MIN_IMAGE_SIZE, max_image_pixels=max_image_pixels),
        shorter_side=answerer.transform.shorter_side,
    )  # fmt: skip
    answers = answer_stream(found, answerer, decode=decode, max_file_bytes=max_file_bytes, top_k=top_k)
    return write_predictions(out, progress(answers, total=None, what="predict", unit="minibatches"), answerer.classes)


def check_out(out: Path, *, bundle: Path) -> None:
    """Raises ValueError where no file can be written, or where it would lie in the bundle."""
    if not out.name or out.is_dir():
        raise ValueError(f"{out} is a folder: name a file in it")
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is no regular file: name another, or one that is not there yet")
    if out.resolve().is_relative_to(bundle.resolve()):
        raise ValueError(f"{out} lies in the bundle {bundle}, which stays as it is: name a file elsewhere")


def check_replaced(out: Path, inputs: Sequence[Path]) -> None:
    """Raises ValueError where a picture, a table or anything else but predictions of before is at `out`, or where it is an
    input."""
    if not out.exists():
        return
    if any(path.exists() and path.samefile(out) for path in inputs):
        raise ValueError(f"{out} is an input, which the predictions would replace: name another file")
    if out.stat().st_size and not holds_predictions(out):
        raise ValueError(f"{out} is there and holds no predictions: remove it, or name another file")


def write_predictions(out: Path, answers: Iterable[Answers], classes: dict[str, list[str]]) -> Counter[str]:
    """Write them as they come, and return how many inputs had each reason."""
    counts: Counter[str] = Counter()
    with whole_file(out) as path, prediction_writer(path) as writer:
        for each in answers:
            counts.update(one.reason for one in each.inputs)
            for row in rows(each, classes):
                writer.add(row)
    return counts


def rows(answers: Answers, classes: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """One an input and target, in the order of the inputs."""
    pictures = {place: number for number, place in enumerate(answers.places)}
    ranked = {target: (values.tolist(), indices.tolist()) for target, (values, indices) in answers.ranked.items()}
    for place, (each, sample_id) in enumerate(zip(answers.inputs, answers.sample_ids, strict=True)):
        for target, names in classes.items():
            row: dict[str, Any] = {"path": each.path, "sample_id": sample_id or None, "target": target}
            if each.reason:
                yield row | {"reason": each.reason, "detail": each.detail}
                continue
            values, indices = (part[pictures[place]] for part in ranked[target])
            labels = [names[index] for index in indices]
            yield row | {
                "label": labels[0], "probability": values[0], "top_labels": labels, "top_probabilities": values
            }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    set_up()
    given = parse(arguments)
    with errors_in_one_line():
        if given.export:
            check_out(given.out, bundle=given.bundle)
            if given.out.exists():
                raise ValueError(f"{given.out} is there already: remove it, or name another file")
            found = export(load_bundle(given.bundle)[0], given.out, format=given.export)
            logger.info("wrote %s, which agrees with %s to %.1e", given.out, given.bundle, found)
            return
        start = time.monotonic()
        choices = {"device": given.device, "precision": given.precision, "minibatch_size": given.minibatch_size}
        counts = predict(
            given.bundle, given.inputs, out=given.out, top_k=given.top_k, root=given.root,
            max_image_pixels=given.max_image_pixels, max_file_bytes=given.max_file_bytes, **choices,
        )  # fmt: skip
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if reason)
        logger.info(
            "predicted %s of %s in %.0f s -> %s%s", f"{counts['']:,}", f"{counts.total():,}", time.monotonic() - start,
            given.out, f"; without a label: {reasons}" if reasons else "",
        )  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tasks.predict", description=__doc__)
    parser.add_argument("bundle", type=Path, help="its folder")
    parser.add_argument("inputs", type=Path, nargs="*", help="folders, pictures, CSV and Parquet files")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="a Parquet file; with --export the file to be made"
    )
    parser.add_argument("--top-k", type=count, default=5, help="classes a picture; default: 5")
    parser.add_argument("--root", type=Path, help="where the paths in tables begin; default: the folder of the table")
    parser.add_argument("--export", choices=FORMATS, help="write the bundle as one file of this format")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp32"),
        default=PRECISION,
        help=f"default: {PRECISION}, in which evaluate judged the bundle",
    )
    parser.add_argument("--minibatch-size", type=count, help="pictures; default: 16 on cpu, 256 on cuda")
    parser.add_argument("--max-image-pixels", type=count, default=MAX_IMAGE_PIXELS, help="width x height")
    parser.add_argument("--max-file-bytes", type=count, default=MAX_FILE_BYTES, help="of a picture")
    given = parser.parse_intermixed_args(arguments)
    if bool(given.inputs) == bool(given.export):
        parser.error("expected inputs, or --export without any")
    return given


def count(text: str) -> int:
    """At least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, at least 1")
    return int(text)


if __name__ == "__main__":
    main()
