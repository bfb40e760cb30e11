"""The paths of this workspace's artifacts, read from its dvc.yaml.

Each function reads the dvc.yaml of the current directory when it is called: an `--option` of a stage's command, or the
entry of the model in use. A file that no stage knows lies beside one that a stage knows.
"""

import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from flows.workspace.redaction import in_a_line

PIPELINE = Path("dvc.yaml")
ARTIFACT = "classifier"  # dvc.yaml's name for the model in use
ADVICE = f"mend it (`git diff {PIPELINE}` shows the changes), or restore it with git"


def raw() -> Path:
    """Return the folder of the raw batches: a folder or a Parquet file each."""
    return _option("scan", "raw").parent  # the stage has a batch of it


def batches() -> Path:
    """Return the list of batches, which is the version of the dataset."""
    files = [entry for entry in _pipeline().get("vars") or [] if isinstance(entry, str)]
    if not files:
        raise ValueError(f"{PIPELINE} has no file under `vars`, expected the list of batches: {ADVICE}")
    return Path(files[0])


def class_registry() -> Path:
    """Return the file with the classes of the model in use."""
    return _option("validate", "registry")


def validation() -> Path:
    """Return the file with the counts of samples that are used, waiting and quarantined."""
    return _option("validate", "out") / "validation.json"


def health() -> Path:
    """Return the file with the audit's report about the data."""
    return _option("audit", "health") / "health.json"


def candidate() -> Path:
    """Return the folder of the bundle that the last run trained, and adapted to other domains where it was asked to."""
    return _option("adapt", "out")


def adaptation() -> Path:
    """Return the folder with the facts of the domains that the candidate is adapted to."""
    return _option("adapt", "facts")


def evaluation() -> Path:
    """Return the folder of predictions and metrics."""
    return _option("evaluate", "out")


def metrics() -> Path:
    """Return the file with the metrics of candidate, head and baseline."""
    return evaluation() / "metrics.json"


def verdict() -> Path:
    """Return the file with the gate's verdict on the candidate."""
    return _option("regression", "out") / "verdict.json"


def decisions() -> Path:
    """Return the list of the candidates that were judged on one held-out set."""
    return _option("regression", "decisions")


def anchor() -> Path:
    """Return the errors of the best model that was in use."""
    return _option("regression", "anchor")


def report() -> Path:
    """Return the report page."""
    return _option("report", "out")


def choice() -> Path:
    """Return the folder of the last ranking of backbones."""
    return batches().with_name("choice")


def choosing() -> list[str]:
    """Return the arguments of `tasks.choose` but `--out`."""
    return _words(
        manifests=_option("train_head", "manifests"), classes=_option("train_head", "classes"), batches=batches(),
        raw=raw(), store=_option("embed", "store"),
    )  # fmt: skip


def corrections() -> Path:
    """Return the file of people's corrections."""
    return _option("validate", "corrections")


def to_label() -> Path:
    """Return the folder of the samples that were last chosen to be labelled next."""
    return batches().with_name("label")


def labelling() -> list[str]:
    """Return the arguments of `tasks.label` but `--model` and `--out`."""
    return _words(
        manifests=_option("train_head", "manifests"), classes=_option("train_head", "classes"), batches=batches(),
        embeddings=_option("train_head", "embeddings"), raw=raw(), store=_option("embed", "store"),
        corrections=corrections(),
    )  # fmt: skip


def correcting() -> list[str]:
    """Return the arguments of `tasks.correct` but `--labels` and `--who`."""
    return _words(validated=_option("validate", "out"), batches=batches(), corrections=corrections())


def reviewing() -> list[str]:
    """Return the paths that `tasks.review` reads and writes, as arguments."""
    return _words(
        validated=_option("validate", "out"), audit=_option("audit", "out"), health=health().parent,
        evaluation=evaluation(), chosen=to_label(), batches=batches(), raw=raw(), baseline_record=baseline_record(),
        corrections=corrections(),
    )  # fmt: skip


