"""The code of all verbs in; a digest a verb out, of all code that its results depend on.

A stage depends on the digest of its verb. So a change of a module reruns the stages that use it, and no other.
"""

import logging
from pathlib import Path

from tasks.machine.files import whole_folder
from tasks.machine.sources import digest, imported_by
from tasks.stage.main import main
from tasks.stage.modality import Modality

logger = logging.getLogger("graftline")


def run(*, code: Path, tests: Path, out: Path, modality: Modality) -> None:
    """Write a file a verb with its digest. The file `tests` has that of the code which the tests of the gate import."""
    verbs = sorted(file.stem for file in code.glob("*.py") if file.stem.isidentifier() and file.stem[:2] != "__")
    modules = {verb: [f"{code.name}.{verb}"] for verb in verbs} | {"tests": imported_by(tests)}
    with whole_folder(out) as folder:
        for name, own in modules.items():
            own_digest = digest(*own, modalities=[modality], root=code.absolute().parent)
            (folder / name).write_text(f"{own_digest}\n", "utf-8")
    logger.info("followed the imports of %d verbs", len(verbs))


if __name__ == "__main__":
    main(run)
