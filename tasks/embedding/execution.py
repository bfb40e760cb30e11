"""Choose by a measurement which execution computes a backbone's features, and keep the choice beside the store.

The choice depends on the clock. It is made once for a backbone, a kind of processor and the versions of the packages,
and read from then on, because another execution gives other bits.
"""

import hashlib
import json
import logging
import os
import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.embedding.embedder import Embedder, Execution, Plan
from tasks.embedding.runtimes import PART, RUNTIMES, installed
from tasks.machine.cores import one_thread_each
from tasks.machine.files import read_json, whole_file, write_json
from tasks.models.backbone import Backbone

logger = logging.getLogger("graftline")

FOLDER = ".executions"  # in the store, whose other folders are recipes
LEAST_GAIN = 1.01  # times the speed of `fused` that another execution needs: less is within the noise of the clock
LEAST_FLOPS = 2e8  # of an image: below, to read and decode the file takes as long
LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.999}  # to the backbone's own features
LEAST_NORM = 1e-100  # of features, whose cosine counts however small they are
NUM_CHECKED = 4  # images whose features are compared with the backbone's own, which takes it long
NUM_MEASURED = 8  # images of a minibatch that is measured, at most: more take longer and show little more
ROUNDS = 5
ROUND_SECONDS = 0.5  # of each execution
MOST_SECONDS = 10.0  # after which no round begins: the rounds of a slow network are exact enough


def choose_execution(backbone: Backbone, plan: Plan, *, store: Path) -> Plan:
    """Return the plan with the execution that is fastest on this machine, among `fused` and the runtimes installed.

    A runtime is refused, with the reason in the log, where its features depend on their neighbours in a minibatch, or
    differ from the backbone's by more than LEAST_COSINE. Without a runtime nothing is measured.
    """
    can_choose = plan.device == "cpu" and not backbone.resolutions  # resizing a minibatch has no step in ONNX
    runtimes = installed(plan.precision) if can_choose else []
    if not runtimes:
        return plan
    facts = {
        "plan": plan.recipe(),
        "backbone": backbone.fingerprint(),
        "versions": {name: version(name) for one in runtimes for name in ("torch", *RUNTIMES[one].packages)},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path = store / FOLDER / f"{key}.json"
    if not path.exists():
        _keep(path, facts | _measure(backbone, plan, runtimes))
    chosen = _read(path)
    return replace(plan, execution=chosen)


def _measure(backbone: Backbone, plan: Plan, runtimes: list[str]) -> dict[str, Any]:
    """Return the seconds an image takes in each execution, why others are refused, and the choice."""
    if flops_of(backbone) < LEAST_FLOPS:
        return {"chosen": "fused", "refused": {}, "seconds": {}}
    plan = replace(plan, minibatch_size=measured_size(plan.minibatch_size))
    noise = torch.randint(
        0, 256, (plan.minibatch_size, 3, *[backbone.transform.crop_size] * 2), dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    with one_thread_each(), torch.inference_mode():
        embedders = {"fused": Embedder(backbone, plan)}
        refused: dict[str, str] = {}
        expected = backbone(backbone.transform.normalize(noise[:NUM_CHECKED]))
        for name in runtimes:
            try:
                embedder = Embedder(backbone, replace(plan, execution=name))  # type: ignore[arg-type]
                reason = why_refused(embedder, noise, expected)
            except ValueError as error:
                reason = str(error)
            if reason:
                refused[name] = reason
                logger.warning("embed.execution: %s is not used: %s", name, reason)
            else:
                embedders[name] = embedder
        embedders["fused"](noise)
        rounds: list[dict[str, float]] = []
        start = time.monotonic()
        while len(rounds) < ROUNDS and (not rounds or time.monotonic() - start < MOST_SECONDS):
            rounds.append({name: _seconds(partial(embedder, noise)) for name, embedder in embedders.items()})
    # the least disturbed round
    seconds = {name: min(one[name] for one in rounds) / plan.minibatch_size for name in embedders}
    fastest = min(seconds, key=lambda name: seconds[name])
    chosen = fastest if seconds["fused"] / seconds[fastest] >= LEAST_GAIN else "fused"
    logger.info(
        "embed.execution: %s is chosen for this processor (milliseconds an image on a core: %s)", chosen,
        ", ".join(f"{name} {1000 * own:.1f}" for name, own in seconds.items()),
    )  # fmt: skip
    return {"chosen": chosen, "refused": refused, "seconds": seconds}


def flops_of(backbone: Backbone) -> float:
    """Return the floating-point operations of an image's forward pass in convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    side = backbone.transform.crop_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops())


def measured_size(minibatch_size: int) -> int:
    """Return how many images of a minibatch are measured: at most NUM_MEASURED, in parts of the minibatch's size."""
    return min(minibatch_size, NUM_MEASURED - -minibatch_size % PART)


def why_refused(embedder: Embedder, noise: Tensor, expected: Tensor) -> str:
    """Return why features cannot be used: they depend on neighbours or differ from the backbone's; "" if they can.

    Args:
        noise: a whole minibatch of pixels (n, 3, size, size) uint8.
        expected: the backbone's own features of the first of them.
    """
    features = embedder(noise)
    if depends_on_neighbours(embedder, noise, features):
        return "its features depend on the neighbours in a minibatch"
    pairs = features[: len(expected)].double(), expected.double()
    cosine = float(torch.cosine_similarity(*pairs, dim=1, eps=LEAST_NORM).min())
    least = LEAST_COSINE[embedder.plan.precision]
    return "" if cosine >= least else f"its features have a cosine of {cosine:.6f} to the backbone's, below {least}"


def depends_on_neighbours(embedder: Embedder, pixels: Tensor, features: Tensor) -> bool:
    """Return whether any bit of the `features` of a whole minibatch changes at another place with fewer neighbours."""
    # an image has another place in its part of the minibatch, and the last ones have zeros as neighbours
    moved = torch.arange(len(pixels)).roll(1)[: len(pixels) * 5 // 8 or 1]
    return not torch.equal(features[moved], embedder(pixels[moved]))


def _seconds(work: Callable[[], Tensor]) -> float:
    """Return the processor time that `work` takes: the median of the calls that fit into ROUND_SECONDS.

    Unlike the time on the clock it hardly depends on other work of the machine.
    """
    seconds: list[float] = []
    while sum(seconds) < ROUND_SECONDS:
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def _keep(path: Path, choice: dict[str, Any]) -> None:
    """Write the choice, unless another run that measured at the same time was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    with whole_file(own) as beside:
        write_json(beside, choice)
    try:
        os.link(own, path)
    except FileExistsError:
        own.unlink()
    except OSError:  # a file system without hard links
        own.replace(path)
    else:
        own.unlink()


def _read(path: Path) -> Execution:
    content = read_json(path)
    chosen = content.get("chosen") if isinstance(content, dict) else None
    if chosen != "fused" and chosen not in RUNTIMES:
        raise ValueError(f"{path} names no execution: remove it, and it is measured again")
    execution: Execution = chosen
    return execution
