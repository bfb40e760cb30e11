"""The trained model and samples of other domains in; the candidate, with linear heads of these domains, out.

On request the candidate also gets a detector of samples that are unlike all those of the training.
"""

import csv
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.machine.cluster import LOCAL, on_each
from tasks.machine.files import whole_folder, write_json
from tasks.machine.names import in_a_cell
from tasks.machine.options import ScaleOptions
from tasks.machine.progress import progress
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.training.alignment.options import AdaptOptions

if TYPE_CHECKING:  # torch and pandas take seconds to import, and most projects adapt to no domain
    import pandas as pd

    from tasks.models.classifier import Classifier
    from tasks.models.unlike import Unlike
    from tasks.prediction.trunk_vectors import TrunkVectors
    from tasks.training.alignment.adapted_domain import AdaptedDomain, Normalised, TargetSpace
    from tasks.training.alignment.domains import Vectors
    from tasks.training.alignment.selection import Positions
    from tasks.training.alignment.sides import Sides

logger = logging.getLogger("graftline")

FACTS, UNLIKE = "adaptation.json", "unlike.csv"
UNLIKE_COLUMNS = ("domain", "side", "batch", "path", "sample_id", "logit")
TELLER_SAMPLES = 4000  # of each adapted domain that the teller learns from
VAL_SAMPLES = 2000  # that set the limit of the detector; more would make it hardly surer


def run(
    *,
    manifests: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    embeddings: Path,
    store: Path,
    trained: Path,
    out: Path,
    facts: Path,
    adapt: AdaptOptions,
    modality: Modality,
    seed: int,
    scale: ScaleOptions = LOCAL,
) -> None:
    """Adapt the heads of classes to the target domains, by samples that are not held out.

    Without a domain to adapt to, and without `adapt.unlike`, the candidate is the trained model, byte for byte.

    Args:
        trained: the bundle of the trained model
        facts: the folder for the results of each domain
    """
    if not adapt.targets:
        logger.info("adapted to no domain: adapt.targets is empty")
    if not adapt.targets and adapt.unlike is None:
        write_facts(facts, {})
        copy_model(trained, out)
        return
    places = {
        "manifests": manifests, "audit": audit, "batches": batches, "raw": raw, "embeddings": embeddings,
        "store": store, "trained": trained,
    }  # fmt: skip
    project = Project.open(**places, adapt=adapt, modality=modality)
    sides, look = project.sides, partial(project.vectors.of_trunk, 0)
    if sides and adapt.statistics == "own" and not has_normalisation(project.model):
        architecture = project.model.backbone.architecture
        logger.info("adapt.statistics is own, but %s has no batch normalisation", architecture)
    domains: dict[str, AdaptedDomain] = {}
    if sides and (scale.engine == "local" or len(sides.targets) == 1):
        domains = {name: project.adapt_to(name, adapt, seed=seed) for name in sides.targets}
    elif sides:
        look(sides.sources)  # so that the store has the vectors that all domains need
        adapted = on_each(sides.targets, adapt_apart, scale=scale, **places, adapt=adapt, modality=modality, seed=seed)
        domains = dict(zip(sides.targets, adapted, strict=True))
    write_facts(facts, domains)
    unlike = None if adapt.unlike is None else fit_unlike(project.rows, look, level=adapt.unlike, seed=seed)
    if unlike or any(domain.layers for domain in domains.values()):
        save_adapted(out, trained, domains, adapt, sides=sides, look=look, unlike=unlike)
    else:
        copy_model(trained, out)