def watched() -> Path:
    """Return the folder of the last watch's findings."""
    return batches().with_name("watch")


def watching() -> list[str]:
    """Return the arguments of `tasks.watch` that lead to the reference: held-out answers and vectors."""
    options = {
        "evaluation": evaluation(), "manifests": _option("train_head", "manifests"), "batches": batches(),
        "embeddings": _option("train_head", "embeddings"), "raw": raw(), "store": _option("embed", "store"),
    }  # fmt: skip
    return [word for name, path in options.items() for word in (f"--{name}", str(path))]


def churn() -> Path:
    """Return the file with the share of answers that retraining alone changes."""
    return batches().with_name("churn.json")


def start_record() -> Path:
    """Return the file with the digests of the model that a training goes on from, which `finetune` depends on."""
    return _option("finetune", "start-record")


def start() -> Path:
    """Return the folder of that model."""
    return _option("finetune", "start")


def start_pointer() -> Path:
    """Return the file by which git keeps DVC's hash of that model."""
    return start().with_name(f"{start().name}.dvc")


def baseline() -> Path:
    """Return the folder of the model in use."""
    try:
        return Path(_pipeline()["artifacts"][ARTIFACT]["path"])
    except (KeyError, TypeError):
        raise ValueError(f"{PIPELINE} has no path under `artifacts`, `{ARTIFACT}`: {ADVICE}") from None


def baseline_pointer() -> Path:
    """Return the file by which git keeps DVC's hash of the model in use."""
    return baseline().with_name(f"{baseline().name}.dvc")


def baseline_record() -> Path:
    """Return the file with the digests of the model in use, which `evaluate` depends on."""
    return _option("evaluate", "baseline-record")


def promotions() -> Path:
    """Return the log of promotions and rollbacks."""
    return baseline().with_name("promotions.jsonl")


def promotion() -> Path:
    """Return the folder of a promotion that is under way. It is on the disk of the model in use."""
    return baseline().with_name(".promotion")


def stages(file: Path = PIPELINE) -> list[str]:
    """Return the names of the stages, in the order of dvc.yaml."""
    return list(_pipeline(file)["stages"])


def inputs(stage: str) -> list[str]:
    """Return the arguments of a stage's command without its `--out`. Raises KeyError where there is no such stage."""
    words = shlex.split(_pipeline()["stages"][stage]["cmd"])
    pairs = [words[place : place + 2] for place, word in enumerate(words) if word.startswith("--") and word != "--out"]
    return [word for pair in pairs for word in pair]


def _words(**options: Path) -> list[str]:
    """Return options as words of a command."""
    return [word for name, path in options.items() for word in (f"--{name.replace('_', '-')}", str(path))]


def _option(stage: str, name: str) -> Path:
    """Return the path that the stage's command has for `--name`.

    Raises:
        ValueError: dvc.yaml has no such stage, or its command no such option.
    """
    declared = _pipeline()["stages"]
    try:
        words = shlex.split(declared[stage]["cmd"])
        return Path(words[words.index(f"--{name}") + 1])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise ValueError(f"{PIPELINE} has no stage {stage} whose command has --{name}: {ADVICE}") from None


def _pipeline(file: Path = PIPELINE) -> dict[str, Any]:
    """Return the content of dvc.yaml.

    Raises:
        FileNotFoundError: the current directory has none.
        ValueError: it is not YAML, or has no stages.
    """
    try:
        status = file.stat()
        return _read(file.absolute(), status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {file} in {Path.cwd()}: run from the root of the repository") from None


@lru_cache(maxsize=4)
def _read(file: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    """Parse the file; time and size are here so that a file that changed is parsed again."""
    try:
        content = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file.name} is not YAML: {in_a_line(error)}: {ADVICE}") from None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise ValueError(f"{file.name} has no `stages`: {ADVICE}")
    return content
