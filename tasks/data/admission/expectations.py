"""The expectations of the manifest, checked by Great Expectations: tables in; results or HTML pages out."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from tasks.data.admission.drift import label_drift
from tasks.data.admission.labels import names_of
from tasks.data.admission.options import ExpectationLimit, ExpectationLimits, ExpectationOptions
from tasks.data.admission.shortfalls import ASPECT_RATIO, CLASS_FRACTION, MARKUP_FRACTION, MOST_FRACTION, sentence
from tasks.data.manifest.manifest import SPLITS, used_of
from tasks.machine.garbage import rarely_collected
from tasks.machine.late_exports import late_exports
from tasks.targets.target import Target

ROWS_AT_ONCE = 1_000_000  # with all columns
HEX_DIGITS = "0123456789abcdef"
ABSENT = ("boto3", "botocore", "google", "sqlalchemy")
LATE = {name: name for name in ("altair", "jsonschema", "mistune", "requests", "scipy.stats")} | {
    "tqdm.auto": "tqdm",  # the bar of a notebook is not shown here
}
PASS_ON = tuple(  # modules that no expectation here needs: sources such as Spark's, their cloud, other expectations
    f"great_expectations.{package}"
    for package in (
        "data_context", "data_context.data_context", "datasource.fluent", "expectations", "expectations.core",
    )
)  # fmt: skip
SEVERITIES = {"error": "critical", "warning": "warning"}  # our names, and Great Expectations'


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The tables that Great Expectations examines, by name, and the expectations of each."""

    tables: Mapping[str, pd.DataFrame]
    suites: Mapping[str, Sequence[Any]]


def make_examination(
    manifest: pd.DataFrame,
    options: ExpectationOptions,
    *,
    batches: Sequence[str],
    targets: Mapping[str, Target],
    facts: Collection[str],
    min_image_size: int,
) -> Examination:
    """Return the tables that the manifest gives, and the expectations of them. The pool is left out.

    Args:
        manifest: all batches, in their order.
        batches: their names, including those that have no sample left.
        targets: with the classes and labels in use.
        facts: the names of the facts of a sample, which are those of an image or those of a text.
        min_image_size: px, the shorter side.
    """
    used = used_of(manifest)
    of_pool_alone = set(manifest["batch"].unique()) - set(used["batch"].unique())
    manifest, batches = used, [batch for batch in batches if batch not in of_pool_alone]
    drift = label_drift(manifest, targets=targets, significance=options.drift_significance)
    return Examination(
        tables=tables(manifest, drift, batches=batches, targets=targets, facts=facts),
        suites=suites(targets=targets, limits=options.expectations, facts=facts, min_image_size=min_image_size),
    )


@contextmanager
def _left_out() -> Iterator[None]:
    """Let Great Expectations load without the modules that no expectation here needs, in half the time.

    It does without its extras, ABSENT, as where they are not installed. Those of its expectations that
    need LATE find it then.
    """
    stand_ins: dict[str, Any] = dict.fromkeys(ABSENT)  # None: Python finds no such module
    for late, module in LATE.items():
        stand_ins[late] = ModuleType(late)
        stand_ins[late].__getattr__ = lambda name, module=module: getattr(import_module(module), name)
    added = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