@dataclass(frozen=True, kw_only=True)
class Project:
    """The samples that a project adapts with, (n) rows of the manifest, and the trained model's vectors of them.

    `sides` are None where there is no domain to adapt to.
    """

    rows: "pd.DataFrame"
    model: "Classifier"
    sides: "Sides | None"
    vectors: "TrunkVectors"

    @classmethod
    def open(
        cls, *, manifests: Path, audit: Path, batches: Path, raw: Path, embeddings: Path, store: Path, trained: Path,
        adapt: AdaptOptions, modality: Modality,
    ) -> "Project":  # fmt: skip
        """Read the inputs of `run`."""
        from tasks.data.health.leaks import leaves_training
        from tasks.data.manifest.batches import read_batches
        from tasks.data.manifest.manifest import read_manifest
        from tasks.data.vectors.embeddings import read_embeddings
        from tasks.models.bundle import load_bundle
        from tasks.prediction.answers import Answerer
        from tasks.prediction.trunk_vectors import TrunkVectors

        manifest = read_manifest(manifests, read_batches(batches))
        kept = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))
        is_used = (manifest["split"] != "heldout").to_numpy() & ~leaves_training(manifest, audit)
        rows = manifest[is_used].reset_index(drop=True)
        model, _ = load_bundle(trained)
        decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
        vectors = TrunkVectors(
            answerer=Answerer(model), embeddings=kept, rows=rows, numbers=is_used.nonzero()[0], raw=raw, store=store,
            read=decode.read, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
            hashes_shape=copy_hash.HASHES_SHAPE, show=partial(progress, what="adapt", unit="minibatches"),
        )  # fmt: skip
        sides = sides_of(rows, model, adapt) if adapt.targets else None
        return cls(rows=rows, model=model, sides=sides, vectors=vectors)

    def adapt_to(self, name: str, adapt: AdaptOptions, *, seed: int) -> "AdaptedDomain":
        """Adapt the heads to one of the domains."""
        from tasks.training.alignment.adapted_domain import adapt_domain

        assert self.sides
        normalise = None
        if adapt.statistics == "own" and has_normalisation(self.model):
            normalise = partial(normalised, self.model, self.vectors, self.sides)
        spaces = spaces_of(self.model, self.vectors)
        return adapt_domain(name, self.sides, spaces, adapt, seed=seed, normalise=normalise)


def adapt_apart(name: str, *, adapt: AdaptOptions, seed: int, **places: Any) -> "AdaptedDomain":
    """Adapt the heads to a domain, in a process that shares the project's folder. `places` are those of `open`."""
    return Project.open(adapt=adapt, **places).adapt_to(name, adapt, seed=seed)


def sides_of(rows: "pd.DataFrame", model: "Classifier", adapt: AdaptOptions) -> "Sides | None":
    """Return the sources and the domains to adapt to; None, with a line in the log, where `auto` finds none.

    Raises:
        ValueError: no target has classes, or the domains in adapt.targets are missing or leave no source.
    """
    from tasks.data.manifest.manifest import domains_of
    from tasks.models.domains import check_name_of_domain
    from tasks.targets.classes import Classes
    from tasks.training.alignment.selection import domains_to_adapt_to
    from tasks.training.alignment.sides import Sides, has_any

    labels = {name: target.encode(rows[name]) for name, target in model.targets.items() if isinstance(target, Classes)}
    if not labels:
        raise ValueError(
            f"adapt.targets is {adapt.targets!r}, and the model has no target of the kind classes, which alone can be "
            "adapted: set adapt.targets to []"
        )
    domain = domains_of(rows)
    wanted = domains_to_adapt_to(domain, has_any(labels), adapt)
    check_name_of_domain(*wanted)
    if not wanted:
        logger.info(
            "adapted to no domain: adapt.targets is auto, which takes domains with at least %d unlabelled samples that "
            "are half of the domain or more, beside a labelled domain: there is none", adapt.min_unlabelled,
        )  # fmt: skip
        return None
    return Sides.of(rows, domain, labels, wanted=wanted)


def spaces_of(model: "Classifier", vectors: "TrunkVectors") -> "dict[str, TargetSpace]":
    """Return the targets that can be adapted, each with the trunk that is its own."""
    from tasks.targets.classes import Classes
    from tasks.training.alignment.adapted_domain import TargetSpace

    return {
        name: TargetSpace(
            classes=target.names, look=partial(vectors.of_trunk, model.trunk_of[name]),
            recipe=vectors.recipe(model.trunk_of[name]),
        )
        for name, target in model.targets.items()
        if isinstance(target, Classes)
    }  # fmt: skip


def has_normalisation(model: "Classifier") -> bool:
    """Return whether a layer of the backbone has statistics, which a domain may replace by its own."""
    from tasks.models.normalisation import num_channels

    return num_channels(model.backbone) > 0


