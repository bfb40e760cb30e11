"""The backbone that params.yaml names in; a bundle of its weights, in one format and without targets, out."""

import logging
from pathlib import Path

from tasks.machine.files import whole_folder
from tasks.models.bundle import save_bundle, versions
from tasks.models.classifier import Classifier
from tasks.models.options import BackboneOptions
from tasks.models.weights import load_backbone
from tasks.stage.main import main

logger = logging.getLogger("graftline")


def run(*, out: Path, backbone: BackboneOptions) -> None:
    """Find or fetch the pretrained weights, so that no later stage needs the network."""
    pretrained = load_backbone(**vars(backbone))
    fingerprint = pretrained.fingerprint()
    with whole_folder(out) as folder:
        save_bundle(folder, Classifier(pretrained, {}), lineage={"fingerprint": fingerprint, "versions": versions()})
    logger.info("backbone %s: %d features, fingerprint %s", backbone.architecture, pretrained.dim, fingerprint[:12])


if __name__ == "__main__":
    main(run)