@_left_out()  # each expectation loads as it is first named
def suites(
    *,
    targets: Mapping[str, Target],
    limits: ExpectationLimits,
    facts: Collection[str],
    min_image_size: int,
) -> dict[str, list[Any]]:
    """Return the expectations of each table: `samples` and `batches`."""
    gxe = _library().expectations

    def expect(kind: Any, name: str, severity: str = "error", **settings: Any) -> Any:
        meta = {"name": name, "target": "", "limit": 0.0} | settings.pop("meta", {})
        return kind(severity=SEVERITIES[severity], meta=meta, **settings)

    def limited(kind: Any, name: str, bound: str = "", target: str = "", **settings: Any) -> Any:
        limit: ExpectationLimit = getattr(limits, name)
        bounds = {bound or f"{name[:3]}_value": limit.limit if not bound else 1 - limit.limit}
        meta = {"target": target, "limit": limit.limit}
        return expect(kind, name, limit.severity, meta=meta, **bounds, **settings)

    between, not_null = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToNotBeNull
    samples = [
        limited(gxe.ExpectTableRowCountToBeBetween, "min_samples"),
        expect(gxe.ExpectColumnValuesToBeUnique, "every sample once", column="sample_id"),
        expect(gxe.ExpectColumnValuesToMatchRegex, "a SHA-256", column="sample_id", regex="^[0-9a-f]{64}$"),
        expect(gxe.ExpectColumnDistinctValuesToEqualSet, "splits", column="split", value_set=list(SPLITS)),
        *(expect(not_null, f"a {column}", column=column) for column in ("sample_id", "batch", "path", "split")),
    ]
    if _is_of_images(facts):
        samples += [
            expect(between, "a width", column="width", min_value=min_image_size),
            expect(between, "a height", column="height", min_value=min_image_size),
            limited(between, "max_aspect_ratio", column=ASPECT_RATIO),
        ]
    else:
        samples.append(expect(between, "characters", column="characters", min_value=1))
    in_set, num_unique = gxe.ExpectColumnDistinctValuesToBeInSet, gxe.ExpectColumnUniqueValueCountToBeBetween
    for target, own in targets.items():
        share = CLASS_FRACTION + target
        if own.kind in ("classes", "ordinal"):
            samples += [
                expect(in_set, "classes in use", column=target, value_set=list(own.names)),
                limited(num_unique, "min_classes", target=target, column=target),
            ]
        if own.kind != "number":
            most = MOST_FRACTION + target if own.kind == "several" else share
            samples += [
                limited(between, "min_class_fraction", target=target, column=share),
                limited(between, "max_class_fraction", target=target, column=most),
            ]
        samples.append(limited(not_null, "max_missing_labels", "mostly", target=target, column=target))
    batches = [
        limited(gxe.ExpectColumnMinToBeBetween, "min_samples_per_batch", column="num_samples"),
        limited(between, "max_label_drift", column="significant_distance"),
    ]
    if not _is_of_images(facts):
        batches.append(limited(between, "max_markup_fraction", column=MARKUP_FRACTION))
    return {"samples": samples, "batches": batches}


def tables(
    manifest: pd.DataFrame,
    drift: pd.DataFrame,
    *,
    batches: Sequence[str],
    targets: Mapping[str, Target],
    facts: Collection[str],
) -> dict[str, pd.DataFrame]:
    """Return the tables of the suites.

    `samples` is the manifest with the aspect ratio of every image and, for each of its classes, the class's share of
    all labels, 0..1; for several labels, the shares of the samples with the rarest and with the commonest one.
    `batches` has a row a batch and target, with the number of samples, the drift, and the share of the texts that
    have remains of HTML, 0..1.
    """
    shares: dict[str, Any] = {}
    for target, own in targets.items():
        num = max(manifest[target].count(), 1)
        if own.kind == "several":
            share = names_of(manifest[target], own).map(names_of(manifest[target], own).value_counts()) / num
            by_sample = share.groupby(level=0)
            shares |= {CLASS_FRACTION + target: by_sample.min(), MOST_FRACTION + target: by_sample.max()}
        elif own.kind != "number":
            shares[CLASS_FRACTION + target] = manifest.groupby(target)[target].transform("size") / num
    sizes = manifest.groupby("batch").size().reindex(list(batches), fill_value=0).rename("num_samples")
    samples = manifest[["sample_id", "batch", "path", "split", *facts, *targets]].assign(**shares)
    by_batch = sizes.rename_axis("batch").reset_index().merge(drift, on="batch", how="left")
    if _is_of_images(facts):
        sides = manifest[["width", "height"]]
        samples[ASPECT_RATIO] = sides.max(axis=1) / sides.min(axis=1)
    else:
        by_batch[MARKUP_FRACTION] = by_batch["batch"].map(manifest.groupby("batch")["has_markup"].mean())
    return {"samples": samples, "batches": by_batch}


def _is_of_images(facts: Collection[str]) -> bool:
    return "width" in facts


