"""Weights of a stranger: what is no plain number is refused by name, and what was never trained is said."""

import logging

import pytest
import torch

from tasks.models.architecture import build_network
from tasks.models.weights import load_backbone

ARCHITECTURE = "shufflenet_v2_x0_5"
LAYER = "conv1.0.weight"
KINDS = {
    "has numbers that are not finite": lambda layer: layer * torch.nan,
    "has numbers that are not finite in float32": lambda layer: layer.double() + 1e300,
    "is of type complex64": lambda layer: layer.to(torch.complex64),
    "is of type int8": lambda layer: layer.to(torch.int8),
    "is of type float8_e4m3fn": lambda layer: layer.to(torch.float8_e4m3fn),
    "is sparse": lambda layer: layer.to_sparse(),
    "has no values: it was saved from the device meta": lambda layer: layer.to("meta"),
}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build_network(ARCHITECTURE).state_dict()


@pytest.fixture
def load(state, tmp_path):
    """Load the weights with a few other tensors."""

    def load_with(**changed):
        torch.save(state | changed, tmp_path / "weights.pth")
        return load_backbone(ARCHITECTURE, weights=str(tmp_path / "weights.pth"), image_size=32)

    return load_with


@pytest.mark.parametrize("problem", KINDS)
def test_tensor_that_holds_no_plain_numbers_is_refused_by_name(state, load, problem):
    with pytest.raises(ValueError, match=f"weights.pth do not fit: {LAYER} {problem}"):
        load(**{LAYER: KINDS[problem](state[LAYER])})


def test_quantised_tensor_is_refused_by_name(state, load):
    with pytest.warns(UserWarning, match="deprecated"):
        quantised = torch.quantize_per_tensor(state[LAYER], 0.1, 0, torch.qint8)
    with pytest.raises(ValueError, match=rf"{LAYER} is quantised \(qint8\), expected float32"):
        load(**{LAYER: quantised})


def test_weights_of_half_precision_are_read(state, load):
    halves = {name: tensor.half() for name, tensor in state.items() if tensor.is_floating_point()}
    assert load(**halves).dim


def test_weights_that_were_never_trained_are_warned_about(state, load, caplog):
    with caplog.at_level(logging.WARNING, logger="graftline"):
        load()
        assert "weights.pth seem untrained: every running mean" in caplog.text
        caplog.clear()
        load(**{"conv1.1.running_mean": state["conv1.1.running_mean"] + 0.1})
    assert caplog.text == ""


def test_refusal_of_a_pickle_says_what_it_holds_and_not_how_to_run_it(load):
    with pytest.raises(ValueError, match=r"is not a plain state dict \(it holds print, which is code\)") as said:
        load(more=Order())
    assert "weights_only" not in str(said.value)


class Order:
    def __reduce__(self):
        return print, ("run",)
