"""A bundle and images in; the label and calibrated probability of every image and target out.

With --export the bundle becomes one file that other programs run.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # each function imports what it needs: --help needs no torch
    from tasks.prediction.answers import Answerer
    from tasks.prediction.stream import Answers

logger = logging.getLogger("graftline")

MIN_IMAGE_SIZE = 1  # px
MAX_IMAGE_PIXELS = 100_000_000
MAX_FILE_BYTES = 500_000_000
ENDINGS = (".parquet", ".csv", ".json")
FORMATS = ("onnx", "torch")  # of an export


def predict(
    bundle: Path,
    inputs: Sequence[Path],
    *,
    out: Path | None,
    top_k: int = 5,
    root: Path | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
    **choices: Any,
) -> Counter[str]:
    """Classify the images of the inputs. Return how many have no label for a reason, and how many have one ("").

    `out` names the format by its ending: .parquet, .csv or .json; without it a line for each answer is printed.
    `choices` are fields of `tasks.embedding.options.PlanOptions`. Earlier predictions are inputs only if they are
    named. Raises ValueError where the bundle is not whole or has no targets, or where `out` would replace a file that
    holds no predictions.
    """
    from tasks.models.bundle import load_bundle
    from tasks.prediction.answers import Answerer

    if out is not None:
        check_out(out, bundle=bundle)
        check_ending(out)
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
    answerer: "Answerer",
    inputs: Sequence[Path],
    *,
    out: Path | None,
    top_k: int,
    root: Path | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Counter[str]:
    """Do what `predict` does, with a model that is loaded."""
    from tasks.images.decode import decode_stranger
    from tasks.images.options import SizeLimits
    from tasks.machine.files import beside_of
    from tasks.machine.progress import progress
    from tasks.prediction.inputs import find_inputs
    from tasks.prediction.prediction_table import holds_predictions
    from tasks.prediction.stream import answer_stream

    def is_ours(path: Path) -> bool:
        if out is not None and path.parent.name == beside_of(out).name and path.parent.parent.samefile(out.parent):
            return True
        return holds_predictions(path)

    listed = find_inputs(inputs, root=root, left_out=is_ours)
    decode = partial(
        decode_stranger,
        limits=SizeLimits(min_image_size=MIN_IMAGE_SIZE, max_image_pixels=max_image_pixels),
        shorter_side=answerer.transform.shorter_side,
    )  # fmt: skip
    answers = answer_stream(listed, answerer, decode=decode, max_file_bytes=max_file_bytes, top_k=top_k)
    shown = progress(answers, total=None, what="predict", unit="minibatches")
    if out is None:
        return print_predictions(answers, answerer.classes)
    return write_predictions(out, shown, answerer.classes)


def check_out(out: Path, *, bundle: Path) -> None:
    """Raise ValueError where no file can be written, or where it would lie in the bundle."""
    if not out.name or out.is_dir():
        raise ValueError(f"{out} is a folder: name a file in it")
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is no regular file: name another, or one that is not there yet")
    if out.resolve().is_relative_to(bundle.resolve()):
        raise ValueError(f"{out} lies in the bundle {bundle}, which stays as it is: name a file elsewhere")


def check_ending(out: Path) -> None:
    """Raise ValueError where the ending names no format."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"{out} ends in {out.suffix or 'nothing'}, expected {', '.join(ENDINGS)}: name such a file")


def check_replaced(out: Path, inputs: Sequence[Path]) -> None:
    """Raise ValueError where `out` is an input, or a file other than earlier predictions."""
    from tasks.prediction.prediction_table import holds_predictions

    if not out.exists():
        return
    if any(path.exists() and path.samefile(out) for path in inputs):
        raise ValueError(f"{out} is an input, which the predictions would replace: name another file")
    if out.stat().st_size and not holds_predictions(out):
        raise ValueError(f"{out} is there and holds no predictions: remove it, or name another file")


def print_predictions(answers: Iterable["Answers"], classes: dict[str, list[str]]) -> Counter[str]:
    """Print a line for each input and target as the answers come, and count the inputs like `write_predictions`."""
    from tasks.prediction.prediction_table import rows

    counts: Counter[str] = Counter()
    for part in answers:
        counts.update(item.reason for item in part.inputs)
        for row in rows(part, classes):
            said = [row["target"]] if len(classes) > 1 else []
            said += [row["reason"], row["detail"]] if "reason" in row else [row["label"], f"{row['probability']:.3f}"]
            sys.stdout.write(
                "\t".join(text if text.isprintable() else ascii(text) for text in [row["path"], *said]) + "\n"
            )
        sys.stdout.flush()
    return counts


