"""Fill a module with the tensors of a stranger; refuse those that do not fit, or that no trained network can have."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
ADVICE = "save the state dict of a trained network, in float32"
MEANS, VARIANCES = "running_mean", "running_var"  # the ends of the names of batch normalisation's statistics


def fill(
    module: nn.Module, state: dict[str, Tensor], *, name: str, advice: str, optional: tuple[str, ...] = ()
) -> None:
    """Set all tensors of a module.

    Raises ValueError naming the first tensor that is missing, unknown, of another shape, or that `check_tensors`
    refuses. A tensor may be missing if its name ends in one of `optional`.
    """
    expected = module.state_dict()
    shapes, wanted = ({key: tuple(tensor.shape) for key, tensor in tensors.items()} for tensors in (state, expected))
    check_fit(shapes, wanted, name=name, advice=advice, optional=optional)
    check_tensors(state, expected, name=name)
    expected.update(state)  # keeps the version marks; without them torchvision reads some layers in an older layout
    module.load_state_dict(expected)


def check_fit(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    *,
    name: str,
    advice: str,
    optional: tuple[str, ...] = (),
) -> None:
    """Raise ValueError, as `fill` does, unless the shapes of the tensors, by name, are the expected ones."""
    missing = [key for key in expected if key not in found and not key.endswith(optional or ("\0",))]
    unknown = [key for key in found if key not in expected]
    misshapen = [key for key in found if key in expected and found[key] != expected[key]]
    for problem, keys in (("lack", missing), ("have the unknown", unknown), ("have another shape for", misshapen)):
        if keys:
            raise ValueError(f"{name} do not fit: they {problem} {keys[0]} ({len(keys)} such tensors); {advice}")


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: str) -> None:
    """Raise ValueError naming the first tensor that cannot stand in the place of the expected one of its name.

    Other tensors are not looked at. Shapes are checked elsewhere.
    """
    for key, tensor in tensors.items():
        if key in expected:
            is_float = expected[key].is_floating_point()
            if problem := kind_problem(tensor, is_float=is_float) or number_problem(key, tensor):
                raise ValueError(f"{name} do not fit: {key} {problem}: {ADVICE}")


def kind_problem(tensor: Tensor, *, is_float: bool) -> str:
    """Return why a tensor does not hold plain numbers in memory, or not of the expected type; "" if it does."""
    if tensor.is_nested:
        return "is nested, expected a plain tensor"
    if tensor.is_meta:
        return "has no values: it was saved from the device meta"
    if tensor.is_quantized:
        return f"is quantised ({_short(tensor.dtype)}), expected float32"
    if tensor.layout != torch.strided:
        return f"is sparse ({_short(tensor.layout)}), expected a plain tensor"
    if tensor.dtype.is_complex or (is_float and tensor.dtype not in FLOATS):
        return f"is of type {_short(tensor.dtype)}, expected float32, or another float of 16 to 64 bits"
    return ""


def number_problem(key: str, tensor: Tensor) -> str:
    """Return the fault of a tensor's numbers that no trained network can have; "" for possible numbers."""
    if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):  # the network holds float32
        return "has numbers that are not finite in float32"
    if key.endswith(VARIANCES) and bool((tensor < 0).any()):
        return "has a variance below 0"
    return ""


def seem_untrained(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether batch normalisation has seen no sample: every mean is 0, as in a network just built."""
    means = [tensor for key, tensor in tensors.items() if key.endswith(MEANS)]
    return bool(means) and not any(bool(tensor.any()) for tensor in means)


def _short(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
