"""The domain of each sample: what its batch says, or the batch itself."""

import pandas as pd


def domains_of(manifest: pd.DataFrame) -> pd.Series:
    """Return the domain (n,) of each row of a manifest: the column `domain`, or the batch where that is missing."""
    batches: pd.Series = manifest["batch"]
    return manifest["domain"].fillna(batches) if "domain" in manifest else batches
