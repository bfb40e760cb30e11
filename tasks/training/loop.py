"""The one training loop: a model and minibatches in; the same model with its best weights, and what each epoch gave, out."""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.data.manifest import MISSING

logger = logging.getLogger("graftline")

Minibatch = tuple[Tensor, Tensor]  # normalised images (n, 3, size, size), label indices (n, num_targets)

GRADIENT_NORM = 1.0  # gradients are clipped to it (Pascanu et al. 2013)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean cross-entropy in nats and accuracy in 0..1, over all labels of all targets."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch gave. Epoch 0 is the model as it came; it has no training scores."""

    epoch: int
    train: Scores | None
    val: Scores


def fit(
    model: nn.Module,
    *,
    minibatches: Callable[[int], Iterable[Minibatch]],
    num_minibatches: int,
    val_minibatches: Callable[[], Iterable[Minibatch]],
    parameter_groups: list[dict[str, object]],
    epochs: int,
    warmup_fraction: float,
    weight_decay: float,
    patience_epochs: int,
    update_statistics: bool,
    label_smoothing: float = 0.0,
    show: Callable[[Iterable[Minibatch], int], Iterator[Minibatch]] = lambda items, epoch: iter(items),
) -> tuple[list[Epoch], int]:
    """Train with AdamW under a linear warm-up and a cosine to zero; stop early on val loss and keep the best epoch.

    The model as it came counts as epoch 0, so that training cannot end in something worse on val.

    Args:
        model: maps images to logits, a tensor (n, num_classes) a target.
        minibatches: the epoch's number -> its minibatches.
        parameter_groups: as for torch.optim, each with its `params` and `lr`.
        update_statistics: let the normalisation layers of the trained parts use and learn the statistics of minibatches;
            otherwise they use those that they came with. Frozen parts always do.
        label_smoothing: 0..1, the share of each label that is spread over all classes (Szegedy et al. 2016).
        show: wraps the minibatches of an epoch, to show progress.

    Returns:
        The epochs, and the number of the one whose weights the model has now.

    Raises:
        ValueError: a loss that is not a number, with the advice to lower the learning rate.
    """
    optimizer = torch.optim.AdamW(parameter_groups, weight_decay=weight_decay)
    num_steps = max(epochs * num_minibatches, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, num_steps=num_steps, warmup_fraction=warmup_fraction)
    )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    history = [Epoch(epoch=0, train=None, val=score(model, val_minibatches()))]
    best, best_state = 0, copy.deepcopy(model.state_dict())
    for epoch in range(1, epochs + 1):
        set_training_mode(model, update_statistics=update_statistics)
        total = _Total()
        for images, labels in show(minibatches(epoch), epoch):
            logits = model(images)
            loss = cross_entropy(logits, labels, label_smoothing=label_smoothing)
            if not math.isfinite(loss.item()):
                raise ValueError(
                    f"the training loss is {loss.item()} in epoch {epoch}: lower finetune's learning rates"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            total.add([each.detach() for each in logits], labels)
        history.append(Epoch(epoch=epoch, train=total.scores(), val=score(model, val_minibatches())))
        logger.info(_line(history[-1], epochs))
        if history[-1].val.loss < history[best].val.loss:
            best, best_state = epoch, copy.deepcopy(model.state_dict())
        elif epoch - best >= patience_epochs:
            break
    model.load_state_dict(best_state)
    model.eval()
    return history, best


def set_training_mode(model: nn.Module, *, update_statistics: bool) -> None:
    """Training mode, but for the parts that are frozen: their dropout is off and their statistics stand still."""
    model.train()
    for part in model.modules():
        trained = [parameter.requires_grad for parameter in part.parameters()]
        is_normalisation = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if trained and (not any(trained) or (is_normalisation and not update_statistics)):
            part.eval()


def cross_entropy(logits: list[Tensor], labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the labels that are there, in nats: logits (n, num_classes) a target, label indices (n, num_targets)."""
    losses = [
        F.cross_entropy(each, labels[:, target], ignore_index=MISSING, reduction="sum", label_smoothing=label_smoothing)
        for target, each in enumerate(logits)
    ]
    return torch.stack(losses).sum() / (labels != MISSING).sum().clamp(min=1)


def learning_rate_factor(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """Rises linearly from above 0 to 1 over the warm-up, then falls to 0 as a half cosine (Loshchilov & Hutter 2017)."""
    warmup = int(num_steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))


@torch.no_grad()
def score(model: nn.Module, minibatches: Iterable[Minibatch]) -> Scores:
    """The model's scores in evaluation mode."""
    model.eval()
    total = _Total()
    for images, labels in minibatches:
        total.add(model(images), labels)
    return total.scores()


class _Total:
    """Adds up loss and hits over minibatches."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.hits = 0
        self.count = 0

    def add(self, logits: list[Tensor], labels: Tensor) -> None:
        count = int((labels != MISSING).sum())
        self.loss += cross_entropy(logits, labels).item() * count
        self.hits += sum(int((each.argmax(dim=1) == labels[:, target]).sum()) for target, each in enumerate(logits))
        self.count += count

    def scores(self) -> Scores:
        count = max(self.count, 1)
        return Scores(loss=self.loss / count, accuracy=self.hits / count)


def _line(epoch: Epoch, epochs: int) -> str:
    assert epoch.train is not None
    return (
        f"epoch {epoch.epoch}/{epochs}: train loss {epoch.train.loss:.4f} accuracy {epoch.train.accuracy:.4f}, "
        f"val loss {epoch.val.loss:.4f} accuracy {epoch.val.accuracy:.4f}"
    )
