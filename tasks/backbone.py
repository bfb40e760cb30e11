"""The backbone that params.yaml names in; a bundle of its weights, in one format and without targets, out."""

import logging
from pathlib import Path

from tasks.machine.files import whole_folder
from tasks.models.bundle import save_bundle, versions
from tasks.models.classifier import Classifier
from tasks.models.options import BackboneOptions
from tasks.models.weights import load_pretrained
from tasks.stage.main import main
from tasks.stage.modality import Modality

logger = logging.getLogger("graftline")


def run(*, out: Path, backbone: BackboneOptions, modality: Modality) -> None:
    """Find or fetch the pretrained weights, so that no later stage needs the network."""
    pretrained = load_pretrained(backbone, modality=modality)
    fingerprint = pretrained.fingerprint()
    with whole_folder(out) as folder:
        lineage = {"fingerprint": fingerprint, "versions": versions(pretrained)}
        save_bundle(folder, Classifier(pretrained, {}), lineage=lineage)
    logger.info("backbone %s: %d features, fingerprint %s", pretrained.architecture, pretrained.dim, fingerprint[:12])


if __name__ == "__main__":
    main(run)
