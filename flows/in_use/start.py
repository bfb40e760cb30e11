"""Records the model from which the training of a new batch goes on: the one in use when the batch lands.

The stage `finetune` depends on that record and not on the model in use. So a promotion by itself retrains nothing, and
a fresh clone of the same commit starts from the same model.
"""

import shutil
from collections.abc import Callable

import yaml

from flows.in_use.log import read_log
from flows.in_use.place import as_json, is_at, recorded
from flows.workspace import paths
from flows.workspace.parameters import training_start
from tasks.machine.files import remove, whole_folder, write_whole

Log = Callable[[str], None]


def record_start(log: Log) -> None:
    """Record the model in use, if there is one and params.yaml has trainings start from it.

    Its bundle is copied beside it. Where it is not here, `dvc pull` brings it, because it is the one that a promotion
    gave to DVC.

    Raises:
        ValueError: the record of the model in use is damaged, or lacks its DVC file.
    """
    hashes = recorded() if training_start() == "in_use" else None
    if hashes is None:
        return
    pointer = paths.baseline_pointer()
    try:
        [out] = yaml.safe_load(pointer.read_text("utf-8"))["outs"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise ValueError(f"{pointer} is missing or damaged: restore it with git") from None
    bundle = paths.start()
    remove(bundle)
    if is_at(paths.baseline(), hashes):
        with whole_folder(bundle) as folder:
            shutil.copytree(paths.baseline(), folder, dirs_exist_ok=True)
    write_whole(
        paths.start_pointer(), yaml.safe_dump({"outs": [out | {"path": bundle.name}]}, sort_keys=False).encode()
    )
    entries = [entry for entry in read_log() if all(entry.get(key) == digest for key, digest in hashes.items())]
    metrics = entries[-1].get("metrics") if entries else None
    write_whole(paths.start_record(), as_json(hashes | ({"metrics": metrics} if metrics else {})))
    log(f"training will go on from the model in use, {hashes['model_sha256'][:12]}")
