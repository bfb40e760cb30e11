"""Measure how often the gate is wrong: draw pairs of models at random, and judge them as the gate does.

The whole gate is a table: 200, 1,000 and 5,000 held-out samples in groups of 1 to 10, of which a part flips together;
2, 10 and 100 classes; shares of flips as models of one recipe with other seeds have (`python -m flows.churn` measures
them). Equal models have as many negative flips as positive ones. A true loss has more negative ones, evenly on all
slices, which are the classes, five batches and three sizes of random, unequal shares.

No constant of the gate was chosen by the second group of cells: other sizes, classes and seeds, and groups of uneven
sizes (`UNEVEN`), whose samples are right together as well, so that the floors are judged by groups, too.

- false_block_rate: the share of equal models that the gate rejects, in the worst cell. Floors are on, and as high as
  the true shares: their part is added.
- accepts_loss_of_delta: the share of models that lost the margin and that the gate accepts, in the worst cell, or
  accepts in any of 50 decisions on one comparison.
- power_3_points_at_1000: the share of models that lost 3 points that are not put in use without a person, at 1,000
  held-out samples alone in their groups, and up to `MOST_FLIPS` flips. The table has those that are rejected, and those
  that wait, apart.
- creep_points_after_20: how many points are lost after 20 promotions, or 100 nights, in which every candidate is half a
  point worse than the model in use, and no person looks.
- passes_alone_at_1000: the share of nights in which an equal model is put in use without a person, at 1,000 held-out
  samples and up to `MOST_FLIPS` flips; a person puts the others in use.

The other kinds of targets compare errors: `skewed` ones of a number (a difficulty of the sample that both models share,
times what each adds, both lognormal), and `steps` of a scale, which differ on one sample in ten.

- false_block_rate_of_errors: the share of equal models that the gate rejects, in the worst cell.
- power_at_smallest_detectable: the share of rejected models among those whose errors rose by the amount that the gate
  says it detects with a probability of 80 %, in the worst cell.

With --quick a tenth of the draws.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from tasks.gate.anchor import BETTER
from tasks.gate.comparison import SLICES_SHARE, Comparison, compare_slices, is_doubtful
from tasks.gate.floor import FLOORS_SHARE, least_share
from tasks.gate.options import GateOptions
from tasks.gate.tries import lead_of_try, level_of_try
from tasks.metrics.accuracy import design_effect
from tasks.metrics.paired import Paired, joint_p_values, paired_errors, tail, tango
from tasks.metrics.significance import sign_flips_of_counts
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent
NUM_DRAWS = 10_000
NUM_OF_SLICES = 2_000  # draws whose slices are tested
NUM_OF_LOSSES = 2_000  # draws of models that lost something
NUM_SIGNS = 499  # random choices of signs; the gate has more
SIZES = (200, 1000, 5000)  # held-out samples
CLASSES = (2, 10, 100)
GROUPS = (1, 2, 5, 10)  # samples in a group
FLIPS = (0.04, 0.12, 0.2)  # shares of the samples
TOGETHER = (0.3, 1.0)  # shares of the groups that flip as a whole
# as many as a network has that is fine-tuned on 10,000 images of CIFAR-10 and 73 % right; on sign-digits it is 0.2 %
MOST_FLIPS = 0.12
LOSS = 0.03
OTHER_SLICES = {"batch": 5, "size": 3}
DECISIONS = 50
STEP = 0.005  # the loss of each candidate, beside the model in use, of those that creep
PROMOTIONS, NIGHTS, CHAINS = 20, 100, 200
FLOOR = 0.95
OTHER_SIZES, OTHER_CLASSES, OTHER_FLIPS, OTHER_TOGETHER = (350, 2500), (7, 50), (0.02, 0.03, 0.1), (0.6, 1.0)
UNEVEN = {"half in tens": (0.5, 10), "a fifth in tens": (0.2, 10), "half in thirties": (0.5, 30), "fours": (1.0, 4)}
SIZES_OF_ERRORS = (200, 1000)
ERRORS = ("skewed", "steps")
NUM_OF_ERRORS, NUM_ASKED = 2_000, 50

Array = NDArray[Any]


def main() -> None:
    part = 10 if parse_arguments(__doc__).quick else 1
    params = load_params(ROOT / "params.yaml").regression
    assert params.margin is not None
    show("the table")
    table = [
        row_of(n, size=size, together=together, flips=flips, loss=loss, params=params, part=part)
        for n in SIZES
        for size in GROUPS
        for together in (TOGETHER if size > 1 else (1.0,))
        for flips in FLIPS
        for loss in (0.0, params.margin, LOSS)
    ]
    show("the slices")
    of_slices = [
        row_of_slices(n, size=size, flips=flips, num_classes=num_classes, params=params, part=part)
        for n in SIZES
        for size in GROUPS
        for flips in FLIPS
        for num_classes in CLASSES
    ]
    floors = [row_of_floors(n, num_classes=num, params=params, part=part) for n in SIZES for num in CLASSES]
    show("groups of uneven sizes")
    uneven = [
        row_of_uneven(n, groups=groups, together=together, flips=flips, loss=loss, params=params, part=part)
        for n in OTHER_SIZES
        for groups in UNEVEN
        for together in OTHER_TOGETHER
        for flips in OTHER_FLIPS
        for loss in (0.0, params.margin)
    ]
    floors_by_groups = [
        row_of_floors_by_groups(n, groups=groups, num_classes=num, params=params, part=part)
        for n in OTHER_SIZES
        for groups in UNEVEN
        for num in OTHER_CLASSES
    ]
    show("fifty decisions, and creep")
    tries = [
        row_of_tries(n, size=size, flips=flips, params=params, part=part)
        for n in SIZES
        for size in GROUPS
        for flips in FLIPS
    ]
    chains = [
        row_of_chains(n, flips=flips, step=step, params=params, part=part)
        for n in SIZES
        for flips in FLIPS
        for step in (0.0, STEP)
    ]
    show("errors of other kinds")
    of_errors = [row for n in SIZES_OF_ERRORS for kind in ERRORS for row in rows_of_errors(n, kind, params, part)]

    by_slices = {(row["n"], row["group"], row["flips"]): 0.0 for row in of_slices}
    for row in of_slices:
        place = row["n"], row["group"], row["flips"]
        by_slices[place] = max(by_slices[place], row["blocked_by_slices_alone"])
    of_floors = {n: max(row["blocked"] for row in floors if row["n"] == n) for n in SIZES}
    equal = [row for row in table if not row["loss"]]
    false = [row["blocked"] + by_slices[row["n"], row["group"], row["flips"]] for row in equal]
    with_floors = [
        row["blocked_beside_floors"] + by_slices[row["n"], row["group"], row["flips"]] + of_floors[row["n"]]
        for row in equal
    ]
    by_groups = max(row["blocked"] for row in floors_by_groups)
    slices_alone = float(np.mean([row["blocked_by_slices_alone"] for row in of_slices]))
    false += [row["blocked"] + slices_alone for row in uneven if not row["loss"]]
    with_floors += [row["blocked_beside_floors"] + slices_alone + by_groups for row in uneven if not row["loss"]]
    shown = [row["accepted"] for row in [*table, *uneven] if row["loss"] == params.margin]
    at_1000 = [row for row in table if row["n"] == 1000 and row["group"] == 1 and row["flips"] <= MOST_FLIPS]
    caught = [row["blocked"] + row["waits"] for row in at_1000 if row["loss"] == LOSS]
    creep = [100 * row["lost"] for row in chains if row["step"]]
    alone = [row["passes"] for row in chains if not row["step"] and row["n"] == 1000 and row["flips"] <= MOST_FLIPS]
    finish(
        settings={"part": part, "significance": params.significance, "margin": params.margin},
        raw={
            "table": table, "slices": of_slices, "floors": floors, "tries": tries, "chains": chains,
            "errors": of_errors, "uneven": uneven, "floors_by_groups": floors_by_groups,
        },
        claims=[
            Claim(name="gate.false_block_rate", value=float(max(*false, *with_floors)), target=0.05, at_least=False),
            Claim(
                name="gate.accepts_loss_of_delta", target=0.05, at_least=False,
                value=float(max(*shown, *(row["accepted_ever"] for row in tries))),
            ),
            Claim(name="gate.power_3_points_at_1000", value=float(min(caught)), target=0.8, at_least=True),
            Claim(
                name="gate.creep_points_after_20", target=100 * params.margin, at_least=False, value=float(max(creep))
            ),
            Claim(name="gate.passes_alone_at_1000", value=float(min(alone)), target=0.5, at_least=True),
            Claim(
                name="gate.false_block_rate_of_errors", target=0.05, at_least=False,
                value=max(row["rate"] for row in of_errors if not row["rise"]),
            ),
            Claim(
                name="gate.power_at_smallest_detectable", target=0.78, at_least=True,
                value=min(row["rate"] for row in of_errors if row["rise"]),
            ),
        ],
    )  # fmt: skip


def row_of(
    n: int, *, size: int, together: float, flips: float, loss: float, params: GateOptions, part: int
) -> dict[str, Any]:
    """Return how often the whole set blocks, accepts, passes undecided or waits, in a first decision."""
    generator = np.random.default_rng([n, size, round(100 * together), round(100 * flips), round(1000 * loss)])
    draws = (NUM_OF_LOSSES if loss else NUM_DRAWS) // part
    margin = params.margin or 0.0
    counts = {"blocked": 0.0, "blocked_beside_floors": 0.0, "accepted": 0.0, "passes": 0.0}
    at_once = max(10**7 // n, 1)
    for start in range(0, draws, at_once):
        num = min(at_once, draws - start)
        losses = draw(generator, num, n // size, size, flips=flips, loss=loss, together=together)
        sums = losses.sum(axis=2, dtype=np.int64)
        negative, positive = (losses > 0).sum(axis=(1, 2)), (losses < 0).sum(axis=(1, 2))
        z = score(negative, positive, (sums**2).sum(axis=1), n=n, size=size, margin=margin)
        flips_or_margin = np.maximum(negative + positive, n * margin)
        is_shown = tail(z, flips=flips_or_margin, size=size) < level_of_try(params.significance, earlier=0)
        p_values = binom.sf(negative - 1, negative + positive, 0.5) if size == 1 else p_values_of(sums)
        for name, share in (("blocked", 1.0), ("blocked_beside_floors", 1 - FLOORS_SHARE)):
            is_worse = p_values < params.significance * share * (1 - SLICES_SHARE)
            counts[name] += (is_worse & ~is_shown).sum() / draws
        is_worse = p_values < params.significance * (1 - SLICES_SHARE)
        counts["accepted"] += is_shown.sum() / draws
        counts["passes"] += (~is_shown & ~is_worse & (negative <= positive)).sum() / draws
    counts["waits"] = 1 - counts["blocked"] - counts["accepted"] - counts["passes"]
    rates = {name: float(rate) for name, rate in counts.items()}
    return {"n": n, "group": size, "together": together, "flips": flips, "loss": loss} | rates


def draw(
    generator: np.random.Generator, num: int, num_groups: int, size: int, *, flips: float, loss: float, together: float
) -> Array:
    """Return the losses (num, num_groups, size) of candidates: 1, -1 or 0 for each sample."""
    draws = generator.random((num, num_groups, size), dtype=np.float32)
    if size > 1:
        is_one = generator.random((num, num_groups, 1)) < together
        draws = np.where(is_one, generator.random((num, num_groups, 1), dtype=np.float32), draws)
    negative, positive = (flips + loss) / 2, (flips - loss) / 2
    return (draws < negative).astype(np.int8) - ((draws >= negative) & (draws < negative + positive)).astype(np.int8)


def score(negative: Array, positive: Array, squares: Array, *, n: int, size: int, margin: float) -> Array:
    """Return z that the loss is below the margin, (num,), as `Paired.score` does for groups of one size.

    squares: the sum of the squares of the groups' losses.
    """
    lost = negative - positive
    between = n * size * margin**2 - 2 * margin * size * lost + squares
    within = n * margin**2 - 2 * margin * lost + negative + positive
    effect = np.maximum((between + size**2) / (within + size), 1)
    z: Array = tango(negative, positive, n, margin, effect)
    return z


def p_values_of(sums: Array) -> Array:
    """Return the p-values of the exact sign-flip test; that of equal counts is computed once."""
    return np.array([p_value_of(tuple(np.bincount(row + 10, minlength=21).tolist())) for row in sums])


@lru_cache(maxsize=100_000)
def p_value_of(counts: tuple[int, ...]) -> float:
    """Return the p-value of groups whose sums are -10 to 10, of each so many."""
    return sign_flips_of_counts(np.repeat(np.arange(-10.0, 11.0), counts))


def row_of_slices(
    n: int, *, size: int, flips: float, num_classes: int, params: GateOptions, part: int
) -> dict[str, Any]:
    """Return how often slices alone block equal models, and leave a doubt about them; groups flip as a whole."""
    generator = np.random.default_rng([n, size, round(100 * flips), num_classes, 1])
    draws = NUM_OF_SLICES // part // (2 if n > 1000 else 1)
    groups = np.repeat(np.arange(n // size), size)
    blocked = doubted = 0
    for number in range(draws):
        if number % 50 == 0:
            members = list(draw_slices(generator, n, num_classes).values())
        losses = draw(generator, 1, n // size, size, flips=flips, loss=0.0, together=1.0).reshape(-1).astype(float)
        whole = Paired(losses=losses, groups=groups, is_of_classes=True)
        p_values = joint_p_values(whole, members, num_flips=NUM_SIGNS)
        significance, level = params.significance, level_of_try(params.significance, earlier=0)
        limits: dict[str, Any] = {
            "significance": significance * SLICES_SHARE,
            "margin": params.slice_margin,
            "level": level,
        }
        worst = [place for place, p_value in enumerate(p_values) if p_value < 2 * significance]
        comparisons = [
            Comparison(paired=whole.of(members[place]), p_value=p_values[place], significance_alone=0.0, **limits)
            for place in worst
        ]
        is_blocked = any(comparison.is_worse for comparison in comparisons)
        blocked += is_blocked and whole.p_value >= significance * (1 - SLICES_SHARE)
        doubted += not is_blocked and any(
            is_doubtful(comparison, significance=significance) for comparison in comparisons
        )
    rates = {"blocked_by_slices_alone": float(blocked / draws), "doubts": float(doubted / draws)}
    return {"n": n, "group": size, "flips": flips, "classes": num_classes} | rates


def draw_slices(generator: np.random.Generator, n: int, num_classes: int) -> dict[str, NDArray[np.bool_]]:
    """Return the members (n,) of each slice."""
    slices: dict[str, NDArray[np.bool_]] = {}
    for column, number in ({"class": num_classes} | OTHER_SLICES).items():
        shares = generator.dirichlet(np.full(number, 3.0))
        values = generator.choice(number, size=n, p=shares)
        slices |= {f"{column} {value}": values == value for value in range(number)}
    return slices


def row_of_floors(n: int, *, num_classes: int, params: GateOptions, part: int) -> dict[str, Any]:
    """Return how often floors of accuracy and recall block a model whose true shares are its floors.

    It is the same in each of fifty decisions: no floor rises.
    """
    generator = np.random.default_rng([n, num_classes, 2])
    draws = NUM_DRAWS // part
    counts = generator.multinomial(n, generator.dirichlet(np.full(num_classes, 3.0)))
    counts = counts[counts > 0]
    hits = generator.binomial(counts, FLOOR, (draws, len(counts)))
    level = params.significance * FLOORS_SHARE / 2  # of two floors
    judged = [place for place, num in enumerate(counts) if least_share(FLOOR, num_samples=num, level=level)]
    of_class = level / max(len(judged), 1)
    is_low = np.array(
        [hits[:, at] / counts[at] < least_share(FLOOR, num_samples=counts[at], level=of_class) for at in judged]
    )
    overall = hits.sum(axis=1) / n < least_share(FLOOR, num_samples=n, level=level)
    is_blocked = overall | is_low.any(axis=0) if len(judged) else overall
    return {"n": n, "classes": num_classes, "blocked": float(is_blocked.mean())}


def row_of_uneven(
    n: int, *, groups: str, together: float, flips: float, loss: float, params: GateOptions, part: int
) -> dict[str, Any]:
    """Return how often the whole set blocks or accepts in a first decision, where groups are of uneven sizes."""
    place = list(UNEVEN).index(groups)
    generator = np.random.default_rng([n, place, round(100 * together), round(100 * flips), round(1000 * loss), 5])
    numbers = uneven_groups(n, groups)
    draws = (NUM_OF_LOSSES if loss else 2 * NUM_OF_LOSSES) // part
    counts = {"blocked": 0.0, "blocked_beside_floors": 0.0, "accepted": 0.0}
    for _ in range(draws):
        drawn = draw_alike(generator, numbers, together=together)
        losses = (drawn < (flips + loss) / 2).astype(float) - (drawn > 1 - (flips - loss) / 2)
        paired = Paired(losses=losses, groups=numbers, is_of_classes=True)
        is_shown = paired.p_value_of_margin(params.margin or 0.0) < level_of_try(params.significance, earlier=0)
        counts["accepted"] += is_shown / draws
        if loss or is_shown or paired.mean <= 0:  # only equal models are counted as blocked
            continue
        for name, share in (("blocked", 1.0), ("blocked_beside_floors", 1 - FLOORS_SHARE)):
            counts[name] += (paired.p_value < params.significance * share * (1 - SLICES_SHARE)) / draws
    return {"n": n, "groups": groups, "together": together, "flips": flips, "loss": loss} | counts


def row_of_floors_by_groups(n: int, *, groups: str, num_classes: int, params: GateOptions, part: int) -> dict[str, Any]:
    """Return how often both floors block a model whose true shares are its floors, and whose groups are right whole."""
    generator = np.random.default_rng([n, list(UNEVEN).index(groups), num_classes, 6])
    numbers, draws, blocked = uneven_groups(n, groups), NUM_OF_SLICES // part, 0
    shares = generator.dirichlet(np.full(num_classes, 3.0))
    level = params.significance * FLOORS_SHARE / 2  # of two floors
    for _ in range(draws):
        labels = generator.choice(num_classes, numbers.max() + 1, p=shares)[numbers]
        is_right = draw_alike(generator, numbers, together=1.0) < FLOOR
        nums = {label: effective(is_right, numbers, labels == label) for label in np.unique(labels)}
        judged = [label for label, num in nums.items() if least_share(FLOOR, num_samples=num, level=level)]
        limits = {label: least_share(FLOOR, num_samples=nums[label], level=level / len(judged)) for label in judged}
        overall = least_share(FLOOR, num_samples=effective(is_right, numbers, labels >= 0), level=level)
        is_low = any(is_right[labels == label].mean() < limit for label, limit in limits.items())
        blocked += is_low or is_right.mean() < overall
    return {"n": n, "groups": groups, "classes": num_classes, "blocked": blocked / draws}


def uneven_groups(n: int, groups: str) -> NDArray[np.int64]:
    """Return (about n,) the number of each sample's group: a share of the samples is in groups of one size."""
    share, size = UNEVEN[groups]
    sizes = [1] * round(n * (1 - share)) + [size] * round(n * share / size)
    return np.repeat(np.arange(len(sizes)), sizes)


