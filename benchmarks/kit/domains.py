"""Domains for the benchmark of adaptation: public sets and the same pictures under changes, embedded once."""

import csv
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.kit.labelled import SHARED, squeezenet
from benchmarks.kit.machine import show
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each

Pixels = NDArray[np.floating]  # (height, width, 3) in 0..1
Change = Callable[[Pixels, np.random.Generator], Pixels]
Labelled = tuple[Image.Image, str]  # a picture and its class

NUM_CIFAR_SOURCE = 4000
NUM_SHORT_WORDS = 6  # of a text that is cut short
GAPS = 0.5  # of the words that are left out
TYPOS = 0.12  # of the letters that are missing
SOURCES = ("AP", "Reuters", "AFP")  # agencies that AG News names in its texts


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A domain: vectors (n, dim) float32 and labels (n,), indices into `classes`."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]


def folder_domains(images: Path, cache: Path) -> dict[str, Embedded]:
    """Return the domains of a folder `domain/class/image`, by name, at 224 px."""
    domains = sorted(path.name for path in images.iterdir() if path.is_dir())
    classes = sorted({path.name for domain in domains for path in (images / domain).iterdir() if path.is_dir()})

    def read(domain: str) -> Iterator[Labelled]:
        for path in sorted((images / domain).glob("*/*")):
            yield decode_sample(path.read_bytes(), shorter_side=448), path.parent.name

    return {
        domain: embedded(f"{images.resolve().name}-{domain}", cache, partial(read, domain), classes, image_size=224)
        for domain in domains
    }


def pacs(cache: Path) -> Path:
    """Return the folder of the shared part of PACS, photographs and cartoons, unpacked into the cache."""
    folder = cache / "pacs"
    if not folder.is_dir():
        with tarfile.open(SHARED / "data/pacs-photo-cartoon.tar") as archive:
            archive.extractall(cache / "pacs.part", filter="data")
        (cache / "pacs.part/pacs").rename(folder)
        (cache / "pacs.part").rmdir()
    return folder


def cifar(cache: Path) -> dict[str, Embedded]:
    """Return CIFAR-10 at 112 px: `source` of 4,000 pictures, and the same 2,000 others under each change."""
    pictures = list(tar_pictures("cifar10-12k.tar"))
    order = np.random.default_rng(0).permutation([place for place, (path, _) in enumerate(pictures) if "train" in path])
    source = [pictures[place] for place in np.sort(order[:NUM_CIFAR_SOURCE])]
    others = [picture for picture in pictures if "test" in picture[0]]
    classes = sorted({PurePath(path).parent.name for path, _ in pictures})
    return changed_domains("cifar", source, others, CIFAR_CHANGES, classes, cache, image_size=112)


def hands(cache: Path) -> dict[str, Embedded]:
    """Return the signed digits at 112 px: `source` is one half of them, the others the other half under each change."""
    pictures = list(tar_pictures("sign-digits.tar"))
    is_source = np.random.default_rng(0).permutation(len(pictures)) % 2 == 0
    source = [picture for picture, here in zip(pictures, is_source, strict=True) if here]
    others = [picture for picture, here in zip(pictures, is_source, strict=True) if not here]
    classes = [str(digit) for digit in range(10)]
    return changed_domains("hands", source, others, HAND_CHANGES, classes, cache, image_size=112)


def news(cache: Path) -> dict[str, Embedded]:
    """Return AG News by the agency that a text names, and `source`, the texts that name none.

    The names are taken out of the texts, so that they give no agency away.
    """
    parts: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in ("source", *SOURCES)}
    for title, description, label in news_rows():
        text = f"{title}\n{description}"
        named = {name for name in SOURCES if re.search(rf"\b{name}\b", text, re.IGNORECASE if name == "Reuters" else 0)}
        if len(named) < 2:
            texts, labels = parts[named.pop() if named else "source"]
            texts.append(re.sub(rf"\s*\(?\b({'|'.join(SOURCES)}|REUTERS)\b\)?\s*(- )?", " ", text))
            labels.append(label)
    return embedded_texts("news", parts, cache)


def news_rows() -> list[tuple[str, str, str]]:
    """Return title, description and label of each item of AG News."""
    from benchmarks.kit.news import AG_NEWS

    with AG_NEWS.open(encoding="utf-8", newline="") as file:
        return [(row["title"], row["description"], row["label"]) for row in csv.DictReader(file)]


