import json
import os
import re
import time

import pytest
import torch
from safetensors.torch import save_file

from tasks.training.finetuning.checkpoint import STALE_DAYS, Checkpoint

RECIPE = {"backbone": "abc", "params": {"epochs": 3}, "seed": 0}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(7)}
FACTS = {"epochs": [0.1, None], "kept": 2}


@pytest.fixture
def saved(tmp_path):
    checkpoint = Checkpoint(tmp_path / "deep" / "checkpoints", recipe=RECIPE)
    checkpoint.save(TENSORS, facts=FACTS)
    return checkpoint


def another(saved, **changes):
    return Checkpoint(saved.path.parent, recipe=RECIPE | changes)


def test_what_was_kept_comes_back_to_the_bit(saved):
    tensors, facts = another(saved).load()
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )


def test_numbers_of_facts_come_back_to_the_bit(saved):
    loss = 0.1 + 0.2
    saved.save(TENSORS, facts={"loss": loss})
    assert saved.load()[1]["loss"] == loss


def test_weights_that_lie_channels_last_and_are_trained_are_kept_by_their_numbers(saved):
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    saved.save({"weight": weight}, facts={})
    assert torch.equal(saved.load()[0]["weight"], weight)


def test_nothing_was_kept_of_another_recipe(saved):
    assert another(saved, seed=1).load() is None
    assert another(saved, params={"epochs": 4}).load() is None


def test_order_of_a_recipe_does_not_matter(saved):
    assert Checkpoint(saved.path.parent, recipe=dict(reversed(RECIPE.items()))).load() is not None


def test_later_epoch_takes_the_place_of_the_one_before(saved):
    saved.save(TENSORS, facts={"kept": 3})
    assert saved.load()[1] == {"kept": 3}
    assert len(list(saved.path.parent.iterdir())) == 1


def test_checkpoint_of_another_recipe_in_this_ones_place_is_refused_with_what_differs(saved):
    other = another(saved, params={"epochs": 4})
    saved.path.rename(other.path)
    expected = (
        f"{other.path} is a checkpoint of another recipe "
        '(params is {"epochs": 3}, expected {"epochs": 4}): remove it to train anew'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        other.load()


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_torn_checkpoint_is_refused_by_name(saved, length):
    saved.path.write_bytes(saved.path.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{saved.path} is not a whole checkpoint \(.*\): remove it to train anew"):
        saved.load()


def test_file_of_something_else_is_refused_by_name(saved):
    for metadata in (None, {"recipe": json.dumps(RECIPE)}, {"recipe": saved.recipe, "facts": "{"}):
        save_file(TENSORS, saved.path, metadata=metadata)
        with pytest.raises(ValueError, match=rf"{saved.path} is not a whole checkpoint"):
            saved.load()


def test_own_checkpoint_goes_when_a_training_has_ended_well_and_those_of_other_runs_stay(saved):
    other = another(saved, seed=1)
    other.save(TENSORS, facts={})
    half = saved.path.with_name(f".{'0' * 64}.safetensors.part")
    half.write_bytes(b"half")
    saved.remove()
    assert set(saved.path.parent.iterdir()) == {other.path, half}


def test_checkpoints_that_nobody_went_on_from_go_too_and_halves_that_a_kill_left(saved):
    other = another(saved, seed=1)
    other.save(TENSORS, facts={})
    half = saved.path.with_name(f".{'0' * 64}.safetensors.part")
    half.write_bytes(b"half")
    note = saved.path.with_name("note.txt")
    note.write_text("a stranger's", "utf-8")
    long_ago = time.time() - (STALE_DAYS + 1) * 24 * 3600
    for path in (other.path, half, note):
        os.utime(path, (long_ago, long_ago))
    saved.remove()
    assert list(saved.path.parent.iterdir()) == [note]


def test_training_that_kept_nothing_has_nothing_to_remove(tmp_path):
    Checkpoint(tmp_path / "nowhere", recipe=RECIPE).remove()
    assert not (tmp_path / "nowhere").exists()