def check_expectations(examination: Examination) -> list[dict[str, Any]]:
    """Return a result for each expectation, sorted and without clocks.

    A result has table, expectation, column, expected, observed, num_unexpected, severity and success; its `name` in
    params.yaml, and the `sentence` about the shortfall, "" where the expectation is met.
    """
    gx = _library()
    context = gx.get_context(mode="ephemeral")
    _be_quiet(context)
    results = []
    for name, table in examination.tables.items():
        definition = _definition(context, name)
        found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for part, expectations in _parts(table, examination.suites[name]):
            suite = gx.ExpectationSuite(name=name, expectations=expectations)
            batch = definition.get_batch({"dataframe": part})
            for result in batch.validate(suite, result_format="SUMMARY").results:
                finding = _result(name, result, examination.tables)
                found.setdefault((finding["name"], finding["expectation"], finding["column"]), []).append(finding)
        results += [_joined(parts) for parts in found.values()]
    return sorted(results, key=lambda result: (result["table"], result["expectation"], result["column"]))


def _parts(table: pd.DataFrame, expectations: Sequence[Any]) -> Iterator[tuple[pd.DataFrame, list[Any]]]:
    """Yield the table with all its expectations. Each check copies it, so a long one comes column by column.

    The longest column, sample_id, comes in parts; equal ids are in the same part.
    """
    if len(table) <= ROWS_AT_ONCE:
        yield table, list(expectations)
        return
    of_column: dict[str, list[Any]] = {}
    for expectation in expectations:
        of_column.setdefault(getattr(expectation, "column", "split"), []).append(expectation)
    for column, expected in of_column.items():
        if column != "sample_id":
            yield table[[column]], expected
            continue
        digits = table[column].str.slice(stop=1)
        for digit in HEX_DIGITS:
            yield table.loc[digits == digit, [column]], expected
        others = ~digits.isin(list(HEX_DIGITS))
        if others.any():
            yield table.loc[others, [column]], expected


def _joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the result of one expectation from those of the parts of its column."""
    failed = [result for result in results if not result["success"]]
    num_unexpected = sum(result["num_unexpected"] for result in results)
    return (failed or list(results))[0] | {"num_unexpected": num_unexpected}


def write_data_docs(examination: Examination, out: Path) -> None:
    """Write Great Expectations' own HTML pages of suites and results to the folder `out`, from `index.html` on."""
    gx = _library()
    with tempfile.TemporaryDirectory() as place:
        context = gx.get_context(mode="file", project_root_dir=place)
        _be_quiet(context)
        for name, table in examination.tables.items():
            suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(examination.suites[name])))
            definition = gx.ValidationDefinition(name=name, data=_definition(context, name), suite=suite)
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[context.validation_definitions.add(definition)],
                actions=[gx.checkpoint.UpdateDataDocsAction(name="docs")],
                result_format="SUMMARY",
            )
            context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
        shutil.copytree(Path(place, "gx/uncommitted/data_docs/local_site"), out, dirs_exist_ok=True)


@_left_out()
def _library() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with late_exports(*PASS_ON), rarely_collected():
        import great_expectations as gx  # takes long, so that only a caller that validates pays
        import great_expectations.datasource.fluent.pandas_datasource
        import great_expectations.expectations

    # it logs every temporary folder that it makes
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return gx


def _be_quiet(context: Any) -> None:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)


def _definition(context: Any, name: str) -> Any:
    return context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)


def _result(table: str, result: Any, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    plain = result.to_json_dict()  # its numbers are numpy's otherwise
    config, details = plain["expectation_config"], plain["result"]
    about = config["meta"]
    is_met = bool(plain["success"])
    ours = {theirs: severity for severity, theirs in SEVERITIES.items()}
    return {
        "table": table,
        "expectation": config["type"],
        "name": about["name"],
        "column": config["kwargs"].get("column", ""),
        "expected": {key: value for key, value in config["kwargs"].items() if key not in ("column", "batch_id")},
        "observed": details.get("observed_value"),
        "num_unexpected": details.get("unexpected_count", 0),
        "severity": ours[config["severity"]],
        "success": is_met,
        "sentence": ""
        if is_met
        else sentence(about["name"], target=about["target"], limit=about["limit"], tables=tables),
    }
