"""Train the backbone that the repository ships: it learns to read letters drawn from matplotlib's fonts.

`python -m tasks.demo.pretrain --out backbones/glyphs.safetensors --card backbones/glyphs.md` makes it again.
"""

import hashlib
import json
import logging
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks.demo.glyphs import TRAIN_FONTS, VAL_FONTS, Distortion, distort, draw_glyphs, source_classes
from tasks.images.transform import Transform
from tasks.machine.files import whole_file
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.stage.shell import run_verb
from tasks.training.loop.fit import PLAIN, Group, fit
from tasks.training.loop.scores import Minibatch, score

logger = logging.getLogger("graftline")

TRANSFORM = Transform(resize_size=32, crop_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """The settings that the weights depend on. They also depend on the code, the fonts and the type of machine."""

    architecture: str = "shufflenet_v2_x1_0"
    seed: int = 0
    epochs: int = 24
    minibatches_per_epoch: int = 100
    minibatch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.15
    label_smoothing: float = 0.1
    num_val_minibatches: int = 16


def run(*, out: Path, card: Path) -> None:
    """Train a backbone, and write its weights (float16, without the classification layer) and its card."""
    options, start = PretrainOptions(), time.monotonic()
    classes = source_classes()
    glyphs = draw_glyphs(classes, TRAIN_FONTS), draw_glyphs(classes, VAL_FONTS)
    torch.set_num_threads(1)  # with more, the bytes would depend on the number of cores
    torch.manual_seed(options.seed)
    model = Classifier(
        Backbone(options.architecture, features="penultimate", transform=TRANSFORM), {"glyph": list(classes)}
    )
    train(model, glyphs, options)
    learned, unseen = (
        score(model, val_minibatches(drawn, options), targets=list(model.targets.values())).scores().accuracy
        for drawn in glyphs
    )
    with whole_file(out) as path:
        state = {name: tensor.contiguous() for name, tensor in model.backbone.network.state_dict().items()}
        half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        save_file(dict(sorted(half.items())), path, metadata={"transform": json.dumps(TRANSFORM.to_dict())})
    with whole_file(card) as path:
        path.write_text(describe(options, out, classes, learned=learned, unseen=unseen), "utf-8")
    logger.info(
        "pretrained on %d classes in %.0f s: accuracy %.3f on learned fonts, %.3f on unseen ones, %.2f MB",
        len(classes), time.monotonic() - start, learned, unseen, out.stat().st_size / 1e6,
    )  # fmt: skip


def train(
    model: Classifier, glyphs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], options: PretrainOptions
) -> None:
    """Train the model on the first pair of `glyphs`, (images, labels); the second, in other fonts, picks the epoch."""

    def minibatches(epoch: int) -> Iterator[Minibatch]:
        generator = torch.Generator().manual_seed(options.seed * 100_003 + epoch)
        return draw_minibatches(glyphs[0], generator, options, count=options.minibatches_per_epoch)

    fit(
        model,
        replace(
            PLAIN,
            epochs=options.epochs,
            warmup_fraction=options.warmup_fraction,
            update_statistics=True,
            label_smoothing=options.label_smoothing,
        ),
        targets=list(model.targets.values()),
        seed=options.seed,
        groups=parameter_groups(model, options),
        minibatches=minibatches,
        num_minibatches=options.minibatches_per_epoch,
        val_minibatches=lambda: val_minibatches(glyphs[1], options),
    )


def val_minibatches(glyphs: tuple[Tensor, Tensor], options: PretrainOptions) -> Iterator[Minibatch]:
    """Yield distorted glyphs, the same ones in every epoch."""
    return draw_minibatches(glyphs, torch.Generator().manual_seed(1), options, count=options.num_val_minibatches)


def draw_minibatches(
    glyphs: tuple[Tensor, Tensor], generator: torch.Generator, options: PretrainOptions, *, count: int
) -> Iterator[Minibatch]:
    images, labels = glyphs
    for _ in range(count):
        picked = torch.randint(len(labels), (options.minibatch_size,), generator=generator)
        pixels = distort(images[picked], generator, size=TRANSFORM.crop_size, limits=Distortion())
        yield TRANSFORM.normalize(pixels), labels[picked, None]


def parameter_groups(model: nn.Module, options: PretrainOptions) -> list[Group]:
    """Return the model's parameters in two groups: matrices decay, biases and scales of normalisation layers do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [
        Group(parameters=matrices, learning_rate=options.learning_rate, weight_decay=options.weight_decay),
        Group(parameters=vectors, learning_rate=options.learning_rate),
    ]


def describe(
    options: PretrainOptions, weights: Path, classes: tuple[str, ...], *, learned: float, unseen: float
) -> str:
    """Return the text of the card."""
    numbers = "\n".join(f"| {name} | {value} |" for name, value in asdict(options).items())
    ranges = "\n".join(f"| {name} | {value} |" for name, value in asdict(Distortion()).items())
    names = textwrap.fill(f"The classes: {' '.join(classes)}", 120, break_long_words=False, break_on_hyphens=False)
    return f"""# The glyph backbone

`{weights.name}` is a {options.architecture} without its classification layer, in float16. It was trained from
nothing on a task of our own: to distinguish {len(classes)} letters of {len(TRAIN_FONTS)} fonts that matplotlib ships
(Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew, Tifinagh and others), distorted to look like small scans of
handwriting. **No digit is among them**, and no letter that looks like a digit. So the help that it gives with
handwritten digits is transfer.

- SHA-256: `{hashlib.sha256(weights.read_bytes()).hexdigest()}`
- Accuracy on its own task: {learned:.3f} on distorted glyphs of the fonts it learned from, {unseen:.3f} on those of
  fonts that it never saw ({", ".join(VAL_FONTS)}). Chance is {1 / len(classes):.4f}.
- Input: {TRANSFORM.crop_size} px, RGB in 0..1, no further normalisation. The header of the file says so too.
- Made by `python -m tasks.demo.pretrain --out {weights} --card {weights.with_suffix(".md")}`
  in about 6 minutes on one core. On the same type of machine the bytes are the same again; the accuracy is the same on
  any machine.
- Licence: as this repository's. The fonts draw the glyphs and are not in the file.

| recipe | |
|---|---|
{numbers}

| distortion | |
|---|---|
{ranges}

{names}
"""


if __name__ == "__main__":
    run_verb(run)
