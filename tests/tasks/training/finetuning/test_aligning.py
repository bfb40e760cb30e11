"""Which domains a fine-tuning aligns to, and what it says where there are none."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.stage.params import load_params
from tasks.training.finetuning.aligning import domains_to_align, samples_of

OPTIONS = load_params(Path(__file__).parents[4] / "params.yaml").finetune


def manifest(**counts):
    """Return rows of domains: {domain: (num_train, num_val, num_pool)}, each in a batch named after it."""
    rows = [
        {"batch": f"of_{domain}", "path": f"{split}{number}", "domain": domain, "split": split}
        for domain, nums in counts.items()
        for split, num in zip(("train", "val", "pool"), nums, strict=True)
        for number in range(num)
    ]
    return pd.DataFrame(rows)


PHOTO_AND_CARTOON = manifest(photo=(30, 5, 0), cartoon=(4, 2, 30))


def asked(rows, *, targets, **changes):
    return domains_to_align(rows, replace(OPTIONS, **{"align": "mmd", "align_to": targets} | changes))


def test_nothing_is_aligned_unless_asked_for():
    assert asked(PHOTO_AND_CARTOON, targets=["cartoon"], align="never") == []


def test_named_domains_are_aligned_and_auto_takes_those_without_labels(caplog):
    caplog.set_level("INFO")
    assert asked(PHOTO_AND_CARTOON, targets=["cartoon"]) == ["cartoon"]
    assert asked(PHOTO_AND_CARTOON, targets="auto") == ["cartoon"]
    assert (
        "aligns the features of cartoon (34 samples, without labels) by mmd; val has few of its labels" in caplog.text
    )


def test_domain_is_the_batch_where_none_is_given():
    rows = PHOTO_AND_CARTOON.assign(domain=None)
    assert asked(rows, targets="auto") == ["of_cartoon"]
    assert asked(rows.drop(columns="domain"), targets=["of_cartoon"]) == ["of_cartoon"]


def test_samples_of_val_are_not_aligned():
    rows = samples_of(PHOTO_AND_CARTOON, ["cartoon"])
    assert PHOTO_AND_CARTOON.iloc[rows]["split"].value_counts().to_dict() == {"pool": 30, "train": 4}
    assert set(PHOTO_AND_CARTOON.iloc[rows]["domain"]) == {"cartoon"}


@pytest.mark.parametrize(
    ("rows", "targets", "reason"),
    [
        (manifest(photo=(30, 5, 0)), "auto", "no domain is mostly unlabelled"),
        (manifest(photo=(30, 5, 0), cartoon=(1, 0, 6)), ["cartoon"], "expected at least 20 samples, cartoon has 7"),
        (manifest(cartoon=(4, 2, 30)), "auto", "train has no labelled sample outside of cartoon"),
    ],
)
def test_fine_tuning_goes_on_without_where_there_is_no_domain_to_align_to(caplog, rows, targets, reason):
    assert asked(rows, targets=targets) == []
    line = f"finetune.align is mmd, but there is no domain to align to: {reason}; fine-tuning goes on without"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [line]


@pytest.mark.parametrize(
    ("targets", "changes", "message"),
    [
        ([], {}, "finetune.align is mmd, but finetune.align_to names no domain: name one there, or set"),
        (["sketch"], {}, "names the domain sketch, of which .* no sample, expected some of cartoon, photo: correct"),
        (["cartoon"], {"mixup": 0.3}, "finetune.align is mmd, but finetune.mixup is 0.3, .*: set it to 0"),
    ],
)
def test_what_cannot_be_aligned_is_refused(targets, changes, message):
    with pytest.raises(ValueError, match=message):
        asked(PHOTO_AND_CARTOON, targets=targets, **changes)
