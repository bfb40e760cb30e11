import ast
import functools
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml

from tasks.machine.sources import DECLARATIONS
from tasks.stage.params import load_params, section

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "params.yaml"


@pytest.fixture
def refusal(tmp_path):
    """The message for the shipped params.yaml with `change` applied to its sections."""

    def refuse(change):
        content = yaml.safe_load(SHIPPED.read_text("utf-8"))
        change(content)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
            load_params(path)
        message = str(refused.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    return refuse


def test_shipped_params_load():
    params = load_params(SHIPPED)
    assert section(params, "validate").salt == "graftline"
    assert section(params, "seed") == 0


def test_misspelt_key_is_named_with_the_keys_of_its_section(refusal):
    message = refusal(lambda content: content["scan"].update(min_imge_size=8))
    assert message.startswith("scan.min_imge_size is unknown, expected one of min_image_size, max_image_pixels")


def test_misspelt_key_is_named_in_the_section_whose_name_python_cannot_use(refusal):
    message = refusal(lambda content: content["validate"].update(split_slat="x"))
    assert message.startswith(
        "validate.split_slat is unknown, "
        "expected one of targets, classes, merge, min_samples_per_class, split_salt, val_fraction"
    )


def test_missing_key_is_named(refusal):
    message = refusal(lambda content: content["finetune"].pop("epochs"))
    assert message == "finetune.epochs is missing: add it"


def test_unknown_section_is_named_with_the_known_ones(refusal):
    message = refusal(lambda content: content.update(fintune={"epochs": 3}))
    assert message.startswith("fintune is unknown, expected one of preset, modality, seed, scan, validate, backbone")


def test_missing_section_is_named(refusal):
    assert refusal(lambda content: content.pop("embed")) == "embed is missing: add it"


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n"])
def test_empty_file_is_refused_with_the_sections_it_should_have(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, "utf-8")
    with pytest.raises(
        ValueError, match=r"params\.yaml is empty, expected sections: preset, modality, seed, scan, validate"
    ) as refused:
        load_params(tmp_path / "params.yaml")
    assert "NoneType" not in str(refused.value)


def test_empty_section_is_refused_with_the_keys_it_should_have(refusal):
    message = refusal(lambda content: content.update(audit=None))
    assert (
        message
        == "audit is empty, expected the keys recall, max_false_alarms, max_cut, max_unknown, max_suspects, min_new, "
        "min_drift, significance: restore them with git"
    )


def test_key_that_is_given_twice_is_refused_by_name(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 0\nseed: 1\n", "utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml gives the key 'seed' twice"):
        load_params(tmp_path / "params.yaml")


def test_label_that_would_be_merged_twice_is_refused(refusal):
    message = refusal(lambda content: content["validate"].update(merge={"label": {"a": "b", "b": "c"}}))
    assert message == "validate: merge sends 'a' of label to 'b', and 'b' to 'c': send 'a' to 'c'"


def test_section_that_holds_a_number_is_refused_by_name(refusal):
    message = refusal(lambda content: content.update(embed=64))
    assert message.startswith("embed is 64, expected a valid dictionary")


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("validate.val_fraction", 1.5, "expected less than 1"),
        ("validate.max_quarantined.overall", -0.1, "expected greater than or equal to 0"),
        ("validate.max_quarantined.class", 1.5, "expected less than or equal to 1"),
        ("validate.expectations.min_samples.severity", "fatal", "expected 'error' or 'warning'"),
        ("validate.expectations.max_label_drift.limit", "some", "expected a valid number"),
        ("validate.classes", ["cat"], "expected a valid dictionary"),
        ("scan.min_image_size", 0, "expected greater than or equal to 1"),
        ("scan.min_image_size", "8", "expected a valid integer"),
        ("scan.min_image_size", 8.5, "expected a valid integer"),
        ("finetune.head_learning_rate", 0, "expected greater than 0"),
        ("finetune.weight_decay", float("nan"), "expected"),
        ("finetune.flip", "no way", "expected a valid boolean"),
        ("finetune.unfreeze", "some", "expected 'all'"),
        ("finetune.unfreeze", -1, "expected greater than or equal to 0"),
        ("backbone.architecture", 18, "expected a valid string"),
        ("backbone.features", 3, "expected 'penultimate' or 'pooled'"),
        ("backbone.image_size", 0, "expected greater than or equal to 8"),
        ("train_head.l2_strengths", [], "at least 1 item"),
        ("evaluate.minibatch_size", 0, "expected greater than or equal to 1"),
        ("evaluate.minibatch_size", 65537, "expected less than or equal to 65536"),
        ("evaluate.confidence", 95, "expected less than 1"),
    ],
)
def test_impossible_value_is_named_with_what_was_expected(refusal, place, value, expected):
    *sections, key = place.split(".")
    message = refusal(lambda content: functools.reduce(dict.__getitem__, sections, content).update({key: value}))
    assert f"{place} is {value!r}, " in message
    assert expected in message