def normalised(model: "Classifier", vectors: "TrunkVectors", sides: "Sides", name: str) -> "Normalised":
    """Return the statistics of a domain's own, and the targets' vectors of trunks that normalise by them."""
    from tasks.models.classifier import Classifier
    from tasks.models.normalisation import with_statistics
    from tasks.prediction.answers import Answerer
    from tasks.training.alignment.statistics import statistics_of_domain

    trunks = model.all_trunks()
    statistics = statistics_of_domain(
        trunks, sources=vectors.samples(sides.sources[sides.is_train]), target=vectors.samples(sides.targets[name])
    )
    first, *others = (with_statistics(trunk, of_trunk) for trunk, of_trunk in zip(trunks, statistics, strict=True))
    normalising = Classifier(first, model.targets, trunks=others, trunk_of=model.trunk_of)
    return statistics, spaces_of(model, replace(vectors, answerer=Answerer(normalising)))


def fit_unlike(
    rows: "pd.DataFrame", look: "Callable[[Positions], Vectors]", *, level: float, seed: int
) -> "Unlike | None":  # fmt: skip
    """Return the detector of samples unlike those of train; None, with a warning in the log, where val is too small.

    The weights did not learn from val, so that its samples are as far from train as new ones like them will be.
    `look` is that of `save_adapted`.
    """
    import numpy as np

    from tasks.data.health.known import MOST_REFERENCES, keep
    from tasks.data.health.unlike import least_for, limit_of
    from tasks.models.unlike import Unlike

    generator = np.random.default_rng(seed)

    def drawn(split: str, most: int) -> "Positions":
        positions = np.flatnonzero(rows["split"] == split)
        return np.sort(generator.permutation(positions)[:most])

    val = drawn("val", VAL_SAMPLES)
    if len(val) < least_for(level):
        logger.warning(
            "warning: val has %s samples, expected at least %s for adapt.unlike: %g, so that predict marks no sample "
            "as unlike: add samples, or raise adapt.unlike",
            f"{len(val):,}", f"{least_for(level):,}", level,
        )  # fmt: skip
        return None
    known = keep(look(drawn("train", MOST_REFERENCES)))
    limit = limit_of(known.distances(look(val).astype(np.float16)), level=level)
    assert limit is not None
    logger.info(
        "a sample is unlike those of train beyond a distance of %.3f from %s of them; so are %g %% of val",
        limit, f"{len(known.references):,}", 100 * level,
    )  # fmt: skip
    return Unlike.of(vars(known), limit=limit, level=level)


def save_adapted(
    out: Path, trained: Path, domains: "Mapping[str, AdaptedDomain]", adapt: AdaptOptions, *, sides: "Sides | None",
    look: "Callable[[Positions], Vectors]", unlike: "Unlike | None" = None,
) -> None:  # fmt: skip
    """Write the trained model with the heads of the domains, and the teller that recognises a sample's domain.

    Args:
        look: positions of the manifest's rows (k,) -> the vectors (k, dim) of the first trunk.
        unlike: the detector of samples that are unlike those of train.
    """
    from tasks.models.bundle import load_bundle, save_bundle
    from tasks.models.domains import AdaptedHeads
    from tasks.training.alignment.teller import fit_teller

    layers = {name: domain.layers for name, domain in sorted(domains.items()) if domain.layers}
    model, lineage = load_bundle(trained)
    model.unlike = unlike
    methods: dict[str, dict[str, str]] = {}
    params = {name: value for name, value in asdict(adapt).items() if name != "unlike" or value is not None}
    if layers:
        assert sides
        of_domains = {name: look(sides.part_of(name, most=TELLER_SAMPLES)) for name in layers}
        statistics = {name: of_domain for name in layers if (of_domain := domains[name].statistics) is not None}
        model.domains = AdaptedHeads.of(layers, fit_teller(look(sides.sources), of_domains), statistics)
        methods = {
            name: {target: domains[name].facts["targets"][target]["method"] for target in of_targets}
            for name, of_targets in layers.items()
        }
    with whole_folder(out) as folder:
        save_bundle(folder, model, lineage=lineage | {"adapt": {"domains": methods, "params": params}})


def write_facts(out: Path, domains: "Mapping[str, AdaptedDomain]") -> None:
    """Write the results of each domain, and the samples of each side that are most unlike the other."""
    with whole_folder(out) as folder:
        write_json(folder / FACTS, {"domains": {name: domain.facts for name, domain in domains.items()}})
        with (folder / UNLIKE).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            table.writerow(UNLIKE_COLUMNS)
            for domain in domains.values():
                table.writerows([in_a_cell(str(cell)) for cell in row] for row in domain.unlike)


def copy_model(trained: Path, out: Path) -> None:
    with whole_folder(out) as folder:
        for path in sorted(trained.iterdir()):
            shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    main(run)