def embedded_texts(prefix: str, parts: dict[str, tuple[list[str], list[str]]], cache: Path) -> dict[str, Embedded]:
    """Return domains of texts and their labels from the cache, or embed them with MiniLM and keep them there."""
    from benchmarks.kit.news import MINILM
    from tasks.embedding.packing import TextEmbedder
    from tasks.models.encoder_files import load_encoder

    classes = sorted({label for _, labels in parts.values() for label in labels})
    domains = {}
    for name, (texts, labels) in parts.items():
        file = cache / f"{prefix}-{name}.npz"
        if not file.is_file():
            show(f"embedding {len(texts):,} texts of {name}")
            embedder = TextEmbedder(load_encoder(MINILM), plan(AUTO, modality="text"))
            size = embedder.plan.minibatch_size
            with one_thread_each():
                pieces = [
                    embedder([embedder.transform.prepare(text) for text in texts[start : start + size]]).numpy()
                    for start in range(0, len(texts), size)
                ]
            keep(file, np.concatenate(pieces), [classes.index(label) for label in labels])
        domains[name] = kept(file, classes)
    return domains


def fresh_cifar(cache: Path) -> dict[str, Embedded]:
    """Return CIFAR-10 under changes that set no number: other pictures as `source`, the rest under each change."""
    return parts_of_cifar("fresh", cache, FRESH_CHANGES, source=slice(4000, 7000), others=slice(7000, 9000))


def fresh_news(cache: Path) -> dict[str, Embedded]:
    """Return AG News as descriptions, `source`, and as the titles of other items."""
    parts: dict[str, tuple[list[str], list[str]]] = {"descriptions": ([], []), "titles": ([], [])}
    for number, (title, description, label) in enumerate(news_rows()):
        name, text = ("titles", title) if number % 3 == 0 else ("descriptions", description)
        parts[name][0].append(text)
        parts[name][1].append(label)
    domains = embedded_texts("news", parts, cache)
    return {"source": domains["descriptions"], "titles": domains["titles"]}


def second_cifar(cache: Path) -> dict[str, Embedded]:
    """Return CIFAR-10 under changes that set no number: pictures that no case judged by, and other ones as `source`."""
    return parts_of_cifar("second", cache, SECOND_CHANGES, source=slice(7000, None), others=slice(2000))


def second_hands(cache: Path) -> dict[str, Embedded]:
    """Return the signed digits in other halves, the second one under changes that set no number."""
    return halves_of_hands("secondhands", cache, SECOND_HAND_CHANGES, seed=1)


def second_news(cache: Path) -> dict[str, Embedded]:
    """Return AG News as it is, `source`, and other items cut short, and with words left out."""
    generator = np.random.default_rng(0)
    parts: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in ("whole", "short", "gaps")}
    for number, (title, description, label) in enumerate(news_rows()):
        words = f"{title} {description}".split()
        name = ("whole", "short", "gaps")[number % 3]
        if name == "short":
            words = words[:NUM_SHORT_WORDS]
        elif name == "gaps":
            words = [word for word in words if generator.random() >= GAPS] or words[:1]
        parts[name][0].append(" ".join(words))
        parts[name][1].append(label)
    domains = embedded_texts("secondnews", parts, cache)
    return {"source": domains["whole"], "short": domains["short"], "gaps": domains["gaps"]}


def third_cifar(cache: Path) -> dict[str, Embedded]:
    """Return CIFAR-10 under changes that set no number: pictures that no case judged by, and other ones as `source`."""
    return parts_of_cifar("third", cache, THIRD_CHANGES, source=slice(1500, 4500), others=slice(4500, 6500))


def third_hands(cache: Path) -> dict[str, Embedded]:
    """Return the signed digits in halves of their own, the second one under a change that set no number."""
    return halves_of_hands("thirdhands", cache, THIRD_HAND_CHANGES, seed=2)


def third_news(cache: Path) -> dict[str, Embedded]:
    """Return AG News as it is, `source`, and other items in which letters are missing."""
    generator = np.random.default_rng(0)
    parts: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in ("whole", "typos")}
    for number, (title, description, label) in enumerate(news_rows()):
        text, name = f"{title} {description}", ("whole", "typos")[number % 2]
        if name == "typos":
            text = "".join(letter for letter in text if generator.random() >= TYPOS)
        parts[name][0].append(text)
        parts[name][1].append(label)
    domains = embedded_texts("thirdnews", parts, cache)
    return {"source": domains["whole"], "typos": domains["typos"]}


def parts_of_cifar(
    name: str, cache: Path, changes: dict[str, Change], *, source: slice, others: slice
) -> dict[str, Embedded]:
    """Return parts of CIFAR-10's train pictures in a random order: `source`, and others under each change."""
    pictures = list(tar_pictures("cifar10-12k.tar"))
    order = np.random.default_rng(0).permutation([place for place, (path, _) in enumerate(pictures) if "train" in path])
    drawn, rest = ([pictures[place] for place in np.sort(order[part])] for part in (source, others))
    classes = sorted({PurePath(path).parent.name for path, _ in pictures})
    return changed_domains(name, drawn, rest, changes, classes, cache, image_size=112)


