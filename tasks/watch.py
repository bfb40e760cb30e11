"""Answers of a model in; whether they or their samples drifted from the model's training, out.

`graftline watch PREDICTIONS…` compares windows of answers with those to the held-out samples. Labels that come later
show how often the answers were right.
"""

import argparse
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.stage.option_types import above_zero, whole

if TYPE_CHECKING:  # --help waits for nothing
    from tasks.targets.target import Target
    from tasks.watching.decision import Vectors
    from tasks.watching.reference import Reference
    from tasks.watching.windows import Window

logger = logging.getLogger("graftline")

FALSE_ALARMS = 0.01
SHARE = above_zero(most=0.5, expected="a share above 0 and up to 0.5, such as 0.01")
WINDOW = 500
FILES = ("watch.json", "watch.html")
OF_PROJECT = ("manifests", "batches", "embeddings", "raw", "store")  # by which the held-out samples have vectors


def watch(
    predictions: Sequence[Path],
    *,
    bundle: Path,
    out: Path,
    evaluation: Path | None = None,
    reference: Path | None = None,
    labels: Sequence[Path] = (),
    window: int = WINDOW,
    every: str | None = None,
    false_alarms: float = FALSE_ALARMS,
    **project: Path | None,
) -> dict[str, Any]:
    """Compare windows of answers with the reference, write watch.json and watch.html, and return the former's content.

    Args:
        predictions: files that `predict` wrote, and folders of a service's log.
        bundle: of the model that answered.
        out: a folder; the results of an earlier watch are replaced, and its decisions are kept where nothing changed.
        evaluation: the folder that `evaluate` wrote: the reference, unless `reference` names a file of answers.
        labels: tables of labels that came later.
        window: the answers of a window; with `every`, a period such as 1h, windows are of time instead.
        project: the folders of OF_PROJECT; without them held-out samples have no vectors.

    Raises:
        ValueError: an input is wrong, or there is no reference.
    """
    from tasks.machine.files import whole_folder, write_json
    from tasks.prediction.answer_log import FILES as LOG_FILES
    from tasks.prediction.answer_log import answer_files
    from tasks.watching.answered import read_files, read_vectors
    from tasks.watching.decision import decide
    from tasks.watching.earlier import Earlier, grounds_of, grounds_of_window
    from tasks.watching.labels import Accuracy, are_right, read_labels
    from tasks.watching.page import page
    from tasks.watching.record import Watched, record, unknown_classes
    from tasks.watching.windows import answers_before, by_count, by_time, seconds_of

    check_out(out)
    model, targets = described(bundle)
    files = answer_files(predictions)
    keys = [key_of(file, model) for file in files]
    answers = read_files(files)
    of_any_model = set(answers["sample_id"].dropna())
    is_other = answers["model"].notna() & (answers["model"] != model)
    answers = answers[~is_other]
    if answers.empty:
        raise ValueError(
            f"all {len(is_other):,} answers are of other models than {model[:12]}, which is in use: name its log, or "
            "the other model with --bundle and --reference"
        )
    without_time = 0
    earlier = Earlier.read(out / FILES[0])
    before = earlier.before.get(keys[0], {}) if files[0].match(LOG_FILES) else {}  # those of a log come in order
    if every is None:
        windows = list(by_count(answers, window, before=before))
    else:
        windows, without_time = by_time(answers, seconds_of(every))
        if not windows:
            raise ValueError("no answer has a time, which only those of `graftline serve` have: leave --every out")
    came = read_labels(labels, targets) if labels else {}
    known = read_reference(reference, evaluation, targets, model=model)
    if reference is None and (answers["unlike"].notna().any() or has_vectors(files, windows)):
        known = with_vectors(known, bundle, project)
    watched = []
    grounds = grounds_of(known, settings=[model, false_alarms])
    for this_window in windows:
        in_files = [keys[number] for number in this_window.files]
        look = partial(vectors_of, this_window, files=files, read=read_vectors)
        name = grounds_of_window(grounds, this_window.answers, in_files)
        decision = earlier.decisions.get(name) or decide(
            this_window, known, targets, false_alarms=false_alarms, vectors=look
        )  # fmt: skip
        right = {name: are_right(this_window.of(name), targets[name], series) for name, series in came.items()}
        accuracy = {name: Accuracy.of(hits) for name, hits in right.items() if len(hits)}
        watched.append(Watched(window=this_window, decision=decision, accuracy=accuracy, files=in_files, grounds=name))
    answered = set(answers["sample_id"].dropna())

    def num_labels(samples: set[str]) -> int:
        return sum(int(series.index.isin(samples).sum()) for series in came.values())

    num_labelled = sum(map(len, came.values()))
    counts = {
        "of_other_models": int(is_other.sum()),
        "without_time": without_time,
        "without_answer": sum(sum(this_window.reasons.values()) for this_window in windows),
        "repeated": sum(this_window.num_repeated for this_window in windows),
        "labels": num_labelled,
        "labels_of_other_models": num_labels(of_any_model - answered),
        "labels_never_answered": num_labelled - num_labels(of_any_model),
        "labels_of_unknown_classes": unknown_classes(came, targets),
    }
    in_order = dict(zip(keys, answers_before(answers, len(files), before=before), strict=True))
    result = record(watched, known, model=model, false_alarms=false_alarms, counts=counts, files=in_order)
    with whole_folder(out) as folder:
        write_json(folder / "watch.json", result)
        (folder / "watch.html").write_text(page(result, targets, known), "utf-8")
    return result


