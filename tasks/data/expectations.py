"""What the manifest has to be like, told to Great Expectations: a table in, a verdict for each expectation out."""

import os
from typing import Any

import pandas as pd

from tasks.data.manifest import SPLITS


def check_expectations(
    manifest: pd.DataFrame,
    *,
    classes: list[str],
    target: str,
    min_samples: int,
    min_class_fraction: float,
    min_size: int,
) -> dict[str, Any]:
    """Run the suite on the manifest's columns. Returns `success` and `expectations`, sorted by name, without clocks."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx  # costs seconds, so only who validates pays
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    columns = ["sample_id", "batch", "path", "split", target]
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=min_samples),
        gxe.ExpectColumnValuesToBeUnique(column="sample_id"),
        gxe.ExpectColumnValuesToMatchRegex(column="sample_id", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="split", value_set=list(SPLITS)),
        gxe.ExpectColumnDistinctValuesToEqualSet(column=target, value_set=classes),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column=target, min_value=2),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=min_size),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=min_size),
        gxe.ExpectColumnValuesToBeBetween(column="class_fraction", min_value=min_class_fraction),
        *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in columns),
    ]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": with_class_fraction(manifest, target)}
    )
    results = [_result(batch.validate(each, result_format="SUMMARY")) for each in expectations]
    return {
        "success": all(each["success"] for each in results),
        "expectations": sorted(results, key=lambda each: (each["expectation"], each["column"])),
    }


def with_class_fraction(manifest: pd.DataFrame, target: str) -> pd.DataFrame:
    """The manifest with the share of all samples that each one's class has, 0..1."""
    return manifest.assign(class_fraction=manifest.groupby(target)[target].transform("size") / max(len(manifest), 1))


def _result(result: Any) -> dict[str, Any]:
    config = result.expectation_config
    return {
        "expectation": config.type,
        "column": config.kwargs.get("column", ""),
        "expected": {key: value for key, value in config.kwargs.items() if key not in ("column", "batch_id")},
        "observed": result.result.get("observed_value"),
        "num_unexpected": result.result.get("unexpected_count", 0),
        "success": bool(result.success),
    }