def halves_of_hands(name: str, cache: Path, changes: dict[str, Change], *, seed: int) -> dict[str, Embedded]:
    pictures = list(tar_pictures("sign-digits.tar"))
    is_source = np.random.default_rng(seed).permutation(len(pictures)) % 2 == 0
    source, others = (
        [picture for picture, here in zip(pictures, is_source, strict=True) if here == side] for side in (True, False)
    )
    classes = [str(digit) for digit in range(10)]
    return changed_domains(name, source, others, changes, classes, cache, image_size=112)


def changed_domains(
    name: str, source: list[tuple[str, bytes]], others: list[tuple[str, bytes]], changes: dict[str, Change],
    classes: list[str], cache: Path, *, image_size: int,
) -> dict[str, Embedded]:  # fmt: skip
    """Return `source` as it is and, by the name of each change, the other pictures under it."""

    def domain(of: str, pictures: list[tuple[str, bytes]], change: Change) -> Embedded:
        return embedded(
            f"{name}-{of}", cache, lambda: changed(pictures, change, image_size=image_size), classes,
            image_size=image_size,
        )  # fmt: skip

    return {"source": domain("source", source, as_it_is)} | {
        of: domain(of, others, change) for of, change in changes.items()
    }


def changed(pictures: Iterable[tuple[str, bytes]], change: Change, *, image_size: int) -> Iterator[Labelled]:
    """Yield the pictures under a change, for a square of `image_size` px, and their classes."""
    generator = np.random.default_rng(0)
    for path, content in pictures:
        image = decode_sample(content, shorter_side=2 * image_size)
        pixels = change(np.asarray(image, np.float32) / 255, generator)
        yield Image.fromarray(np.round(pixels.clip(0, 1) * 255).astype(np.uint8)), PurePath(path).parent.name