def draw_alike(generator: np.random.Generator, numbers: NDArray[np.int64], *, together: float) -> Array:
    """Return (n,) draws from 0..1; a share of the groups has one for all its samples."""
    num_groups = numbers.max() + 1
    is_one, common = generator.random(num_groups) < together, generator.random(num_groups)
    return np.where(is_one[numbers], common[numbers], generator.random(len(numbers)))


def effective(is_right: Array, numbers: NDArray[np.int64], rows: Array) -> float:
    """Return the number of independent samples that the rows are worth."""
    hits = is_right[rows]
    return len(hits) / design_effect(hits, np.unique(numbers[rows], return_inverse=True)[1])


def row_of_tries(n: int, *, size: int, flips: float, params: GateOptions, part: int) -> dict[str, Any]:
    """Return how often any of many tries that lost the margin is accepted; whole groups flip.

    `passes_ever` is the share of models of which a first, second, … fifth try passes undecided, without a person.
    """
    generator = np.random.default_rng([n, size, round(100 * flips), 3])
    margin, num_groups = params.margin or 0.0, n // size
    shares = [(flips + margin) / 2, (flips - margin) / 2, 1 - flips]
    counts = generator.multinomial(num_groups, shares, (NUM_OF_LOSSES // part, DECISIONS))
    negative, positive = size * counts[..., 0], size * counts[..., 1]
    squares = size * (negative + positive)
    levels = np.array([level_of_try(params.significance, earlier=earlier) for earlier in range(DECISIONS)])
    leads = np.array([lead_of_try(earlier=earlier) for earlier in range(DECISIONS)])
    z = score(negative, positive, squares, n=n, size=size, margin=margin)
    is_shown = tail(z, flips=np.maximum(negative + positive, n * margin), size=size) < levels
    passes = ~is_shown & (negative - positive + leads * np.sqrt(squares) <= 0)
    rates = {"accepted_ever": is_shown.any(axis=1).mean(), "passes_within_5": passes[:, :5].any(axis=1).mean()}
    return {"n": n, "group": size, "flips": flips} | {name: float(rate) for name, rate in rates.items()}


def row_of_chains(n: int, *, flips: float, step: float, params: GateOptions, part: int) -> dict[str, Any]:
    """Return the outcome of many nights in which each candidate is `step` worse than the model in use.

    A person puts waiting candidates in use where models are equal (a `step` of 0). Other waiting candidates are not put
    in use. The held-out set stays the same.

    Returns:
        lost: the mean loss of true accuracy after PROMOTIONS, or after NIGHTS; promotions: their mean number; passes:
        the share of the nights in which a candidate was put in use without a person.
    """
    generator = np.random.default_rng([n, round(100 * flips), round(1e4 * step), 4])
    chains, margin = CHAINS // part, params.margin or 0.0
    accuracy = np.full(chains, 0.9)
    in_use = generator.random((chains, n)) < 0.9
    anchor, is_anchor = in_use.copy(), np.ones(chains, bool)
    tries, row, promotions, nights, num_passed = (np.zeros(chains, int) for _ in range(5))
    for _ in range(NIGHTS):
        is_on = promotions < PROMOTIONS
        nights += is_on
        shares = (flips + step) / 2 / accuracy, (flips - step) / 2 / (1 - accuracy)
        is_flipped = generator.random((chains, n), dtype=np.float32) < np.where(
            in_use, shares[0][:, None], np.minimum(shares[1], 1)[:, None]
        )
        candidate = in_use ^ is_flipped
        negative, positive = counted(candidate, in_use)
        levels = norm.isf([level_of_try(params.significance, earlier=number) for number in tries])
        leads = np.array([lead_of_try(earlier=number) for number in tries])
        is_shown = score(negative, positive, negative + positive, n=n, size=1, margin=margin) > levels
        is_worse = binom.sf(negative - 1, negative + positive, 0.5) < params.significance * (1 - SLICES_SHARE)
        lost, won = counted(candidate, anchor)
        is_held = is_anchor | (score(lost, won, lost + won, n=n, size=1, margin=margin) > levels)
        is_ahead = (row < params.max_undecided) & (negative - positive + leads * np.sqrt(negative + positive) <= 0)
        is_near = is_held | (
            (row < params.max_undecided) & (lost - won + leads * np.sqrt(lost + won) <= n * margin / 2)
        )
        is_accepted = is_shown & is_held
        passes = is_on & (is_shown | (~is_worse & is_ahead)) & is_near
        num_passed += passes
        is_promoted = passes | (is_on & (is_shown | ~is_worse)) if not step else passes
        tries = np.where(is_promoted, 0, tries + 1)
        row = np.where(passes, np.where(is_accepted, 0, row + 1), np.where(is_promoted, 0, row))
        in_use = np.where(is_promoted[:, None], candidate, in_use)
        accuracy, promotions = accuracy - step * is_promoted, promotions + is_promoted
        lost, won = counted(in_use, anchor)
        is_better = is_promoted & (binom.sf(won - 1, lost + won, 0.5) < BETTER)
        anchor = np.where(is_better[:, None], in_use, anchor)
        is_anchor = np.where(is_promoted, is_better, is_anchor)
    means = {
        "lost": (0.9 - accuracy).mean(),
        "promotions": promotions.mean(),
        "passes": num_passed.sum() / nights.sum(),
    }
    return {"n": n, "flips": flips, "step": step} | {name: float(value) for name, value in means.items()}


def counted(candidate: Array, other: Array) -> tuple[Array, Array]:
    """Return the numbers (chains,) of negative and positive flips."""
    return (other & ~candidate).sum(axis=1), (candidate & ~other).sum(axis=1)


def rows_of_errors(n: int, kind: str, params: GateOptions, part: int) -> list[dict[str, Any]]:
    """Return the blocked share of equal models, and of those whose errors rose by the smallest detectable effect."""
    seed, draws = [n, ERRORS.index(kind)], NUM_OF_ERRORS // part
    equal = blocked_by_errors(n, kind, 0.0, [*seed, 0], draws, params)
    rise = equal["smallest_detectable"]
    for _ in range(8):  # more answers differ after a rise, which raises the smallest detectable one
        rise = blocked_by_errors(n, kind, rise, [*seed, 1], NUM_ASKED, params)["smallest_detectable"]
    worse = blocked_by_errors(n, kind, rise, [*seed, 2], draws, params)
    return [{"n": n, "errors": kind, "rise": 0.0} | equal, {"n": n, "errors": kind, "rise": rise} | worse]


def blocked_by_errors(
    n: int, kind: str, rise: float, seed: list[int], draws: int, params: GateOptions
) -> dict[str, float]:
    """Return the blocked share of candidates whose errors rose, and the mean of the smallest detectable rises."""
    generator = np.random.default_rng(seed)
    count, detectable = 0, []
    level = level_of_try(params.significance, earlier=0)
    for number in range(draws):
        baseline, candidate = draw_errors(generator, n, kind=kind, rise=rise)
        whole = paired_errors(candidate=candidate, other=baseline, groups=np.arange(n))
        members = draw_slices(generator, n, 10)
        is_worse = whole.p_value < params.significance * (1 - SLICES_SHARE)
        if not is_worse:
            p_values = joint_p_values(whole, list(members.values()), num_flips=NUM_SIGNS)
            is_worse = p_values.min() < params.significance * SLICES_SHARE
        count += is_worse
        if number < NUM_ASKED:
            limits: dict[str, Any] = {
                "significance": params.significance,
                "margin": None,
                "slice_margin": None,
                "level": level,
            }
            some = {name: members[name] for name in list(members)[:1]}
            detectable.append(compare_slices(whole, some, **limits)[0].smallest_detectable or 0.0)
    return {"rate": float(count / draws), "smallest_detectable": float(np.mean(detectable))}


def draw_errors(
    generator: np.random.Generator, n: int, *, kind: str, rise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the errors (n,) of baseline and candidate."""
    if kind == "skewed":
        difficulty = generator.lognormal(0.0, 1.0, n)
        baseline, candidate = difficulty * generator.lognormal(0.0, 0.5, (2, n))
        return baseline, candidate + rise
    baseline = generator.choice(3, n, p=[0.8, 0.15, 0.05]).astype(float)
    is_changed = generator.random(n) < 0.1
    other = generator.choice(3, n, p=[0.8, 0.15, 0.05]).astype(float)
    swapped = generator.random(n) < 0.5  # so that neither is better
    first, second = np.where(is_changed, other, baseline), baseline
    return np.where(swapped, first, second), np.where(swapped, second, first) + (generator.random(n) < rise)


if __name__ == "__main__":
    main()