def key_of(file: Path, model: str) -> str:
    """Return a name that the answers of a model in a file have again, wherever the file lies."""
    return hashlib.sha256(f"{model} {file.stat().st_size} {file.name}".encode()).hexdigest()[:16]


def check_out(out: Path) -> None:
    """Raise ValueError where the folder has files that no watch writes: they would be lost."""
    others = sorted(path.name for path in out.iterdir() if path.name not in FILES) if out.is_dir() else []
    if others:
        raise ValueError(f"{out} has {others[0][:60]!r}, which the watch would replace: name a folder of its own")


def described(bundle: Path) -> tuple[str, dict[str, "Target"]]:
    """Return the SHA-256 of a bundle's weights, and its targets.

    Raises:
        ValueError: model.json is damaged.
    """
    from tasks.models.description import read_description
    from tasks.targets.kinds import targets_of

    file = bundle / "model.json"
    if not file.is_file():
        raise ValueError(f"{bundle} has no model.json: name the folder of a bundle")
    with file.open("rb") as content:
        description = read_description(content)
    return description.weights_sha256, targets_of(description.classes)


def read_reference(
    table: Path | None, evaluation: Path | None, targets: "Mapping[str, Target]", *, model: str
) -> "Reference":
    """Return the reference that a person names, or that of the project."""
    from tasks.watching.reference import held_out_answers, reference_of_table

    if table is not None:
        return reference_of_table(table)
    if evaluation is None:
        raise ValueError("there is no reference: name the folder of an --evaluation, or answers with --reference")
    return held_out_answers(evaluation, targets, model=model)


def has_vectors(files: Sequence[Path], windows: "Sequence[Window]") -> bool:
    """Return whether the newest answers have embeddings."""
    from tasks.watching.answered import read_vectors

    newest = next((window.answers.tail(1) for window in reversed(windows) if window.num_samples), None)
    return newest is not None and read_vectors(files, newest) is not None


def vectors_of(window: "Window", *, files: Sequence[Path], read: Any) -> "Vectors | None":
    """Return the vectors of the samples of a window, each once."""
    vectors: Vectors | None = read(files, window.answers.drop_duplicates("sample_id"))
    return vectors