def tar_pictures(tar: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(SHARED / "data" / tar) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if file := archive.extractfile(member):
                yield member.name, file.read()


def embedded(
    name: str, cache: Path, read: Callable[[], Iterable[Labelled]], classes: list[str], *, image_size: int
) -> Embedded:
    """Return a domain from the cache, or embed it with SqueezeNet's pooled features and keep it there."""
    file = cache / f"{name}-{image_size}.npz"
    if not file.is_file():
        show(f"embedding {name}")
        backbone = squeezenet(image_size).load()
        embedder = Embedder(backbone, plan(AUTO))
        vectors, labels, waiting = [], [], []
        with one_thread_each():
            for image, label in read():
                waiting.append(backbone.transform.prepare(image))
                labels.append(classes.index(label))
                if len(waiting) == embedder.plan.minibatch_size:
                    vectors.append(embedder(backbone.transform.stack(waiting)).numpy())
                    waiting = []
            if waiting:
                vectors.append(embedder(backbone.transform.stack(waiting)).numpy())
        keep(file, np.concatenate(vectors), labels)
    return kept(file, classes)


def keep(file: Path, vectors: NDArray[np.float32], labels: list[int]) -> None:
    content = io.BytesIO()
    np.savez(content, vectors=vectors.astype(np.float16), labels=np.array(labels, np.int64))
    part = file.with_suffix(".part")
    part.write_bytes(content.getvalue())
    part.rename(file)


def kept(file: Path, classes: list[str]) -> Embedded:
    with np.load(file) as arrays:
        return Embedded(vectors=arrays["vectors"].astype(np.float32), labels=arrays["labels"], classes=classes)


def as_it_is(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return pixels


def blurred(radius: float) -> Change:
    """Blur with a Gaussian of this radius in px."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        image = Image.fromarray(np.round(pixels * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
        return np.asarray(image, np.float32) / 255

    return change


def noisy(deviation: float) -> Change:
    return lambda pixels, generator: pixels + deviation * generator.standard_normal(pixels.shape, dtype=np.float32)


def as_jpeg(quality: int) -> Change:
    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        content = io.BytesIO()
        Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(content, "JPEG", quality=quality)
        return np.asarray(decode_sample(content.getvalue()), np.float32) / 255

    return change


def turned(degrees: float) -> Change:
    """Turn by up to so many degrees, to either side."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        image = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        image = image.rotate(generator.uniform(-degrees, degrees), Image.Resampling.BICUBIC)
        return np.asarray(image, np.float32) / 255

    return change


def in_grey(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)


def saturated(factor: float) -> Change:
    """Draw each colour away from its grey, by this factor."""
    return lambda pixels, generator: (grey := pixels.mean(axis=2, keepdims=True)) + factor * (pixels - grey)


def raised(gamma: float) -> Change:
    """Raise each brightness in 0..1 to this power."""
    return lambda pixels, generator: pixels**gamma


def covered(share: float) -> Change:
    """Cover a square of this share of the width with grey, anywhere."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        side = round(share * width)
        top, left = (int(generator.integers(max(room - side, 0) + 1)) for room in (height, width))
        hidden = pixels.copy()
        hidden[top : top + side, left : left + side] = 0.5
        return hidden

    return change


def zoomed(share: float) -> Change:
    """Show the middle of the picture alone, this share of its width, as large as the whole was."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        top, left = (round(room * (1 - share) / 2) for room in (height, width))
        image = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        image = image.crop((left, top, width - left, height - top)).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image, np.float32) / 255

    return change


def coarse(share: float) -> Change:
    """Make the picture this share as large, and as large as before again."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        image = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        image = image.resize((max(round(share * width), 1), max(round(share * height), 1)), Image.Resampling.BILINEAR)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255

    return change


def mirrored(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return pixels[:, ::-1]


def sharpened(percent: int) -> Change:
    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        image = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        image = image.filter(ImageFilter.UnsharpMask(radius=2, percent=percent, threshold=0))
        return np.asarray(image, np.float32) / 255

    return change


def posterised(num_levels: int) -> Change:
    return lambda pixels, generator: np.round(pixels * (num_levels - 1)) / (num_levels - 1)


def with_contrast(factor: float) -> Change:
    return lambda pixels, generator: 0.5 + factor * (pixels - 0.5)


def lit(*, brightness: float, tint: tuple[float, float, float] = (1, 1, 1), slope: float = 0.0) -> Change:
    """Light the picture otherwise: brighter or darker, of a colour, and less by `slope` at its right border."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        fall = 1 - slope * np.linspace(0, 1, pixels.shape[1], dtype=np.float32)[None, :, None]
        return pixels * brightness * np.array(tint, np.float32) * fall

    return change


def on_background(*, is_photograph: bool) -> Change:
    """Put the hand before a coloured wall, or before a picture of CIFAR-10, which changes from hand to hand."""
    pictures: list[bytes] = []

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        behind: Pixels = pixels * np.array([0.55, 0.75, 0.6], np.float32)
        if is_photograph:
            if not pictures:
                pictures.extend(content for _, content in tar_pictures("cifar10-12k.tar"))
            content = pictures[generator.integers(len(pictures))]
            image = decode_sample(content).resize((width, height), Image.Resampling.BICUBIC)
            behind = np.asarray(image, np.float32) / 255
        hand = hand_mask(pixels)[:, :, None]
        return hand * pixels + (1 - hand) * behind

    return change


def hand_mask(pixels: Pixels) -> Pixels:
    """Return (height, width) in 0..1: skin is redder than the grey wall behind it."""
    redness = pixels[:, :, 0] - pixels[:, :, 2]
    skin = Image.fromarray(((redness > 0.16) * 255).astype(np.uint8))
    side = max(pixels.shape[1] // 60, 1)
    skin = skin.filter(ImageFilter.MedianFilter(2 * side + 1)).filter(ImageFilter.GaussianBlur(side / 2))
    return np.asarray(skin, np.float32) / 255


CIFAR_CHANGES: dict[str, Change] = {
    "clean": as_it_is,
    "blur": blurred(1.2),
    "noise": noisy(0.10),
    "contrast": with_contrast(0.35),
    "mildblur": blurred(0.45),
    "mildnoise": noisy(0.02),
}
# light and background: none of them set a number of the gate
HAND_CHANGES: dict[str, Change] = {
    "clean": as_it_is,
    "dim": lit(brightness=0.35),
    "warm": lit(brightness=0.9, tint=(1.0, 0.75, 0.5)),
    "side": lit(brightness=1.1, slope=0.8),
    "mildlight": lit(brightness=0.9),
    "wall": on_background(is_photograph=False),
    "photo": on_background(is_photograph=True),
}
FRESH_CHANGES: dict[str, Change] = {
    "clean": as_it_is,
    "jpeg": as_jpeg(8),
    "turned": turned(45),
    "grey": in_grey,
    "tint": lit(brightness=0.8, tint=(1.0, 0.8, 0.6)),
    "mildjpeg": as_jpeg(50),
}
SECOND_CHANGES: dict[str, Change] = {
    "clean": as_it_is,
    "dark": raised(2.5),
    "covered": covered(0.5),
    "coarse": coarse(0.5),
    "vivid": saturated(2.5),
    "mildzoom": zoomed(0.85),
}
SECOND_HAND_CHANGES: dict[str, Change] = {"clean": as_it_is, "mirrored": mirrored, "sharp": sharpened(300)}
THIRD_CHANGES: dict[str, Change] = {
    "fog": lambda pixels, generator: 0.5 * pixels + 0.45,
    "posterised": posterised(3),
}
THIRD_HAND_CHANGES: dict[str, Change] = {"bright": lit(brightness=1.7)}
