"""Cases of domain adaptation: draw labelled source samples, unlabelled target samples, and those that judge."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.kit.domains import Embedded

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]

MOST_SAMPLES = 1670  # of a domain of pictures, drawn by the seed: the photographs of PACS
SOURCE_SHARE = 0.8  # of a source domain, drawn by the seed
VAL_SHARE = 0.2  # of the drawn source samples
NUM_UNLABELLED = 500
FEW = 50
RARE_SHARE = 0.15  # of every second class that a shift of the labels leaves
STEEP = 0.5  # a steep shift leaves this share of the second class, its square of the third, and so on
LEAST_STEEP = 0.03


@dataclass(frozen=True, kw_only=True)
class Case:
    """A draw: source samples to train on and to choose by, unlabelled target samples, and those that judge alone.

    `group` is pacs, strong, mild, none, few or labels. `hidden` (m,) has the labels of the unlabelled samples, of which
    the benchmark of few target labels draws; no other method sees them.
    """

    name: str
    group: str
    classes: list[str]
    train: tuple[Vectors, Labels]
    val: tuple[Vectors, Labels]
    unlabelled: Vectors
    hidden: Labels
    judges: tuple[Vectors, Labels]


def pairs(domains: dict[str, Embedded], seed: int) -> Iterator[Case]:
    """Yield a case for every ordered pair of domains, and few samples and shifted labels for the first two of them."""
    names = sorted(domains)
    for number, (source, target) in enumerate((a, b) for a in names for b in names if a != b):
        name = f"{source}_{target}"
        yield case(name, "pacs", domains[source], domains[target], seed, share=0.5)
        if number < 2:
            yield case(f"{name}_few", "few", domains[source], domains[target], seed, num_unlabelled=FEW)
            yield case(f"{name}_labels", "labels", domains[source], domains[target], seed, share=0.5, kept=half_rare)
            yield case(f"{name}_steep", "labels", domains[source], domains[target], seed, share=0.5, kept=steep)


def controlled(
    domains: dict[str, Embedded], seed: int, *, strong: tuple[str, ...], mild: tuple[str, ...], prefix: str
) -> Iterator[Case]:
    """Yield no shift, few samples, shifted labels, and every change, alone and with shifted labels."""
    source, clean = domains["source"], domains["clean"]
    yield case(f"{prefix}_none", "none", source, clean, seed)
    yield case(f"{prefix}_none_few", "none", source, clean, seed, num_unlabelled=FEW)
    yield case(f"{prefix}_labels", "labels", source, clean, seed, kept=half_rare)
    yield case(f"{prefix}_steep", "labels", source, clean, seed, kept=steep)
    for group, names in (("strong", strong), ("mild", mild)):
        for name in names:
            yield case(f"{prefix}_{name}", group, source, domains[name], seed)
    last = strong[-1]
    yield case(f"{prefix}_{last}_few", "few", source, domains[last], seed, num_unlabelled=FEW)
    yield case(f"{prefix}_{last}_labels", "labels", source, domains[last], seed, kept=half_rare)
    yield case(f"{prefix}_{last}_steep", "labels", source, domains[last], seed, kept=steep)


def agencies(domains: dict[str, Embedded], seed: int) -> Iterator[Case]:
    """Yield the texts of each agency as a target, from those that name none, and Reuters and AP from each other."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(domains["source"].labels))
    halves = [part(domains["source"], order[start::2]) for start in (0, 1)]
    yield case("news_none", "none", halves[0], halves[1], seed)
    yield case("news_none_few", "none", halves[0], halves[1], seed, num_unlabelled=FEW)
    for name in ("AP", "Reuters", "AFP"):
        yield case(f"news_{name}", "news", domains["source"], domains[name], seed, share=0.5)
    yield case("news_Reuters_AP", "news", domains["Reuters"], domains["AP"], seed, share=0.5)
    yield case("news_AP_Reuters", "news", domains["AP"], domains["Reuters"], seed, share=0.5)


