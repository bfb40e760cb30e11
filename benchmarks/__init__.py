"""Measured claims, a module for each topic. Every module prints one JSON object as its last line."""

import tasks  # noqa: F401  sets how threads wait, before torch starts any
