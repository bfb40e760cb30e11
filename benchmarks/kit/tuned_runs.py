"""The fine-tunings of `benchmarks.transfer`, kept with the answers of every candidate on the way.

The logits of val and of the held-out images are kept for the head alone, the weights at 1/4, 1/2 and 3/4 of the way,
and the fine-tuned model. So `transfer` and `candidate` share the trainings, and a rule can be asked about them later.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.kit.labelled import HELDOUT, Labelled
from benchmarks.kit.machine import peak_bytes
from benchmarks.kit.methods import TARGET, Draw, Recipe, Task, finetuned_path
from tasks.machine.cores import one_thread_each
from tasks.machine.files import whole_file
from tasks.targets.classes import Classes, likeliest
from tasks.training.finetuning.do_no_harm import Candidates, Judged, judge
from tasks.training.finetuning.path import FINETUNED, HEAD, SHARES
from tasks.training.loop.fit import Epoch, History
from tasks.training.loop.scores import Scores, Total

Run = dict[str, Any]  # logits (n, num_classes) as `val_SHARE` and `held_SHARE`, labels, and facts of the training
FACTS = ("num_train", "epochs", "epoch", "processor_seconds", "peak_bytes", "own_bytes")
NOTHING = Scores(loss=0.0, accuracy=0.0)


def file_of(kept: Path, *, data: str, fraction: float, seed: int, recipe: Recipe) -> Path:
    """Return the file that keeps a run."""
    return kept / f"{data}-{fraction:g}-{seed}-{recipe.digest()}.npz"


def keep_run(folder: Path, *, fraction: float, seed: int, recipe: Recipe, out: Path) -> None:
    """Fine-tune on one core, in a process that does nothing else, and write the run.

    Its processor_seconds and peak_bytes are those of the training; own_bytes leaves out the memory of the imports.

    Args:
        folder: the folder of a `Labelled`.
    """
    with one_thread_each(), threadpool_limits(1):
        imported = peak_bytes()
        torch.manual_seed(seed)
        labelled = Labelled.open(folder)
        task = Task(labelled=labelled, draw=Draw.of(labelled, fraction, seed), recipe=recipe, seed=seed)
        path = finetuned_path(task)
        peak, history = peak_bytes(), path.tuned.history
        run: Run = {
            "num_train": len(task.draw.train), "epochs": len(history.epochs) - 1, "epoch": history.kept,
            "processor_seconds": path.seconds, "peak_bytes": peak, "own_bytes": peak - imported,
        }  # fmt: skip
        for side, rows in {"val": task.draw.val, "held": np.flatnonzero(labelled.sides == HELDOUT)}.items():
            run[f"{side}_labels"] = labelled.labels[rows]
            run |= {f"{side}_{share:g}": path.logits(share, rows) for share in SHARES}
    with whole_file(out) as file, file.open("wb") as opened:
        np.savez(opened, **run)


def read_run(file: Path) -> Run:
    with np.load(file) as arrays:
        return dict(arrays)


def candidates(run: Run) -> Candidates:
    """Return the results of each candidate on val; of the head alone if no epoch was kept."""
    shares = SHARES if run["epoch"] else (HEAD,)
    return {share: judged(run[f"val_{share:g}"], run["val_labels"]) for share in shares}


def judged(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Judged:
    target = Classes(tuple(map(str, range(logits.shape[1]))))
    total = Total([target])
    total.add([torch.from_numpy(logits)], torch.from_numpy(labels).float()[:, None])
    return Judged.of(total, {TARGET: target})[TARGET]


def chosen(path: Candidates, significance: float) -> float:
    """Return the share of the way that the project ships."""
    history = History(
        epochs=[Epoch(epoch=number, train=None, val=NOTHING, val_calibrated_loss=0.0) for number in (0, 1)]
    )
    history.kept = len(path) - 1
    return judge({TARGET: path}, history=history, significance=significance)[TARGET].share


def accuracy(run: Run, share: float) -> float:
    """Return the held-out accuracy, 0..1, of the weights at a share of the way."""
    return float((likeliest(run[f"held_{share:g}"]) == run["held_labels"]).mean())


def row_of(run: Run, *, significance: float) -> dict[str, Any]:
    """Return the facts of a run, and the held-out accuracy of the shipped and of the fine-tuned model."""
    share = chosen(candidates(run), significance)
    facts = {name: run[name].item() for name in FACTS}
    return facts | {
        "num_val": len(run["val_labels"]), "share": share, "is_tuned": share > HEAD,
        "accuracy": accuracy(run, share), "raw_accuracy": accuracy(run, FINETUNED),
    }  # fmt: skip