def fresh(pictures: dict[str, Embedded], texts: dict[str, Embedded] | None, seed: int) -> Iterator[Case]:
    """Yield the cases on which nothing was chosen."""
    strong = ("jpeg", "turned", "grey", "tint")
    yield from controlled(pictures, seed, prefix="fresh", strong=strong, mild=("mildjpeg",))
    if texts:
        source, titles = texts["source"], texts["titles"]
        yield case("fresh_titles", "strong", source, titles, seed)
        yield case("fresh_titles_few", "few", source, titles, seed, num_unlabelled=FEW)
        yield case("fresh_titles_labels", "labels", source, titles, seed, kept=half_rare)
        yield case("fresh_titles_steep", "labels", source, titles, seed, kept=steep)
        yield case("fresh_descriptions", "strong", titles, source, seed)


def second(
    pictures: dict[str, Embedded], hands: dict[str, Embedded], texts: dict[str, Embedded] | None, seed: int
) -> Iterator[Case]:
    """Yield no shift, few samples and shifted labels, and every change alone and with each of them."""
    source, clean = pictures["source"], pictures["clean"]
    yield case("second_none", "none", source, clean, seed)
    yield case("second_none_few", "none", source, clean, seed, num_unlabelled=FEW)
    yield case("second_labels", "labels", source, clean, seed, kept=half_rare)
    yield case("second_steep", "labels", source, clean, seed, kept=steep)
    yield from each_change((pictures, hands, texts or {}), seed, prefix="second", has_few=True)


def third(
    pictures: dict[str, Embedded], hands: dict[str, Embedded], texts: dict[str, Embedded] | None, seed: int
) -> Iterator[Case]:
    """Yield cases on which no rule was chosen: every change alone and with shifted labels."""
    yield from each_change((pictures, hands, texts or {}), seed, prefix="third", has_few=False)


def each_change(sets: Iterable[dict[str, Embedded]], seed: int, *, prefix: str, has_few: bool) -> Iterator[Case]:
    for domains in sets:
        for name in [name for name in domains if name not in ("source", "clean")]:
            source, target = domains["source"], domains[name]
            group = "mild" if name.startswith("mild") else "strong"
            yield case(f"{prefix}_{name}", group, source, target, seed)
            if has_few:
                yield case(f"{prefix}_{name}_few", "few", source, target, seed, num_unlabelled=FEW)
            yield case(f"{prefix}_{name}_labels", "labels", source, target, seed, kept=half_rare)
            yield case(f"{prefix}_{name}_steep", "labels", source, target, seed, kept=steep)


def case(
    name: str, group: str, source: Embedded, target: Embedded, seed: int, *, share: float | None = None,
    num_unlabelled: int = NUM_UNLABELLED, kept: Callable[[int], NDArray[np.float64]] | None = None,
) -> Case:  # fmt: skip
    """Draw a case.

    Of the target `share`, or else `num_unlabelled` samples, are unlabelled, and the others judge; of so few that half
    are fewer, half. `kept` gives the share of each class that is left, of the number of classes.
    """
    generator = np.random.default_rng(seed)
    of_source = (
        generator.permutation(len(source.labels))[:MOST_SAMPLES] if share else generator.permutation(len(source.labels))
    )
    of_source = of_source[: round(SOURCE_SHARE * len(of_source))]
    cut = round(VAL_SHARE * len(of_source))
    of_target = generator.permutation(len(target.labels))
    if share:
        of_target = of_target[:MOST_SAMPLES]
    if kept:
        shares = kept(len(target.classes))
        of_target = of_target[generator.random(len(of_target)) < shares[target.labels[of_target]]]
    num = round(share * len(of_target)) if share else min(num_unlabelled, len(of_target) // 2)
    val, train = of_source[:cut], of_source[cut:]
    adapts, judges = of_target[:num], of_target[num:]
    return Case(
        name=name, group=group, classes=source.classes,
        train=(source.vectors[train], source.labels[train]), val=(source.vectors[val], source.labels[val]),
        unlabelled=target.vectors[adapts], hidden=target.labels[adapts],
        judges=(target.vectors[judges], target.labels[judges]),
    )  # fmt: skip


def half_rare(num_classes: int) -> NDArray[np.float64]:
    return np.where(np.arange(num_classes) % 2 == 0, RARE_SHARE, 1.0)


def steep(num_classes: int) -> NDArray[np.float64]:
    return np.maximum(np.power(STEEP, np.arange(num_classes)), LEAST_STEEP)


def part(domain: Embedded, rows: Rows) -> Embedded:
    return Embedded(vectors=domain.vectors[rows], labels=domain.labels[rows], classes=domain.classes)
