"""What every benchmark table says about where its numbers come from."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(*packages: str) -> dict[str, object]:
    """Return the date, the machine, and the versions of Python, lrfdse and `packages`."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: installed(name) or "not installed" for name in ("lrfdse", "numpy", *packages)},
    }


def installed(package: str) -> str | None:
    """Return the version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def described(about: dict[str, object]) -> str:
    """Return the line that a table's text holds."""
    return ", ".join(f"{name} {value}" for name, value in about.items())
