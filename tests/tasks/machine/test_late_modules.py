"""Libraries work without modules that nothing here uses, and answer as they would with them."""

import sys

from tests.kit.programs import run

PROGRAM = """
import sys
import tasks.backbone, tasks.embed, tasks.evaluate, tasks.finetune, tasks.smoke

assert "torchvision.tv_tensors" in sys.modules and "torch._dynamo" not in sys.modules

import torch

def trained():
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(0.5), layer.bias.zero_()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return layer.weight.tolist()

without = trained()
torch.nn.BatchNorm2d(3, device="meta")(torch.zeros(1, 3, 4, 4, device="meta"))
assert "torch._dynamo" not in sys.modules

answer = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported

assert answer == is_compile_supported("cpu")
assert torch.compile(torch.sin, backend="eager")(torch.zeros(2)).tolist() == [0.0, 0.0]
assert torch.compiler.disable(torch.sin) is not torch.sin
assert trained() == without

is_compiling = []

@torch._disable_dynamo
def kept_away(numbers):
    is_compiling.append(torch.compiler.is_compiling())
    return numbers

torch.compile(lambda numbers: kept_away(numbers) + 1, backend="eager")(torch.zeros(2))
assert is_compiling == [False]
"""


def test_verbs_train_and_load_the_compiler_only_where_they_compile():
    run(sys.executable, "-c", PROGRAM)


WITHOUT_F2PY = """
import sys
import tasks.train_head, tasks.validate

assert "scipy.special" in sys.modules and not {"numpy.f2py", "numpy.testing"} & sys.modules.keys()

import numpy

numpy.testing.assert_array_equal([1], [1])
assert numpy.f2py.__name__ == "numpy.f2py"
"""


def test_scipy_loads_without_modules_of_numpy_which_come_when_somebody_asks():
    run(sys.executable, "-c", WITHOUT_F2PY)
