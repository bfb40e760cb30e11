"""torchvision loads without torch._dynamo, and answers as it would with it."""

import sys

from tests.kit.programs import run

PROGRAM = """
import sys
import tasks.backbone, tasks.embed, tasks.evaluate, tasks.finetune, tasks.smoke

assert "torchvision.tv_tensors" in sys.modules and "torch._dynamo" not in sys.modules
answer = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")

import torch
from torch._dynamo.utils import is_compile_supported

assert answer == is_compile_supported("cpu")
assert torch.compile(torch.sin, backend="eager")(torch.zeros(2)).tolist() == [0.0, 0.0]
assert torch.compiler.disable(torch.sin) is not torch.sin
"""


def test_verbs_load_the_compiler_only_where_they_compile():
    run(sys.executable, "-c", PROGRAM)
