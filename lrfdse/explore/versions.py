"""What an exploration was made by: versions of packages, and plug-ins that had a part in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfdse.meters.meter import Meter
    from lrfdse.results.settings import Settings


def plugins(settings: Settings, meter: Meter) -> dict[str, str]:
    """Return the distribution and version of every plug-in that had a part in the numbers, by what it gave."""
    from lrfdse.base.registry import Registry
    from lrfdse.factorize.methods import METHODS
    from lrfdse.meters.meter import METERS
    from lrfdse.quality.metrics import DEFAULT, METRICS
    from lrfdse.search.samplers.builtin import SAMPLERS

    used: tuple[tuple[Registry[Any], str], ...] = (
        (METERS, meter.name),
        (METHODS, settings.space.method),
        (SAMPLERS, settings.sampler),
        (METRICS, settings.metric or DEFAULT),
    )
    return {f"{registry.what} {name}": origin for registry, name in used if (origin := registry.origin(name))}


def versions() -> dict[str, str]:
    """Return the versions of lrfdse and of the packages that results depend on."""
    from importlib.metadata import version

    from lrfdse.base.version import __version__

    packages = ("apache-tvm", "numpy", "onnx", "onnx-ir", "onnxruntime", "optuna", "scipy")
    return {"lrfdse": __version__} | {name: version(name) for name in packages}
