"""Fine-tuning on a GPU ends in the same bytes each time, and in weights that lie in memory as they came."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.stage.params import load_params
from tasks.training.finetuning.tuning import Data, fine_tune

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

PARAMS = Path(__file__).parents[3] / "params.yaml"
NUM_TRAIN, NUM_VAL = 32, 8


class Noise:
    """A source of normalised images."""

    num_views = 1

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(NUM_TRAIN + NUM_VAL, 3, 64, 64, generator=generator)

    def minibatches(self, rows, view, *, size):
        yield from torch.split(self.images[rows], size)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3_small", "vgg11"])
def test_gpu_trains_to_the_same_bytes_each_time(architecture, precision):
    options = replace(
        load_params(PARAMS).finetune, device="cuda", precision=precision, unfreeze="all", epochs=2, minibatch_size=8
    )
    labels = torch.arange(NUM_TRAIN + NUM_VAL, dtype=torch.float32)[:, None] % 2
    data = Data(labels=labels, train=np.arange(NUM_TRAIN), val=np.arange(NUM_TRAIN, NUM_TRAIN + NUM_VAL))
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Classifier(load_backbone(architecture, weights="random", image_size=64), {"label": ["a", "b"]})
        tuned = fine_tune(model, Noise(), data, options=options, seed=0)
        assert len(tuned.history.epochs) == 3
        ends.append(model.state_dict())
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
        assert tensor.device.type == "cpu"
        assert tensor.is_contiguous()