def test_value_of_a_list_is_named_by_its_position(refusal):
    message = refusal(lambda content: content["train_head"].update(l2_strengths=[0.1, -1.0]))
    assert message == "train_head.l2_strengths.1 is -1.0, expected greater than 0"


@pytest.mark.parametrize(("name", "value", "bound"), [("power", 0.005, "0.01"), ("image_size", 2048, "1024")])
def test_backbone_that_no_bundle_can_describe_is_refused_before_it_is_built(refusal, name, value, bound):
    message = refusal(lambda content: content["backbone"].update({name: value}))
    assert f"backbone.{name} is {value}" in message
    assert bound in message


def test_fractions_that_leave_nothing_to_train_on_are_refused(refusal):
    message = refusal(lambda content: content["validate"].update(val_fraction=0.5, heldout_fraction=0.5))
    assert message == (
        "validate: val_fraction + heldout_fraction must be below 1, so that samples are left to train on"
    )


def test_every_wrong_key_is_named_at_once(refusal):
    def change(content):
        content["scan"]["min_image_size"] = 0
        content["embed"].pop("minibatch_size")

    message = refusal(change)
    assert "scan.min_image_size" in message
    assert "embed.minibatch_size" in message


def test_missing_file_is_named_with_where_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*params\.yaml: run from the root of the repository"):
        load_params(tmp_path / "params.yaml")


def test_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: [0", "utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml is not YAML") as refused:
        load_params(path)
    assert "\n" not in str(refused.value)


def test_loaded_params_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        load_params(SHIPPED).scan.min_image_size = 1


def test_minibatches_of_evaluate_may_be_left_open(tmp_path):
    content = yaml.safe_load(SHIPPED.read_text("utf-8"))
    for size in (None, 64):
        content["evaluate"]["minibatch_size"] = size
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        assert load_params(path).evaluate.minibatch_size == size


def test_params_import_no_code_that_computes():
    code = "import sys, tasks.stage.params; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    modules = set(done.stdout.split())
    assert "tasks.training.finetuning.options" in modules
    assert modules.isdisjoint({"numpy", "pandas", "scipy", "torch", "PIL"})


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob(DECLARATIONS)), ids=lambda path: path.parent.name)
def test_options_declare_and_have_no_defaults(path):
    """Neither DVC nor a recipe watches them: no result depends on them."""
    docstring, *statements = ast.parse(path.read_bytes()).body
    assert isinstance(docstring, ast.Expr)
    classes = [statement for statement in statements if isinstance(statement, ast.ClassDef)]
    others = [statement for statement in statements if statement not in classes]
    assert all(isinstance(other, ast.Import | ast.ImportFrom | ast.Assign) for other in others)
    assert all(ast.unparse(other.value).startswith("Literal[") for other in others if isinstance(other, ast.Assign))
    for statement in (statement for each in classes for statement in each.body):
        is_field = isinstance(statement, ast.AnnAssign) and statement.value is None
        is_check = isinstance(statement, ast.FunctionDef) and statement.name == "__post_init__"
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        assert is_field or is_check or is_docstring, ast.unparse(statement)
