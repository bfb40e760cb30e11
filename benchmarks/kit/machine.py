"""Describe the machine of a measurement, parse a benchmark's options, and print its result as one JSON object."""

import argparse
import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "dvc", "prefect", "great-expectations")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A number that README or docs state. With `at_least` it must reach `target`; without, it must not exceed it."""

    name: str
    value: float
    target: float
    at_least: bool

    @property
    def holds(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def describe_machine() -> dict[str, Any]:
    """Return cores, memory, instruction sets and versions, but nothing that identifies the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    flags = set(re.findall(r"\S+", (re.findall(r"^flags\s*:(.*)$", cpuinfo, flags=re.MULTILINE) or [""])[0]))
    model = re.findall(r"^model name\s*:\s*(.*)$", cpuinfo, flags=re.MULTILINE)
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.processor(),
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str | None:
    """Return the version of a package; None where it is not installed, as on a machine that only computes."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(text: str) -> None:
    """Show the person who waits what is measured now."""
    print(text, file=sys.stderr, flush=True)


def peak_bytes() -> int:
    """Return the peak resident memory of this process.

    `ru_maxrss` is no use here: it starts at the value of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s*(\d+) kB$", status, flags=re.MULTILINE)[0]) * 1024


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="the same claims on less data, within 5 minutes on 2 cores"
    )
    return parser


def parse_arguments(description: str | None) -> argparse.Namespace:
    return parser(description).parse_args()


def finish(*, settings: dict[str, Any], raw: Any, claims: list[Claim]) -> None:
    """Print the result as the last line."""
    print(json.dumps(result_of(settings=settings, raw=raw, claims=claims), sort_keys=True), flush=True)


def result_of(*, settings: dict[str, Any], raw: Any, claims: list[Claim]) -> dict[str, Any]:
    """Return the result as JSON."""
    return {
        "machine": describe_machine(),
        "settings": settings,
        "raw": raw,
        "claims": [
            {key: value for key, value in asdict(claim).items() if key != "at_least"} | {"holds": claim.holds}
            for claim in claims
        ],
    }
