"""The settings in params.yaml for computing with a frozen backbone."""

from dataclasses import dataclass
from typing import Literal

from tasks.machine.bounds import MinibatchSize


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The device and the precision to compute with; auto leaves the choice to the machine."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class PassOptions:
    """The way forward passes are computed, and the size of minibatches; auto and None leave the choice to the machine.

    `quantised` is the file of precision int8, as `FILE@sha256:…`.
    """

    execution: Literal["auto", "fused", "onnxruntime", "openvino", "compiled", "eager"]
    minibatch_size: MinibatchSize | None
    quantised: str | None


@dataclass(frozen=True, kw_only=True)
class PlanOptions(PassOptions, DeviceOptions):
    """The choices that `tasks.embedding.embedder.plan` makes for a machine."""

    precision: Literal["auto", "bf16", "fp32", "int8"]  # type: ignore[assignment]
