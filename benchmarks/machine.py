"""What every benchmark table says about where its numbers come from."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TOP = Path(__file__).resolve().parents[1]


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


def commit(folder: str = "lrfdse") -> str:
    """Return the last commit that changed a folder, with a + where its files were changed since.

    Nothing outside of a repository.
    """
    try:
        last, changed = (
            subprocess.run(
                ["git", *words, "--", folder], cwd=_TOP, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("log", "-1", "--format=%h"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return last + ("+" if changed else "")


def installed(package: str) -> str | None:
    """Return the version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def described(about: dict[str, object]) -> str:
    """Return the line that a table's text holds."""
    return ", ".join(f"{name} {value}" for name, value in about.items())
