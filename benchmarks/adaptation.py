"""Measure the gain of adapting to a domain without labels, and that it does no harm where no gain is possible.

All vectors are those of frozen backbones: SqueezeNet (pooled features) for pictures, MiniLM for texts. They are
embedded once into `--cache`. Each seed draws 80 % of a source domain, a fifth of it for val, and splits the target into
samples that are learned from without labels and samples that judge alone. Groups of cases:

- pacs: every ordered pair of the domains in `--images DIR` (`DIR/domain/class/image`; by default the shared photographs
  and cartoons of PACS), 224 px; of the first two pairs also with 50 target samples and with shifted labels;
- cifar: CIFAR-10 pictures, 112 px, without a shift, with 50 target samples, with shifted labels, blurred (radius 1.2
  px), noisy (deviation 0.10), with a contrast of 0.35, mildly blurred (0.45) and mildly noisy (0.02);
- hands: photographs of signed digits under other light and before other backgrounds;
- news: AG News, from texts that name no agency to those of AP, Reuters and AFP, the names taken out;
- fresh: CIFAR-10 as JPEG of quality 8, rotated, in grey and tinted; titles of AG News for a model of their
  descriptions, and the reverse. The first form of the method and of its gate was chosen without this group;
- second: other pictures of CIFAR-10, dark, half covered, coarse, vivid and slightly zoomed; mirrored and sharpened
  hands; news cut short and with gaps;
- third: other pictures of CIFAR-10 in fog and of few colours; bright hands; news in which letters are missing. It set
  no number, but one trial of the rule for joint shifts was dropped after it had run there.

Labels are shifted twice: half of the classes at 15 %, and steeply, each class half as common as the one before it.
Methods: `auto`, each method by name, and source-only at every strength. For `gain_points` source-only has the strength
that is best on the samples that judge, a choice that no method has: the gain holds over any tuning of it. Everywhere
else it has the strength that is best on the source's val.

The oracle takes the method that is best on each case by the samples that judge. Peers are skada's methods on the same
vectors, which choose among the same strengths on the same val (`--skada FOLDER`, see benchmarks.kit.adaptation_peers).
Seconds are processor seconds of one core. Intervals are 95 % over the seeds (t distribution).

--quick: one seed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kit import domains as sets
from benchmarks.kit.adaptation_peers import find_skada, peers
from benchmarks.kit.domain_cases import Case, agencies, controlled, fresh, pairs, second, third
from benchmarks.kit.kept_rows import keep_row, read_rows
from benchmarks.kit.labelled import missing
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.summary import CONFIDENCE, mean_and_half_width
from tasks.machine.cores import one_thread_each
from tasks.targets.classes import MISSING
from tasks.training.alignment.adaptation import Adaptation, Problem, adapt
from tasks.training.alignment.domains import DomainHead, Domains, SourceDomain, TargetDomain
from tasks.training.alignment.options import AdaptOptions
from tasks.training.alignment.separation import tell_apart
from tasks.training.alignment.source_only import STRENGTHS, fit_sources

NUM_SEEDS = 5
LABELS = (1, 5, 10)  # of the target, a class
HARM = -0.5  # points
AUTO = AdaptOptions(
    targets=[], method="auto", align="coral", weights="classifier", statistics="shared", min_unlabelled=20, unlike=None
)
METHODS = {
    "auto": AUTO,
    "standardise": replace(AUTO, method="standardise"),
    "infomax": replace(AUTO, method="infomax"),
    "label_shift": replace(AUTO, method="label_shift"),
    "reweight": replace(AUTO, method="reweight"),
    "kernel": replace(AUTO, method="reweight", weights="kernel"),
    "coral": replace(AUTO, method="align", align="coral"),
    "mmd": replace(AUTO, method="align", align="mmd"),
    "dann": replace(AUTO, method="align", align="dann"),
}
SLOW_PEERS = ("kernel",)  # a minute on 2,560 source samples: on the pairs of PACS alone
UNTOUCHED = ("fresh", "second", "third")  # sets with claims of their own
CONTROLLED = ("cifar", "hands", "fresh", "second")  # sets whose cases `labels` and `steep` move nothing but the shares
STRONG = ("blur", "noise", "contrast")  # of cifar
TRAINED = ("mmd", "dann")  # methods that train an adapter, half of all the time: on two groups of cases alone
ALARM_SIZES = (30, 50, 100, 200, 400)
ALARM_DRAWS = 12


def main() -> None:
    arguments = parse_arguments()
    skipped = {}
    skada, reason = find_skada(arguments.skada)
    if reason:
        skipped["skada"] = reason
    arguments.cache.mkdir(parents=True, exist_ok=True)
    draws = {}
    for name, draw in sources_of_cases(arguments).items():
        try:
            draws[name] = draw()
        except FileNotFoundError as error:
            skipped[name] = str(error)
    rows = read_rows(arguments.keep)
    done = {(row["case"], row["seed"]) for row in rows}
    with threadpool_limits(1), one_thread_each():
        for seed in range(1 if arguments.quick else arguments.seeds):
            for name, cases in draws.items():
                for case in cases(seed):
                    if (case.name, seed) not in done:
                        show(f"seed {seed}, {case.name}")
                        rows.append(measure(case, seed, skada) | {"set": name, "seed": seed})
                        keep_row(rows[-1], arguments.keep)
        alarms = false_alarms(draws)
        seconds = seconds_of_a_stage(draws)
    finish(
        settings={"quick": arguments.quick, "seeds": arguments.seeds, "confidence": CONFIDENCE, "skipped": skipped},
        raw={"cases": summarise(rows), "half_widths": half_widths(rows), "false_alarms": alarms, "seconds": seconds},
        claims=make_claims(rows, alarms, seconds),
    )


def parse_arguments() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument(
        "--images", type=Path, help="a folder of domains: DIR/domain/class/image; default: shared PACS"
    )
    command.add_argument("--cache", type=Path, default=Path("data/scratch/domains"), help="where embeddings are kept")
    command.add_argument("--skada", type=Path, help="the folder that skada was installed into, if it is not importable")
    command.add_argument("--keep", type=Path, help="the file of finished runs, to resume from")
    command.add_argument("--seeds", type=int, default=NUM_SEEDS, help="the number of seeds; --quick takes one")
    return command.parse_args()


Draw = Callable[[int], Iterator[Case]]


def sources_of_cases(arguments: argparse.Namespace) -> dict[str, Callable[[], Draw]]:
    """Return, by the name of a set, a function that embeds it and returns the function that draws its cases."""
    cache = arguments.cache

    def shared(tar: str) -> None:
        if reason := missing(tar):
            raise FileNotFoundError(reason)

    def pacs() -> Draw:
        if not arguments.images:
            shared("pacs-photo-cartoon.tar")
        domains = sets.folder_domains(arguments.images or sets.pacs(cache), cache)
        return lambda seed: pairs(domains, seed)

    def cifar() -> Draw:
        shared("cifar10-12k.tar")
        domains = sets.cifar(cache)
        return lambda seed: controlled(domains, seed, prefix="cifar", strong=STRONG, mild=("mildblur", "mildnoise"))

    def hands() -> Draw:
        shared("sign-digits.tar")
        domains = sets.hands(cache)
        strong = ("dim", "warm", "wall", "photo", "side")
        return lambda seed: controlled(domains, seed, prefix="hands", strong=strong, mild=("mildlight",))

    def missing_news() -> str | None:
        from benchmarks.kit.news import missing as reason

        return reason()

    def news() -> Draw:
        if reason := missing_news():
            raise FileNotFoundError(reason)
        domains = sets.news(cache)
        return lambda seed: agencies(domains, seed)

    def fresh_cases() -> Draw:
        shared("cifar10-12k.tar")
        pictures = sets.fresh_cifar(cache)
        texts = None if missing_news() else sets.fresh_news(cache)
        return lambda seed: fresh(pictures, texts, seed)

    def of_three(
        cases: Callable[..., Iterator[Case]], *embedded: Callable[[Path], dict[str, sets.Embedded]]
    ) -> Draw:  # fmt: skip
        for tar in ("cifar10-12k.tar", "sign-digits.tar"):
            shared(tar)
        pictures, hands, news = embedded
        three = pictures(cache), hands(cache), None if missing_news() else news(cache)
        return lambda seed: cases(*three, seed)

    return {
        "pacs": pacs, "cifar": cifar, "hands": hands, "news": news, "fresh": fresh_cases,
        "second": partial(of_three, second, sets.second_cifar, sets.second_hands, sets.second_news),
        "third": partial(of_three, third, sets.third_cifar, sets.third_hands, sets.third_news),
    }  # fmt: skip


def measure(case: Case, seed: int, skada: Any) -> dict[str, Any]:
    """Return accuracies in per cent, and seconds, of all methods on a draw."""
    domains = domains_of(case)
    row: dict[str, Any] = {"case": case.name, "group": case.group}
    accuracies, seconds = {}, {}
    for name, options in METHODS.items():
        if name in TRAINED and case.group not in ("pacs", "strong"):
            continue
        start = time.process_time()
        adapted = adapt(domains, options, seed=seed)
        seconds[name] = time.process_time() - start
        accuracies[name] = accuracy(adapted.head, case)
        if name == "auto":
            row["auto"] = about(adapted)
            accuracies["source"] = accuracy(adapted.source_only, case)
    row |= {"accuracy": accuracies, "seconds": seconds}
    if case.group == "pacs":
        row["by_strength"] = by_strength(domains, case)
        row["labelled"] = {str(num): accuracy(with_labels(case, num, seed).head, case) for num in LABELS}
    if skada and (case.group == "pacs" or case.name in [f"cifar_{change}" for change in STRONG]):
        row["peers"] = {
            name: peer(case) for name, peer in peers(skada).items() if case.group == "pacs" or name not in SLOW_PEERS
        }
    return row


def about(found: Adaptation) -> dict[str, Any]:
    facts = found.head.facts
    keys = ("separation", "separation_at_shares", "reason")
    return {"method": found.head.method, "changed": found.changed} | {key: facts[key] for key in keys if key in facts}


def domains_of(case: Case, target: TargetDomain | None = None) -> Domains:
    source = SourceDomain(name="source", train=case.train, val=case.val)
    return Domains(
        sources=[source], target=target or TargetDomain.unlabelled(case.name, case.unlabelled), classes=case.classes
    )


def with_labels(case: Case, num: int, seed: int) -> Adaptation:
    """Adapt with the labels of `num` target samples a class."""
    generator = np.random.default_rng(seed)
    labels = np.full(len(case.hidden), MISSING)
    for label in range(len(case.classes)):
        rows = generator.permutation(np.flatnonzero(case.hidden == label))[:num]
        labels[rows] = label
    target = TargetDomain(name=case.name, vectors=case.unlabelled, labels=labels)
    return adapt(domains_of(case, target), AUTO, seed=seed)


def by_strength(domains: Domains, case: Case) -> dict[str, float]:
    """Return the accuracy of source-only at each strength."""
    problem = Problem(domains, AUTO, seed=0)
    accuracies = {}
    for l2 in STRENGTHS:
        weight, bias = fit_sources(problem.plain, domains, strengths=[l2]).layer
        accuracies[f"{l2:g}"] = accuracy(DomainHead(weight=weight, bias=bias, method="source"), case)
    return accuracies


def accuracy(head: DomainHead, case: Case) -> float:
    vectors, labels = case.judges
    return 100 * float((head.logits(vectors).argmax(axis=1) == labels).mean())


def false_alarms(found: dict[str, Draw]) -> dict[str, Any]:
    """Return the number of draws of one domain in which the gate saw two domains."""
    alarms, draws, largest = 0, 0, 0.0
    for cases in found.values():
        for case in cases(0):
            if case.group != "none" or case.name.endswith("_few"):
                continue
            for size in ALARM_SIZES:
                for number in range(ALARM_DRAWS):
                    order = np.random.default_rng((number, size)).permutation(len(case.judges[0]))
                    seen = tell_apart(case.train[0], case.judges[0][order[:size]], seed=number)
                    alarms += seen.auc >= 0.6 and seen.z >= 3
                    largest = max(largest, seen.auc)
                    draws += 1
    return {"alarms": alarms, "draws": draws, "largest_auc": largest}


def seconds_of_a_stage(found: dict[str, Draw]) -> list[float]:
    """Return the processor seconds of `auto` on 1,500 source and 750 target vectors of 512 numbers, three times."""
    case = next((case for case in found["pacs"](0) if case.group == "pacs"), None) if "pacs" in found else None
    if case is None:
        return []
    vectors, labels = (np.concatenate([part, more]) for part, more in zip(case.train, case.val, strict=True))
    rows = np.resize(np.arange(len(labels)), 1500)
    parts = [(vectors[part], labels[part]) for part in (rows[:1200], rows[1200:])]
    source = SourceDomain(name="source", train=parts[0], val=parts[1])
    target = TargetDomain.unlabelled("target", np.resize(case.unlabelled, (750, case.unlabelled.shape[1])))
    domains = Domains(sources=[source], target=target, classes=case.classes)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        adapt(domains, AUTO, seed=0)
        seconds.append(time.process_time() - start)
    return seconds


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each case: means over the seeds, and the half width of the interval of each gain."""
    summary = []
    for name in dict.fromkeys(row["case"] for row in rows):
        runs = [row for row in rows if row["case"] == name]
        entry = {"case": name, "set": runs[0]["set"], "group": runs[0]["group"], "num_runs": len(runs)}
        entry["accuracy"] = {method: mean(runs, method) for method in runs[0]["accuracy"]}
        entry["gain"], entry["gain_half_width"] = mean_and_half_width([gain(run) for run in runs])
        entry["gains"] = [gain(run) for run in runs]
        entry["auto"] = [run["auto"] for run in runs]
        entry["seconds"] = {key: statistics.median(run["seconds"][key] for run in runs) for key in runs[0]["seconds"]}
        if "labelled" in runs[0]:
            entry["source_best_in_hindsight"] = best_in_hindsight(runs)
            entry["labelled"] = {
                key: statistics.mean(run["labelled"][key] for run in runs) for key in runs[0]["labelled"]
            }
        if "peers" in runs[0]:
            entry["peers"] = {
                key: {
                    "accuracy": 100 * statistics.mean(run["peers"][key]["accuracy"] for run in runs),
                    "seconds": statistics.median(run["peers"][key]["seconds"] for run in runs),
                }
                for key in runs[0]["peers"]
            }
        summary.append(entry)
    return summary


