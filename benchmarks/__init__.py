"""Measured claims: one module a claim, each prints one JSON object last."""

import tasks  # noqa: F401  it says how threads wait, before torch starts any