def write_predictions(out: Path, answers: Iterable["Answers"], classes: dict[str, list[str]]) -> Counter[str]:
    """Write answers as they come, and count the inputs by the reason why they have no label."""
    from tasks.machine.files import whole_file
    from tasks.prediction.prediction_table import prediction_writer, rows

    counts: Counter[str] = Counter()
    with whole_file(out) as path, prediction_writer(path, ending=out.suffix.lower()) as writer:
        for part in answers:
            counts.update(item.reason for item in part.inputs)
            for row in rows(part, classes):
                writer.add(row)
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    from tasks.stage.shell import errors_in_one_line, set_up

    set_up()
    with errors_in_one_line():
        if options.export:
            from tasks.models.bundle import load_bundle
            from tasks.prediction.export import export

            check_out(options.out, bundle=options.bundle)
            if options.out.exists():
                raise ValueError(f"{options.out} is there already: remove it, or name another file")
            difference = export(load_bundle(options.bundle)[0], options.out, format=options.export)
            logger.info("wrote %s, which agrees with %s to %.1e", options.out, options.bundle, difference)
            return
        start = time.monotonic()
        chosen = {"device": options.device, "precision": options.precision, "minibatch_size": options.minibatch_size}
        choices = {name: value for name, value in chosen.items() if value is not None}
        counts = predict(
            options.bundle, options.inputs, out=options.out, top_k=options.top_k, root=options.root,
            max_image_pixels=options.max_image_pixels, max_file_bytes=options.max_file_bytes, **choices,
        )  # fmt: skip
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if reason)
        if not counts[""]:
            found = f"{reasons}{example(options.out)}" if reasons else no_file(options.inputs)
            raise ValueError(f"nothing was predicted: {found}")
        if options.out is None and not reasons:
            return  # every line is printed
        logger.info(
            "predicted %s of %s in %.0f s%s%s", f"{counts['']:,}", f"{counts.total():,}", time.monotonic() - start,
            f" -> {options.out}" if options.out else "", f"; without a label: {reasons}" if reasons else "",
        )  # fmt: skip


def example(out: Path | None) -> str:
    """Return the first input of written predictions with the detail of its reason; printed ones are read already."""
    if out is None or out.suffix.lower() != ".parquet":
        return ""
    import pyarrow.parquet as pq

    [row] = next(pq.ParquetFile(out).iter_batches(1, columns=["path", "detail"])).to_pylist()
    return f" (for example {row['path']}: {row['detail']}; {out} has all of them)"


def no_file(inputs: Sequence[Path]) -> str:
    return f"there is no file in {', '.join(map(str, inputs))}, besides earlier predictions"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.predict",
        usage="graftline predict [options] INPUT…   (of the model in use)\n       %(prog)s [options] BUNDLE INPUT…",
        description=__doc__,
    )
    parser.add_argument(
        "inputs", type=Path, nargs="*",
        help="folders, pictures, CSV and Parquet files; without --bundle the first is the bundle's folder",
    )  # fmt: skip
    parser.add_argument("--bundle", type=Path, help="the folder of the model")
    parser.add_argument(
        "-o", "--out", type=Path,
        help="a file that ends in .parquet, .csv or .json; without it labels are printed; with --export the new file",
    )  # fmt: skip
    parser.add_argument("--top-k", type=count, default=5, help="classes a picture; default: 5")
    parser.add_argument("--root", type=Path, help="where the paths in tables begin; default: the folder of the table")
    parser.add_argument("--export", choices=FORMATS, help="write the bundle as one file of this format")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: cuda on a machine with a GPU, else cpu",
    )
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp32"), help="default: fp32, in which evaluate judged the bundle"
    )
    parser.add_argument("--minibatch-size", type=count, help="pictures; default: 16 on cpu, 256 on cuda")
    parser.add_argument("--max-image-pixels", type=count, default=MAX_IMAGE_PIXELS, help="width x height")
    parser.add_argument("--max-file-bytes", type=count, default=MAX_FILE_BYTES, help="of a picture")
    options = parser.parse_intermixed_args(arguments)
    if options.bundle is None and options.inputs:
        options.bundle = options.inputs.pop(0)
    if options.bundle and not options.inputs and not options.export:
        parser.error("there is no input: name pictures, folders or tables")
    if options.bundle is None or bool(options.inputs) == bool(options.export) or (options.export and not options.out):
        parser.error("expected a bundle and inputs, or a bundle, --export and -o without inputs")
    return options


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, at least 1")
    return int(text)


if __name__ == "__main__":
    main()
