"""A computation on a GPU that is recorded once and replayed as one launch (a CUDA graph)."""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor


class Recording:
    """Computes what `work` returns for inputs on the GPU that have the shape and layout of `example`.

    A network starts hundreds of kernels. Each start would wait for the interpreter, which the threads that decode use,
    too. The kernels are those of `work`, so the bits are the same. Any number of threads may call it.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.inputs = example
        self.lock = Lock()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # the libraries choose their kernels and take their memory first
            for _ in range(2):
                work(self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = work(self.inputs)

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Tensor:
        with self.lock:  # else another thread could write over the inputs before they are read
            self.inputs.copy_(inputs)
            self.graph.replay()
            return self.outputs.clone()
