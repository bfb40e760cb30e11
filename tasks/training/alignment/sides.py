"""The sides of an adaptation: a manifest in; the sources and the domains to adapt to, as the methods take them, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.machine.names import printable
from tasks.targets.classes import MISSING
from tasks.training.alignment.domains import Labels, SourceDomain, TargetDomain, Vectors
from tasks.training.alignment.selection import Positions, even_draw, labelled_first

UNNAMED = "batches without a domain"  # the name of the source that they are together
FEW = "domains of few samples"  # the name of the source that they are together
LEAST_SAMPLES = 20  # of train, that make a domain a source of its own


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The samples that a project adapts with.

    rows: of the manifest (n), without those that are held out or leave training.
    domain: (n,) of each sample.
    labels: by target of the kind classes, (n,) places of the classes, or MISSING.
    sources: positions of the labelled samples of other domains, of which a part is drawn.
    targets: positions of the samples of each domain to adapt to, of which a part is drawn.
    """

    rows: pd.DataFrame
    domain: "pd.Series[str]"
    labels: Mapping[str, Labels]
    sources: Positions
    targets: Mapping[str, Positions]

    @classmethod
    def of(
        cls, rows: pd.DataFrame, domain: "pd.Series[str]", labels: Mapping[str, Labels], *, wanted: list[str]
    ) -> Self:
        """Draw both sides: the sources evenly by domain, split and labels, a target with all its labels first."""
        is_labelled = has_any(labels)
        others = np.flatnonzero(is_labelled & ~domain.isin(wanted))
        groups = [domain, rows["split"], *(rows[name] for name in labels)]
        drawn = even_draw(rows["sample_id"].iloc[others], [group.iloc[others] for group in groups])
        targets = {}
        for name in wanted:
            positions = np.flatnonzero(domain == name)
            targets[name] = positions[labelled_first(rows["sample_id"].iloc[positions], is_labelled[positions])]
        return cls(rows=rows, domain=domain, labels=labels, sources=others[drawn], targets=targets)

    @cached_property
    def is_train(self) -> NDArray[np.bool_]:
        """(k,) whether each drawn sample of the sources is of train; the others are of val."""
        return np.asarray(self.rows["split"].iloc[self.sources] == "train")

    @cached_property
    def source_names(self) -> "pd.Series[str]":
        """The name (k,) of the source that each drawn sample is of.

        Batches without a domain are one source together: a batch may lack classes, and would look like a shift. So are
        domains of few samples: standardisation of such a domain by itself would remove the difference of its classes.
        """
        rows = self.rows.iloc[self.sources]
        unnamed = rows.loc[rows["domain"].isna(), "batch"].unique()
        names = rows["domain"].fillna(unnamed[0] if len(unnamed) == 1 else UNNAMED).astype(str)
        num_train = pd.Series(self.is_train, index=names.index).groupby(names).transform("sum")
        is_few = num_train < LEAST_SAMPLES
        return names.mask(is_few, FEW) if names[is_few].nunique() > 1 else names

    def source_domains(self, target: str, vectors: Vectors, *, recipe: str) -> list[SourceDomain]:
        """Return the sources that have labels of a target on train; `vectors` (k, dim) are those of `self.sources`."""
        labels = self.labels[target][self.sources]
        domains = []
        for name in sorted(self.source_names.unique()):
            is_own = (self.source_names == name).to_numpy() & (labels != MISSING)
            parts = (is_own & self.is_train, is_own & ~self.is_train)
            train, val = ((vectors[rows], labels[rows]) for rows in parts)
            if len(train[1]):
                domains.append(SourceDomain(name=printable(name), train=train, val=val, recipe=recipe))
        return domains

    def target_domain(self, domain: str, target: str, vectors: Vectors, *, recipe: str) -> TargetDomain:
        """Return a domain to adapt to; `vectors` (m, dim) are those of `self.targets[domain]`."""
        labels = self.labels[target][self.targets[domain]]
        return TargetDomain(name=printable(domain), vectors=vectors, labels=labels, recipe=recipe)

    def part_of(self, domain: str, *, most: int) -> Positions:
        """Return an even draw of the positions of a domain to adapt to."""
        positions = self.targets[domain]
        rows = self.rows.iloc[positions]
        return positions[even_draw(rows["sample_id"], [rows["split"]], most=most)]

    def num_labels(self, domain: str) -> int:
        return int(has_any(self.labels)[self.targets[domain]].sum())

    def num_sources(self) -> dict[str, int]:
        """Return how many samples each of the sources has."""
        counts = self.source_names.value_counts()
        return {name: int(counts[name]) for name in sorted(counts.index)}


def has_any(labels: Mapping[str, Labels]) -> NDArray[np.bool_]:
    """Return (n,) whether a sample has a label of any target."""
    return np.asarray(np.any([of_target != MISSING for of_target in labels.values()], axis=0))
