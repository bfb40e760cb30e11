"""The settings in params.yaml for fine-tuning."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tasks.embedding.options import DeviceOptions
from tasks.images.options import Augmentation
from tasks.machine.bounds import Count, MinibatchSize, NotNegative, OpenFraction, Positive
from tasks.training.loop.options import FitOptions


@dataclass(frozen=True, kw_only=True)
class UnfreezingOptions:
    """The blocks that are trained, counted from the output, and their learning rates. Those of text are layers."""

    unfreeze: Literal["all"] | Annotated[int, Field(ge=0)]
    gradual: bool
    head_learning_rate: Positive
    backbone_learning_rate: Positive
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: NotNegative


@dataclass(frozen=True, kw_only=True)
class ActivationOptions:
    """The augmented views of each training image, and the gigabytes of their activations that are kept on disk.

    A text has one view, itself.
    """

    num_views: Count
    cache_gigabytes: NotNegative


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """The way the blocks are trained: in full, or by low-rank matrices of `lora_rank` beside their own."""

    method: Literal["full", "lora"]
    lora_rank: Count


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """The term that makes the features of other domains like those of the sources, and its weight over the loss.

    See `tasks.training.alignment.discrepancy`.

    align_to: the names of the other domains; auto takes every domain most of whose samples are in the pool.
    """

    align: Literal["never", "coral", "mmd", "dann"]
    align_to: Literal["auto"] | list[str]
    align_weight: Positive


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The start of training: the backbone, or the model in use, see `warm_start`.

    replay: the number of samples, among those that the model in use has learned from, that are learned again for each
        new one.
    backbone_every: the number of runs of which one still starts from the backbone; a batch whose candidate was not
        promoted counts as a run, too.
    """

    start: Literal["backbone", "in_use"]
    replay: NotNegative
    backbone_every: Count


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(
    ActivationOptions, DeviceOptions, Augmentation, FitOptions, AdapterOptions, AlignmentOptions, UnfreezingOptions,
    StartOptions,
):  # fmt: skip
    """The section `finetune`.

    num_workers: the processes of a Ray cluster that share each minibatch.
    pairs: auto lets texts with few labels a class learn from pairs of texts, see `few_labels`; never does not.
    trunks: of several targets, whether one trunk is trained for all, one for each, or both, of which val chooses.
    harm_significance: of the test that half of the way to the fine-tuned model is worse than the head.
    significance: of the test that a target's own trunk beats the shared one.
    """

    minibatch_size: MinibatchSize
    num_workers: Count
    pairs: Literal["auto", "never"]
    trunks: Literal["auto", "shared", "each"]
    harm_significance: OpenFraction
    significance: OpenFraction