def mean(runs: Sequence[dict[str, Any]], method: str) -> float:
    return statistics.mean(float(run["accuracy"][method]) for run in runs)


def gain(run: dict[str, Any], method: str = "auto") -> float:
    return float(run["accuracy"][method] - run["accuracy"]["source"])


def best_in_hindsight(runs: Sequence[dict[str, Any]]) -> float:
    """Return the mean accuracy of source-only at the strength that is best on the samples that judge."""
    strengths = runs[0]["by_strength"]
    return max(statistics.mean(float(run["by_strength"][l2]) for run in runs) for l2 in strengths)


def half_widths(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the half width of the interval of each claim that differs from seed to seed, from its value at each."""
    values: dict[str, list[float]] = {}
    for seed in dict.fromkeys(row["seed"] for row in rows):
        for claim in make_claims([row for row in rows if row["seed"] == seed], {"draws": 0}, []):
            if "cases_below" not in claim.name:  # a count over the means of all seeds
                values.setdefault(claim.name, []).append(claim.value)
    return {name: mean_and_half_width(its)[1] for name, its in values.items()}


def make_claims(rows: Sequence[dict[str, Any]], alarms: dict[str, Any], seconds: Sequence[float]) -> list[Claim]:
    """Return the claims on the runs. Those on false alarms and seconds stay away where they were not measured."""
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    gains = {name: statistics.mean(map(gain, runs)) for name, runs in by_case.items()}
    claims = []

    def claim(name: str, value: float, target: float, *, at_least: bool = True) -> None:
        claims.append(Claim(name=f"adaptation.{name}", value=value, target=target, at_least=at_least))

    for pair, accuracy_target, gain_target in (("photo_cartoon", 52, 24), ("cartoon_photo", 86, 10)):
        if pair in by_case:
            reached = mean(by_case[pair], "auto")
            claim(f"accuracy.{pair}", reached / 100, accuracy_target / 100)
            claim(f"gain_points.{pair}", reached - best_in_hindsight(by_case[pair]), gain_target)
    for name, cases, target in (
        ("gain_points.controlled", [f"cifar_{change}" for change in STRONG], 12.0),
        ("no_shift_points", [name for name, runs in by_case.items() if runs[0]["group"] == "none"], HARM),
        ("label_shift_points", [f"{name}_{kind}" for name in CONTROLLED for kind in ("labels", "steep")], 0.0),
    ):
        known = [gains[case] for case in cases if case in gains]
        if known:
            claim(name, statistics.mean(known) if "controlled" in name else min(known), target)
    for group in ("", *UNTOUCHED):
        these = {name: runs for name, runs in by_case.items() if group in ("", runs[0]["set"])}
        if not these:
            continue
        ending = f".{group}" if group else ""
        runs_of = [gain(run) for runs in these.values() for run in runs]
        claim(f"cases_below_half_point{ending}", sum(gains[name] < HARM for name in these), 0, at_least=False)
        claim(
            f"runs_below_half_point_fraction{ending}", statistics.mean(value < HARM for value in runs_of), 0.05,
            at_least=False,
        )  # fmt: skip
        oracle = sum(
            max(mean(runs, method) for method in runs[0]["accuracy"]) - mean(runs, "source") for runs in these.values()
        )
        claim(f"oracle_share{ending}", sum(gains[name] for name in these) / oracle, 0.75)
    for num, target in zip(LABELS, (18.0, 26.0, 30.0), strict=True):
        labelled = [row["labelled"][str(num)] - row["accuracy"]["source"] for row in rows if "labelled" in row]
        if labelled:
            claim(f"labelled_gain_points.{num}", statistics.mean(labelled), target)
    if alarms["draws"]:
        claim("detection_false_alarms", alarms["alarms"] / alarms["draws"], 0.02, at_least=False)
    if seconds:
        claim("seconds", statistics.median(seconds), 3.0, at_least=False)
    for name in dict.fromkeys(name for row in rows for name in row.get("peers", ())):
        with_peers = [row for row in rows if name in row.get("peers", ())]
        ahead = [row["accuracy"][name] - 100 * row["peers"][name]["accuracy"] for row in with_peers]
        claim(f"accuracy_over_peer_points.{name}", statistics.mean(ahead), -1.0)
        ratios = [row["seconds"][name] / row["peers"][name]["seconds"] for row in with_peers]
        claim(f"time_over_peer.{name}", statistics.median(ratios), 1.0, at_least=False)
    return claims


if __name__ == "__main__":
    main()
