"""The command that makes a result again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lrfdse.results.paths import relative, source

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.results.settings import Settings


def command_of(settings: Settings) -> str:
    """Return the command, quoted for a POSIX shell, that repeats the exploration when it runs in the output folder.

    Every option that has an effect on the result is in it, with its value even where that is the default. Where the
    study, its artifacts and the cache lie, and the number of workers, has none; a study's URL may hold a password.
    """
    words = ["lrfdse", "explore"]
    for option, value in options_of(settings):
        if option == "model":
            words.append(str(value))
        elif value is not None:
            words += [option, str(value)] if value != "" else [option]
    return shlex.join(words)


def options_of(settings: Settings) -> list[tuple[str, object]]:
    """Return the model and every option that has an effect on the result, paths as seen from the output folder.

    An option without a value has "", one that was not given None.
    """
    folder, data, limits = settings.output, settings.data, settings.limits

    def path(value: Path | None) -> str | None:
        return None if value is None else _path(value, folder)

    return [
        ("model", _path(settings.model, folder)),
        ("--target", source(settings.target_source, folder)),
        ("--calib", path(data.calib)),
        ("--eval", path(data.eval)),
        ("--test", path(data.test)),
        ("--metric", settings.metric),
        *(("--judge", name) for name in settings.judge),
        ("--eval-samples", settings.eval_samples),
        *(("--shape", f"{name}={'x'.join(map(str, sizes))}") for name, sizes in settings.shape.items()),
        *(("--value", f"{name}={text}") for name, text in settings.value.items()),
        ("--correct" if settings.correct else "--no-correct", ""),
        ("--layers", ",".join(settings.layers)),
        ("--space", source(settings.space_source, folder)),
        ("--meter", settings.meter),
        ("--max-drop", f"{100 * limits.max_drop:.12g}%"),
        ("--max-other-drop", None if limits.max_other_drop is None else f"{100 * limits.max_other_drop:.12g}%"),
        ("--max-params", limits.max_params),
        ("--max-size", limits.max_size),
        ("--max-latency", None if limits.max_latency_us is None else f"{limits.max_latency_us:.12g}us"),
        (
            "--max-model-latency",
            None if limits.max_model_latency_us is None else f"{limits.max_model_latency_us:.12g}us",
        ),
        ("--effort", settings.effort),
        ("--budget", settings.budget),
        ("--proxy", settings.proxy),
        ("--sampler", settings.sampler),
        ("--time", None if settings.minutes is None else f"{settings.minutes:.12g}"),
        ("--keep", settings.keep),
        ("--storage", settings.storage),
        ("--int8" if settings.int8 else "--no-int8", ""),
        ("--heal", "" if settings.heal else None),
        ("--heal-data", path(settings.heal_data)),
        ("--heal-minutes", f"{settings.heal_minutes:.12g}" if settings.heal else None),
        ("--heal-teacher", settings.heal_teacher if settings.heal else None),
        ("--accept-unverified", "" if settings.accept_unverified else None),
        ("--format", ",".join(settings.format) or None),
        ("--runtime", settings.runtime),
        ("--library" if settings.library else "--no-library", ""),
        ("--seed", settings.seed),
        ("--output", "."),
    ]


def _path(path: Path, folder: Path) -> str:
    text = relative(path, folder)
    return f"./{text}" if text.startswith("-") else text