def with_vectors(reference: "Reference", bundle: Path, project: "Mapping[str, Path | None]") -> "Reference":
    """Return the reference with the vectors that the model's first trunk gives to held-out samples.

    They also show which of these samples the bundle's detector marks as unlike, if it has one.

    The vectors lie in the stage's files or in the embedding store; samples that have none in either are embedded
    again. If there are many samples, those with the smallest hashes are taken.
    """
    paths = {name: path for name in OF_PROJECT if (path := project.get(name)) is not None}
    if len(paths) < len(OF_PROJECT):
        missing = next(name for name in OF_PROJECT if name not in paths)
        logger.warning("warning: embeddings and the column unlike are not compared: --%s is missing", missing)
        return reference
    from tasks.data.manifest.batches import read_batches
    from tasks.data.manifest.manifest import read_manifest
    from tasks.data.vectors.embeddings import read_embeddings
    from tasks.models.bundle import load_bundle
    from tasks.prediction.answers import Answerer
    from tasks.prediction.trunk_vectors import TrunkVectors
    from tasks.stage.modality import room
    from tasks.training.alignment.separation import MOST_SAMPLES

    batches = read_batches(paths["batches"])
    manifest = read_manifest(paths["manifests"], batches)
    wanted = sorted(reference.answers["sample_id"].unique())[:MOST_SAMPLES]
    is_wanted = manifest["sample_id"].isin(wanted).to_numpy()
    model, _ = load_bundle(bundle)
    modality = model.backbone.transform.modality
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    rows = manifest[is_wanted].reset_index(drop=True)
    vectors = TrunkVectors(
        answerer=Answerer(model), embeddings=read_embeddings(paths["embeddings"], batches, num_samples=len(manifest)),
        rows=rows, numbers=is_wanted.nonzero()[0], raw=paths["raw"], store=paths["store"], read=decode.read,
        decode=decode.decode_sample, hash_of=copy_hash.copy_hashes, hashes_shape=copy_hash.HASHES_SHAPE,
    )  # fmt: skip
    import numpy as np

    from tasks.prediction.unlike import find_unlike

    of_rows = vectors.of_trunk(0, np.arange(len(rows)))
    unlike = find_unlike(model.unlike, of_rows.astype(np.float16)).astype(float) if model.unlike else None
    return replace(reference, vectors=of_rows, unlike=unlike)


def main(arguments: Sequence[str] | None = None) -> None:
    options = vars(parser().parse_args(arguments))
    from tasks.stage.shell import errors_in_one_line, set_up

    set_up()
    with errors_in_one_line():
        result = watch(options.pop("predictions"), **options)
        for line in lines_of(result):
            logger.info("%s", line)


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """Return the findings in lines for a person: each window that drifted, and how many did not."""
    from tasks.watching.record import budget_in_words, in_no_window

    drifted = [
        f"window {number:,}{' from ' + one['begin'] if one['begin'] else ''}, {one['num_samples']:,} samples: "
        + one["words"]
        for number, one in enumerate(found["windows"], start=1)
        if one["is_drifted"]
    ]
    return [
        *drifted,
        *in_no_window(found["counts"]),
        f"{found['num_drifted']:,} of {found['num_judged']:,} windows drifted; "
        f"{found['num_windows'] - found['num_judged']:,} more have too few samples to be judged",
        budget_in_words(false_alarms=found["false_alarms"], num_judged=found["num_judged"]),
    ]


def parser() -> argparse.ArgumentParser:
    """Return the parser of this verb."""
    command = argparse.ArgumentParser(prog="python -m tasks.watch", description=__doc__)
    command.add_argument(
        "predictions", type=Path, nargs="+",
        help="files that `graftline predict` wrote, and folders of the log of `graftline serve`",
    )  # fmt: skip
    command.add_argument("--bundle", type=Path, required=True, help="the folder of the model that answered")
    command.add_argument("--out", type=Path, required=True, help="the folder of watch.json and watch.html")
    command.add_argument(
        "--evaluation", type=Path, help="the folder that evaluate wrote, with the answers to compare with"
    )
    command.add_argument("--reference", type=Path, help="answers to trusted samples to compare with, instead")
    command.add_argument(
        "--labels", type=Path, action="append", default=[],
        help="labels that came later: CSV or Parquet with sample_id and a column a target; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--window", type=whole(least=30), default=WINDOW, help="answers of a window; default: %(default)s"
    )
    command.add_argument(
        "--every", help="a period such as 1h or 1d: windows of time instead, by the time of each answer"
    )
    command.add_argument(
        "--false-alarms", type=SHARE, default=FALSE_ALARMS,
        help="the share of windows without a drift that may raise an alarm; default: %(default)s",
    )  # fmt: skip
    for name in OF_PROJECT:
        command.add_argument(
            f"--{name}", type=Path, help="of the project, by which the held-out samples have embeddings"
        )
    return command


if __name__ == "__main__":
    main()
