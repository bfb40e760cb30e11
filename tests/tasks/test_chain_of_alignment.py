"""Fine-tuning aligned to a domain without labels, from raw files on."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image

from tasks.stage.params import load_params
from tests.kit.chain import FEW_FEATURES, ROOT, Chain

NUM, NUM_DARK = 240, 60


def write_digits(folder):
    """Write pictures of digits and labels.csv; the last of them are dark and have no label."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True)
    rows = []
    for place, (picture, number) in enumerate(zip(digits.images[:NUM], digits.target, strict=False)):
        is_dark = place >= NUM - NUM_DARK
        scan = (picture * (5 if is_dark else 15.9)).astype(np.uint8)
        Image.fromarray(scan).resize((16, 16)).save(folder / f"{place:03d}.png")
        label, domain = ("", "dark") if is_dark else (f"digit {number}", "bright")
        rows.append({"path": f"{place:03d}.png", "label": label, "domain": domain})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


def test_candidate_is_aligned_to_the_unlabelled_domain(tmp_path, great_expectations, caplog):
    caplog.set_level("INFO")
    params = load_params(ROOT / "params.yaml")
    chain = Chain(
        tmp_path, validate_=replace(params.validate_, min_samples_per_class=5),
        backbone=replace(params.backbone, **FEW_FEATURES),
        finetune=replace(params.finetune, epochs=2, num_views=1, align="coral", align_to="auto"),
    )  # fmt: skip
    write_digits(chain.data / "raw/first")
    chain.do("scan", "validate", "backbone", "embed", "audit", "train_head", "finetune")
    lineage = json.loads((chain.data / "trained/model.json").read_text("utf-8"))["lineage"]
    assert lineage["aligned_to"] == ["dark"]
    assert f"aligns the features of dark ({NUM_DARK} samples, without labels) by coral" in caplog.text
