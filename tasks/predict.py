"""A bundle and samples in; the label and calibrated probability of every sample and target out, or its number.

With --export the bundle becomes one file that other programs run.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.machine.cluster import LOCAL
from tasks.machine.names import on_one_line
from tasks.machine.options import ScaleOptions
from tasks.stage.option_types import add_machine_options, count

if TYPE_CHECKING:  # each function imports what it needs: --help needs no torch
    from tasks.prediction.answers import Answerer
    from tasks.prediction.inputs import Input
    from tasks.prediction.reading import Reading
    from tasks.prediction.stream import Answers
    from tasks.targets.target import Target

logger = logging.getLogger("graftline")

ENDINGS = (".parquet", ".csv", ".json")
FORMATS = ("onnx", "torch")  # of an export
UNLIKE_IN_WORDS = "unlike anything the model was trained on"


def predict(
    bundle: Path,
    inputs: Sequence[Path | str],
    *,
    out: Path | None,
    top_k: int = 5,
    root: Path | None = None,
    limits: dict[str, int] | None = None,
    text_columns: list[str] | None = None,
    encoding: str | None = None,
    domain: str = "auto",
    has_embeddings: bool = False,
    scale: ScaleOptions = LOCAL,
    **choices: Any,
) -> Counter[str]:
    """Classify the samples of the inputs. Return how many have no label for a reason, and how many have one ("").

    `out` names the format by its ending: .parquet, .csv or .json; without it a line for each answer is printed.
    `limits` are fields of `tasks.prediction.reading.Limits`; `text_columns` and `encoding` are those of tables of
    texts, see `Reading`. `domain` is the one whose heads answer, see `Predictor`. `choices` are fields of
    `tasks.embedding.options.PlanOptions`. Earlier predictions are inputs only if they are named. `has_embeddings` adds
    the vector of each sample, which `graftline watch` compares. An input that is a str is an address.

    Raises:
        ValueError: the bundle is not whole, has no targets or does not know the domain, it reads images and is given
            columns or an encoding, or `out` would replace a file that holds no predictions; or as for
        `tasks.machine.cluster.spread_to_cluster`.
        OSError: an address does not answer, has nothing, or may not be read.
    """
    from tasks.models.bundle import load_bundle
    from tasks.prediction.answers import Answerer
    from tasks.prediction.domains import check_domain
    from tasks.prediction.inputs import STDIN
    from tasks.prediction.part import answers_of_cluster
    from tasks.prediction.reading import Limits, Reading
    from tasks.prediction.stream import answer_stream

    if STDIN in inputs and sys.stdin is None:
        raise ValueError("standard input is closed: pipe texts into it, one a line, or name files")
    if out is not None:
        check_out(out, bundle=bundle)
        check_ending(out)
        check_replaced(out, inputs)
    if has_embeddings and (out is None or out.suffix.lower() != ".parquet"):
        raise ValueError(
            f"--embeddings are for a Parquet file, and the output is {out or 'printed'}: write to .parquet"
        )
    if root is not None and not root.is_dir():
        raise ValueError(f"the root {root} is no folder: name the one where the paths in tables begin")
    model, lineage = load_bundle(bundle)
    check_domain(domain, model.domains)
    answerer = Answerer(model, **choices)
    reading = Reading(
        answerer.transform, lineage, limits=Limits(**limits or {}), columns=text_columns, encoding=encoding
    )  # fmt: skip
    if scale.engine == "local":
        answer = partial(answer_stream, answerer=answerer, reading=reading, domain=domain)
    else:
        answer = partial(
            answers_of_cluster, answerer=answerer, reading=reading, bundle=bundle, choices=choices, domain=domain,
            address=scale.address,
        )  # fmt: skip
    return predict_with(
        answerer, reading, inputs, out=out, top_k=top_k, root=root, answer=answer, has_embeddings=has_embeddings
    )


def predict_with(
    answerer: "Answerer", reading: "Reading", inputs: Sequence[Path | str], *, out: Path | None, top_k: int,
    answer: "Callable[[Iterator[Input]], Iterator[Answers]] | None" = None, root: Path | None = None,
    has_embeddings: bool = False,
) -> Counter[str]:  # fmt: skip
    """Do what `predict` does, with a loaded model. `answer` is `answer_stream` with its arguments, or alike."""
    from tasks.machine.files import beside_of
    from tasks.machine.progress import progress
    from tasks.prediction.prediction_table import holds_predictions
    from tasks.prediction.stream import answer_stream

    def is_ours(path: Path) -> bool:
        if out is not None and path.parent.name == beside_of(out).name and path.parent.parent.samefile(out.parent):
            return True
        return holds_predictions(path)

    listed = reading.find(inputs, root=root, left_out=is_ours)
    answers = answer(listed) if answer else answer_stream(listed, answerer, reading=reading)
    shown = progress(answers, total=None, what="predict", unit="minibatches")
    if out is None:
        return print_predictions(answers, answerer.targets)
    return write_predictions(out, shown, answerer, top_k=top_k, has_embeddings=has_embeddings)


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


def check_replaced(out: Path, inputs: Sequence[Path | str]) -> None:
    """Raise ValueError where `out` is an input, or a file other than earlier predictions."""
    from tasks.prediction.prediction_table import holds_predictions

    if not out.exists():
        return
    if any(isinstance(path, Path) and path.exists() and path.samefile(out) for path in inputs):
        raise ValueError(f"{out} is an input, which the predictions would replace: name another file")
    if out.stat().st_size and not holds_predictions(out):
        raise ValueError(f"{out} is there and holds no predictions: remove it, or name another file")


def print_predictions(answers: Iterable["Answers"], targets: Mapping[str, "Target"]) -> Counter[str]:
    """Print a line for each input and target as the answers come, and count the inputs like `write_predictions`."""
    from tasks.prediction.prediction_table import rows

    counts: Counter[str] = Counter()
    for part in answers:
        counts.update(item.reason for item in part.inputs)
        for row in rows(part, targets, top_k=1, in_words=True):
            cells = [row["target"]] if len(targets) > 1 else []
            cells += [row["reason"], row["detail"]] if "reason" in row else [row["label"]]
            cells += [f"{row['probability']:.3f}"] if "probability" in row else []
            cells += [UNLIKE_IN_WORDS] if row.get("unlike") else []
            sys.stdout.write("\t".join(map(on_one_line, [row["path"], *cells])) + "\n")
        sys.stdout.flush()
    return counts


def write_predictions(
    out: Path, answers: Iterable["Answers"], answerer: "Answerer", *, top_k: int, has_embeddings: bool
) -> Counter[str]:
    """Write answers as they come, and count the inputs by the reason why they have no label."""
    from tasks.machine.files import whole_file
    from tasks.prediction.prediction_table import prediction_writer, rows, schema_for

    counts: Counter[str] = Counter()
    targets = answerer.targets
    schema = schema_for(answerer, has_embeddings=has_embeddings)
    with whole_file(out) as path, prediction_writer(path, schema, ending=out.suffix.lower()) as writer:
        for part in answers:
            counts.update(item.reason for item in part.inputs)
            for row in rows(part, targets, top_k=top_k, has_embeddings=has_embeddings):
                writer.add(row)
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    from tasks.stage.shell import errors_in_one_line, set_up

    set_up()
    with errors_in_one_line():
        if options.export:
            export_to(options.out, options.bundle, format=options.export, domain=options.domain)
            return
        start = time.monotonic()
        chosen = {"device": options.device, "precision": options.precision, "minibatch_size": options.minibatch_size}
        most = {name: getattr(options, name) for name in ("max_image_pixels", "max_characters", "max_file_bytes")}
        choices, limits = (
            {name: value for name, value in given.items() if value is not None} for given in (chosen, most)
        )
        counts = predict(
            options.bundle, options.inputs, out=options.out, top_k=options.top_k, root=options.root, limits=limits,
            text_columns=options.text_columns, encoding=options.encoding, domain=options.domain,
            has_embeddings=options.embeddings, scale=ScaleOptions(engine=options.engine, address=options.address),
            **choices,
        )  # fmt: skip
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if reason)
        if not counts[""]:
            why = f"{reasons}{example(options.out)}" if reasons else no_file(options.inputs)
            raise ValueError(f"nothing was predicted: {why}")
        if options.out is None and not reasons:
            return  # every line is printed
        logger.info(
            "predicted %s of %s in %.0f s%s%s", f"{counts['']:,}", f"{counts.total():,}", time.monotonic() - start,
            f" -> {options.out}" if options.out else "", f"; without a label: {reasons}" if reasons else "",
        )  # fmt: skip


def export_to(out: Path, bundle: Path, *, format: str, domain: str) -> None:
    """Write the bundle as one file, with the heads of a domain, or the general ones for auto and none.

    Raises:
        ValueError: the file is there already, or as for `load_bundle`, `check_domain` and `export`.
    """
    from tasks.models.bundle import load_bundle
    from tasks.models.domains import AUTO, NONE
    from tasks.prediction.domains import check_domain
    from tasks.prediction.export import export

    check_out(out, bundle=bundle)
    if out.exists():
        raise ValueError(f"{out} is there already: remove it, or name another file")
    model, _ = load_bundle(bundle)
    check_domain(domain, model.domains)
    heads = ", its general heads" if model.domains else ""
    if domain not in (AUTO, NONE):
        heads = f", its heads of the domain {on_one_line(domain)}, whose probabilities are not calibrated"
        model = model.of_domain(domain)
    difference = export(model, out, format=format)
    logger.info("wrote %s, which agrees with %s to %.1e%s", out, bundle, difference, heads)


def example(out: Path | None) -> str:
    """Return the first input of written predictions with the detail of its reason; printed ones are read already."""
    if out is None or out.suffix.lower() != ".parquet":
        return ""
    import pyarrow.parquet as pq

    [row] = next(pq.ParquetFile(out).iter_batches(1, columns=["path", "detail"])).to_pylist()
    return f" (for example {row['path']}: {row['detail']}; {out} has all of them)"


def no_file(inputs: Sequence[Path | str]) -> str:
    return f"there is no sample in {', '.join(map(str, inputs))}, besides earlier predictions"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.predict",
        usage="graftline predict [options] INPUT…   (of the model in use)\n       %(prog)s [options] BUNDLE INPUT…",
        description=__doc__,
    )
    parser.add_argument(
        "inputs", type=path_or_address, nargs="*",
        help="folders, files and tables (CSV, TSV, JSON Lines, Parquet), addresses such as s3://bucket/photos, or - "
        "for texts on standard input, one a line; without --bundle the first is the bundle's folder",
    )  # fmt: skip
    parser.add_argument("--bundle", type=Path, help="the folder of the model")
    parser.add_argument(
        "-o", "--out", type=Path,
        help="a file that ends in .parquet, .csv or .json; without it labels are printed; with --export the new file",
    )  # fmt: skip
    parser.add_argument("--top-k", type=count, default=5, help="classes, labels or steps a sample; default: 5")
    parser.add_argument("--root", type=Path, help="where the paths in tables begin; default: the folder of the table")
    parser.add_argument(
        "--text-columns", type=columns, metavar="A,B", help="of tables of texts; default: those that the model learned"
    )
    parser.add_argument("--encoding", help="of texts, such as cp1252; default: UTF-8, or a file's mark")
    parser.add_argument(
        "--domain", default="auto",
        help="whose heads answer, of a model that is adapted to domains: a name, none for the general heads, or auto: "
        "the domain that most of the first samples are of; default: auto, and with --export none",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings", action="store_true", help="add the vector of each sample, for `graftline watch`; .parquet alone"
    )
    parser.add_argument("--export", choices=FORMATS, help="write the bundle as one file of this format")
    add_machine_options(parser, on_ray="all nodes of a Ray cluster, to the same bytes")
    parser.add_argument("--max-image-pixels", type=count, help="width x height; default: 100000000")
    parser.add_argument("--max-characters", type=count, help="of a text; default: 1000000")
    parser.add_argument("--max-file-bytes", type=count, help="of a sample; default: 500000000")
    options = parser.parse_intermixed_args(arguments)
    if options.bundle is None and options.inputs:
        options.bundle = Path(options.inputs.pop(0))
    if options.address and options.engine != "ray":
        parser.error("--address is for --engine ray")
    if options.bundle and not options.inputs and not options.export:
        parser.error("there is no input: name files, folders or tables")
    if options.bundle is None or bool(options.inputs) == bool(options.export) or (options.export and not options.out):
        parser.error("expected a bundle and inputs, or a bundle, --export and -o without inputs")
    return options


def path_or_address(text: str) -> Path | str:
    """Return a path, or an address such as s3://bucket/photos as it is."""
    return text if "://" in text else Path(text)


def columns(text: str) -> list[str]:
    """Return the names of columns that commas separate."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}, expected the names of columns with commas between them")
    return names


if __name__ == "__main__":
    main()
