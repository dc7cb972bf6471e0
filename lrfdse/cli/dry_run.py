"""``lrfdse explore --dry-run``: what would be done, without doing it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.explore.forecast import Forecast
    from lrfdse.results.settings import Settings


def tell(settings: Settings, as_json: bool) -> None:
    """Print layers, stages and estimated minutes on standard output, as tables or as JSON."""
    import json

    import typer

    from lrfdse.cli.progress import stages_of
    from lrfdse.cli.show_command import print_layers
    from lrfdse.cli.terminal import console, print_line, print_wrapped
    from lrfdse.deploy.forms import forms_of
    from lrfdse.explore.forecast import forecast
    from lrfdse.ir.form import FORM_FILES
    from lrfdse.results.write import inspection_of, json_of

    found = forecast(settings)
    document = inspection_of(found.inspection)
    formats = forms_of(settings.model, settings.format)
    stages = [words for words, _ in stages_of(settings)]
    if as_json:
        facts = {
            "meter": found.meter,
            "samples": found.samples,
            "plans": found.plans,
            "stages": stages,
            "formats": list(formats),
            "cpu_minutes": found.cpu_minutes,
            "unknown": found.unknown,
            "output": str(settings.output),
            "inspection": json.loads(json_of(document)),
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    out = console()
    print_layers(out, document)
    print_line(out, "")
    for place, words in enumerate(stages, 1):
        print_line(out, f"Stage {place} of {len(stages)}: {words}")
    print_line(out, "")
    held = ", ".join(f"{count:,} samples of --{role}" for role, count in found.samples.items()) or "no data"
    print_wrapped(out, f"Data: {held}. Latencies: {found.meter} meter. At most {found.plans} plans on the data.")
    print_wrapped(out, f"Files of each design that is kept: {', '.join(FORM_FILES[form] for form in formats)}.")
    print_wrapped(out, f"Time: {_time(found, settings.workers)}")
    print_line(out, f"Nothing was written. Results would lie in {settings.output}")


def _time(found: Forecast, workers: int) -> str:
    from lrfdse.explore.forecast import LAYER_MINUTES, PLAN_MINUTES

    if found.cpu_minutes is None:
        return f"unknown, and no estimate is made: {'; '.join(found.unknown)}."
    whole = math.ceil(found.cpu_minutes)
    spread = math.ceil(found.cpu_minutes / workers)
    rule = f"{LAYER_MINUTES:g} CPU minutes a layer and {PLAN_MINUTES:g} a plan, as the example took on one EPYC core"
    return f"from {spread} to {whole} minutes ({workers} processes, evenly used or not at all): {rule}."
