"""Candidate, baseline and the held-out samples in; predictions, metrics and plot data out. It judges nothing."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.admission.options import Split
from tasks.data.admission.splits import held_out_before, read_split
from tasks.data.health.clusters import clusters
from tasks.data.health.leaks import is_leaked, leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import domains_of, read_manifest, version_of
from tasks.data.manifest.tables import write_plotted, write_table, write_text_table
from tasks.data.raw.entries import KEYS
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.data.vectors.tensors import Tensor, write_tensors
from tasks.machine.extras import require
from tasks.machine.files import read_json, sha256, whole_folder, write_json
from tasks.machine.names import on_one_line
from tasks.machine.progress import progress
from tasks.metrics.answered import Answered
from tasks.metrics.calibration import reliability
from tasks.metrics.domains import measure_domains
from tasks.metrics.forms import measure_form
from tasks.metrics.kinds import KINDS
from tasks.metrics.measures import is_known, measure, names_without_samples, share_unchanged
from tasks.metrics.outcomes import GENERAL
from tasks.metrics.projection import project
from tasks.metrics.slices import check_slices, slice_table
from tasks.models.bundle import WEIGHTS, check_baseline, folder_bytes, load_bundle
from tasks.prediction.answers import Answerer, TargetAnswers, answers_of_words
from tasks.prediction.answers import answers as answers_of_heads
from tasks.prediction.heldout import Parts, ask, in_names_of, joined_tables, prediction_table, words_of
from tasks.prediction.latency import latency
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import EvaluateParams
from tasks.targets.classes import Classes
from tasks.targets.head import load_heads
from tasks.targets.kinds import target_of
from tasks.targets.ordinal import Ordinal
from tasks.targets.target import Target, Truths
from tasks.text.words import load_vocabulary

if TYPE_CHECKING:  # few projects ask for other forms
    from tasks.prediction.forms import Form

logger = logging.getLogger("graftline")

NO_CONFUSION = pd.DataFrame(columns=["target", "label", "candidate"], dtype=str)
NO_RELIABILITY = pd.DataFrame(columns=["confidence", "accuracy", "count", "target"])
CLUSTER = "cluster"  # a column with the group of a sample, where samples come in groups
DOMAIN = "domain"  # a column with the domain whose head answered, where a model has heads of domains
WORDS_ALONE = "words_alone"  # the name of the head's words; the manifest has the number of words as `words`


def run(
    *,
    manifests: Path,
    split: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    embeddings: Path,
    store: Path,
    head: Path,
    candidate: Path,
    baseline_record: Path,
    baseline: Path,
    out: Path,
    evaluate: EvaluateParams,
    modality: Modality,
    seed: int,
) -> None:
    """Measure the candidate, the head alone, its words alone and the model in use on the same held-out samples."""
    if evaluate.forms:
        require("export")
    manifest = read_manifest(manifests, read_batches(batches))
    is_heldout = (manifest["split"] == "heldout").to_numpy()
    rows = manifest[is_heldout].reset_index(drop=True)
    domains = domains_of(rows)
    check_slices(rows.assign(**{DOMAIN: domains}), evaluate.slices)
    parts = parts_of(modality, evaluate.perturbations)
    model, lineage = load_bundle(candidate)
    targets = model.targets
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    show = partial(progress, what="evaluate", unit="minibatches")
    forms: dict[str, Form] = {}
    if evaluate.forms:
        from tasks.prediction.forms import ask_forms

        samples_of = partial(Samples, raw=raw, decode=parts.decode, read=parts.read)
        may_train = (manifest["split"] == "train").to_numpy() & ~leaves_training(manifest, audit)
        of_train = samples_of(manifest[may_train].sort_values("sample_id"))
        forms, beside = ask_forms(model, lineage, evaluate.forms, samples_of(rows), of_train=of_train, show=show)
        model, lineage = load_bundle(candidate)
    leaked = is_leaked(rows, audit)
    cluster = clusters(rows, audit)
    answerers = {"candidate": Answerer(model, minibatch_size=evaluate.minibatch_size)}
    record = read_json(baseline_record)
    in_use = record.get("model_sha256")
    known: dict[str, Target] = {}
    is_new = np.ones(len(rows), dtype=bool)  # to the model in use
    if in_use is not None:
        check_baseline(baseline, record)
        model, learned = load_bundle(baseline)
        if (own := model.backbone.transform.modality) != modality:
            raise ValueError(
                f"the model in use reads {own}, and params.yaml has modality: {modality}: start a project of its own "
                "for it, in another clone"
            )
        known = model.targets
        answerers["baseline"] = Answerer(model, minibatch_size=evaluate.minibatch_size)
        is_new = held_out_before(rows, now=Split(**read_json(split)), before=read_split(learned.get("split")))
        if not is_new.all():
            logger.warning(
                "warning: the split is another than the model in use was trained by: candidate and model in use are "
                "compared on the %s of %s held-out samples that neither learned from",
                f"{is_new.sum():,}",
                f"{len(rows):,}",
            )
    adapted_to = {name: domains_by_target(answerer) for name, answerer in answerers.items()}
    has_domains = any(answerer.domains for answerer in answerers.values())
    if has_domains and DOMAIN not in evaluate.slices:
        evaluate = replace(evaluate, slices=[*evaluate.slices, DOMAIN])
    asked = ask(answerers, rows, raw=raw, store=store, parts=parts, alterations=evaluate.perturbations, show=show)
    heads, head_targets = load_heads(head)
    words = words_of(Samples(rows, raw=raw, decode=parts.decode, read=parts.read), load_vocabulary(head))
    of_head = answers_of_heads(heads, head_targets, vectors[np.flatnonzero(is_heldout)].astype(np.float16), words)
    wants = partial(in_names_of, wanted=targets, num_rows=len(rows))
    in_order = {name: wants(answers, known=answerers[name].targets) for name, answers in asked.models.items()}
    predictions: dict[str, dict[str, Answered]] = {
        "candidate": in_order.pop("candidate"),
        "head": wants(of_head, known=head_targets),
        **({WORDS_ALONE: answered_words(answers_of_words(heads, words), targets)} if words else {}),
        **in_order,
    }
    general = wants(asked.general, known=targets) if has_domains else predictions["candidate"]
    comparable = {
        name for name in predictions.get("baseline", {}) if name in known and known[name].kind == targets[name].kind
    }
    found = {}
    for name, target in targets.items():
        truths = target.encode(rows[name])
        is_there = target.has_label(truths)
        in_use_target = known[name] if name in comparable else None if in_use else target
        own_rows, own_domains = rows[is_there].reset_index(drop=True), domains[is_there].reset_index(drop=True)
        found[name] = measure_target(
            name,
            own_rows.assign(
                **({DOMAIN: own_domains} if DOMAIN in evaluate.slices else {}),
                **({} if cluster is None else {CLUSTER: cluster[is_there].to_numpy()}),
            ),
            truths[is_there],
            {model: answered[name].of(is_there) for model, answered in predictions.items() if name in answered},
            general=general[name].of(is_there),
            domains=own_domains.where(own_domains.isin(adapted_to["candidate"][name])),
            altered={each: Answered(answers[name][is_there], target) for each, answers in asked.altered.items()},
            forms={each: Answered(form.answers[name][is_there], target) for each, form in forms.items()},
            of_train=manifest.loc[manifest["split"] == "train", name],
            leaked=leaked[is_there],
            is_shared=is_known(truths[is_there], target, known=in_use_target) & is_new[is_there],
            evaluate=evaluate,
            seed=seed,
        )
    metrics = {name: measured.metrics for name, measured in found.items()}
    # a domain that is learned stays a domain, and the gate needs the columns of the slices
    told = ["split", *(name for name in targets if name not in KEYS and name not in evaluate.slices)]
    tables = [measured.table_without(told) for measured in found.values()]
    with whole_folder(out) as folder:
        write_table(folder / "predictions.parquet", joined_tables(tables))
        write_json(folder / "metrics.json", metrics)
        confusions = [of.own[["target", "label", "candidate"]] for of in found.values() if of.has_confusion]
        write_plotted(folder / "confusion.csv", pd.concat(confusions or [NO_CONFUSION]))
        reliabilities = [of.reliability for of in found.values() if of.reliability is not None]
        write_plotted(folder / "reliability.csv", pd.concat(reliabilities or [NO_RELIABILITY]))
        write_text_table(folder / "slices.csv", pd.concat([measured.slices for measured in found.values()]))
        places = Tensor(shape=(len(rows), 2), dtype=np.uint16, pieces=[project(asked.features)])
        write_tensors(folder / "places.safetensors", {"places": places}, metadata={})
        subject = {"candidate": sha256(candidate / WEIGHTS), "baseline": in_use, "stage": lineage["stage"]}
        sizes = {"candidate_bytes": folder_bytes(candidate)} | (
            {"baseline_bytes": folder_bytes(baseline)} if in_use else {}
        )
        heldout = {"heldout": version_of(rows, list(targets)), "num_heldout": len(rows)}
        lost = {
            name: [each for each in target.names if name not in targets or each not in targets[name].names]
            for name, target in known.items()
            if name in comparable or (name not in targets and isinstance(target, Classes))
        }
        unseen = {name: names_without_samples(metrics[name]["candidate"], target) for name, target in targets.items()}
        about = {"confidence": evaluate.confidence, "lost_classes": lost, "classes_without_samples": unseen}
        about |= about_domains(adapted_to["candidate"], metrics, before=adapted_to.get("baseline", {}))
        if gone := [name for name in known if name not in targets and name not in lost]:
            about["lost_targets"] = gone
        if forms:
            contents = {f"{name}.onnx": form.content for name, form in forms.items()} | beside
            (folder / "forms").mkdir()
            for name, content in contents.items():
                (folder / "forms" / name).write_bytes(content)
            about["forms"] = {
                name: {"bytes": len(form.content), "milliseconds": round(form.milliseconds, 2)}
                for name, form in forms.items()
            }
            about["candidate_milliseconds"] = round(latency(*load_bundle(candidate)).milliseconds, 2)
        write_json(folder / "subject.json", subject | sizes | heldout | about | {"lineage": lineage})
    for name, measured in metrics.items():
        what, key = (f"error in {measured['unit']}", "error") if "kind" in measured else ("accuracy", "accuracy")
        digits = ".4g" if "kind" in measured else ".4f"
        values = ", ".join(f"{model} {measured[model][key]:{digits}}" for model in predictions if model in measured)
        logger.info("evaluated %s on %s held-out samples: %s of %s", name, f"{len(found[name].own):,}", what, values)
        for each, own in measured.get("forms", {}).items():
            logger.info(
                "as %s: %s %s, %.2f %% of the answers differ; %.1f MB, %.1f ms a sample", each, what,
                f"{own[key]:{digits}}", 100 * own["changed"], len(forms[each].content) / 1e6, forms[each].milliseconds,
            )  # fmt: skip
        for domain, own in measured.get("domains", {}).items():
            logger.info(
                "of these, %s are of the domain %s: accuracy of its own head %.4f, of the general head %.4f; "
                "probabilities are not calibrated on this domain",
                f"{own['num_samples']:,}", on_one_line(domain), own["candidate"]["accuracy"], own[GENERAL]["accuracy"],
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results for a target: its measures, a row for each sample that has it, its slices, and bins of classes.

    own: the columns of `table` that are not the manifest's, and those that name a sample.
    """

    metrics: dict[str, Any]
    table: pd.DataFrame
    own: pd.DataFrame
    slices: pd.DataFrame
    has_confusion: bool
    reliability: pd.DataFrame | None

    def table_without(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return the table without columns of the manifest."""
        return self.table.drop(columns=[column for column in columns if column not in self.own])


def measure_target(
    name: str,
    rows: pd.DataFrame,
    truths: Truths,
    by_model: Mapping[str, Answered],
    *,
    general: Answered,
    domains: "pd.Series[str]",
    altered: Mapping[str, Answered],
    forms: Mapping[str, Answered],
    of_train: "pd.Series[str]",
    leaked: NDArray[np.bool_],
    is_shared: NDArray[np.bool_],
    evaluate: EvaluateParams,
    seed: int,
) -> Measured:
    """Measure each model's answers to the samples that have a target.

    Args:
        rows: those of the manifest (n); truths, leaked and is_shared are theirs, and so are all answers.
        general: the answers of the candidate's general head.
        domains: (n,), the domain whose head gives the candidate's answer; missing where the general head does.
        altered: the candidate's answers to altered samples, by alteration.
        forms: the answers of other forms of the candidate, by form.
        of_train: the labels of train.
    """
    target = by_model["candidate"].target
    is_adapted = domains.notna().to_numpy()
    groups = pd.factorize(rows[CLUSTER])[0].astype(np.int64) if CLUSTER in rows else None
    known: dict[str, Any] = {"leaked": leaked, "is_shared": is_shared, "groups": groups}
    metrics = measure(truths, by_model, evaluate, **known, is_adapted=is_adapted, seed=seed)
    own = prediction_table(rows, name, truths, by_model)
    if is_adapted.any():
        metrics["domains"] = measure_domains(
            truths, {**by_model, GENERAL: general}, evaluate, **known, domains=domains, seed=seed
        )
        beside = prediction_table(rows[is_adapted], name, truths[is_adapted], {GENERAL: general.of(is_adapted)})
        own = own.join(beside[[column for column in beside if column not in own]])
    bins, parts = None, None
    if isinstance(target, Classes):
        majority = majority_class(of_train, list(target.names))
        metrics["majority_class"] = {"name": majority, "heldout_share": float((rows[name] == majority).mean())}
        if not is_adapted.all():
            probabilities = by_model["candidate"].answers[~is_adapted]
            bins, _ = reliability(
                labels=truths[~is_adapted], probabilities=probabilities, num_bins=evaluate.calibration_bins
            )
            bins = bins.assign(target=name)
    else:
        constant = constant_answer(target, of_train, num_rows=len(rows))
        own["constant_error"] = constant.errors(truths)
        metrics["constant"] = {"answer": constant.shown()[0], "error": float(own["constant_error"].mean())}
        parts = list(KINDS[target.kind].parts(truths, target))
        own["parts"] = [[part for part, has in parts if has[row]] for row in range(len(rows))]
    unchanged = {each: share_unchanged(by_model["candidate"], answered) for each, answered in altered.items()}
    metrics["candidate"]["unchanged"] = unchanged
    if forms:
        like = partial(measure_form, truths, model=general, confidence=evaluate.confidence, groups=groups)
        metrics["forms"] = {each: like(answered) for each, answered in forms.items()}
    own = own.assign(is_leaked=leaked, is_shared=is_shared)
    table = own.join(rows[[column for column in rows if column not in own]])
    slices = slice_table(table, columns=evaluate.slices, target=name, confidence=evaluate.confidence, parts=parts)
    return Measured(
        metrics=metrics, table=table, own=own, slices=slices, has_confusion=isinstance(target, Classes | Ordinal),
        reliability=bins,
    )  # fmt: skip


def parts_of(modality: Modality, perturbations: list[str]) -> Parts:
    """Return the parts of the modality's room for `ask`. Raises ValueError where it lacks a perturbation."""
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    known = room(modality, "alterations").PERTURBATIONS
    if unknown := [name for name in perturbations if name not in known]:
        raise ValueError(f"evaluate.perturbations names {unknown[0]!r}, expected some of {', '.join(known)}")
    return Parts(
        read=decode.read, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE, alterations=known,
    )  # fmt: skip


def domains_by_target(answerer: Answerer) -> dict[str, list[str]]:
    """Return the domains that a model has a head of, by target."""
    targets_of = answerer.domains.targets_of if answerer.domains else {}
    return {name: [domain for domain, own in targets_of.items() if name in own] for name in answerer.targets}


def about_domains(
    by_target: Mapping[str, list[str]], metrics: Mapping[str, Any], *, before: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return, by target, the candidate's domains without a held-out label, and those that only the model in use has."""
    unjudged = {
        name: [domain for domain in own if domain not in metrics[name].get("domains", {})]
        for name, own in by_target.items()
    }
    lost = {name: [each for each in before.get(name, []) if each not in own] for name, own in by_target.items()}
    about = {"domains_without_samples": unjudged} if any(by_target.values()) else {}
    return about | ({"lost_domains": lost} if any(lost.values()) else {})


def answered_words(answers: TargetAnswers, targets: Mapping[str, Target]) -> dict[str, Answered]:
    """Return the answers of the words alone, by target; the targets whose heads read words are of classes."""
    return {name: Answered(probabilities, targets[name]) for name, probabilities in answers.items()}


def constant_answer(target: Target, labels: "pd.Series[str]", *, num_rows: int) -> Answered:
    """Return the best constant answer to the labels of train, as the answers to `num_rows` samples."""
    plain = target_of(target.declared())  # no threshold of the candidate has a part in it
    truths = target.encode(labels)
    return Answered(np.repeat(plain.constant(truths[plain.has_label(truths)]), num_rows, axis=0), plain)


def majority_class(labels: "pd.Series[str]", names: list[str]) -> str:
    """Return the most common class among the labels; of several, the first in `names`."""
    counts = labels.value_counts()
    return max(names, key=lambda name: int(counts.get(name, 0)))


if __name__ == "__main__":
    main(run)
