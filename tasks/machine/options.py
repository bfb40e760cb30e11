"""The settings in params.yaml for the place where work is done: this machine, or a Ray cluster."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """The cores of this machine (local), or the nodes of a Ray cluster. No result depends on it.

    address: HOST:PORT of the cluster's head; None is the cluster of RAY_ADDRESS, else one that runs on this machine.
    """

    engine: Literal["local", "ray"]
    address: str | None
