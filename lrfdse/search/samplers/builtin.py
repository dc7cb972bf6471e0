"""Samplers: which plans to evaluate next, as functions of those that were.

A sampler is handed the space, the evaluated plans in the order in which they were proposed, the plans that need no
second evaluation, a seed and a count; it gives so many new plans. It holds no state: a run that is killed and resumed,
or shared by many workers, proposes the same plans. Optuna's samplers work on a study in memory that is made anew for
every batch from what is known.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import random
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lrfdse.base.registry import Registry
from lrfdse.errors import ToolError
from lrfdse.search.plans.tables import PlanKey
from lrfdse.search.samplers.protocol import Observation, Propose, Sampler, Space

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import BaseSampler


DEFAULT = "nsga2"


_POPULATION = 20
"""Population of NSGA-II: small, so that the knapsack's plans are its first generation, not drowned in random ones.
Chosen; results/search.md compares the samplers."""


_STARTUP = 10
"""Evaluated plans below which TPE and GP draw at random; the baselines and the knapsack's plans are usually more.
Optuna's default for both."""


_TRIES = 100
"""Neighbours of a known plan that are drawn before the whole space is looked through. Chosen."""


_DIRECTIONS: list[Literal["minimize", "maximize"]] = ["minimize", "minimize", "maximize"]


def open_sampler(name: str) -> Sampler:
    """Return the sampler of that name.

    Raises
    ------
    InputError
        There is none.
    ToolError
        It needs a package that is not installed, or the plug-in that offers it is broken.
    """
    sampler = SAMPLERS.get(name)
    if sampler.needs and importlib.util.find_spec(sampler.needs) is None:
        raise ToolError(f"--sampler {name} needs {sampler.package}: pip install {sampler.package}")
    return sampler


def _by_optuna(make: Callable[[int], BaseSampler], asks: bool = False) -> Propose:
    """Return a proposer that asks a sampler of Optuna.

    Parameters
    ----------
    make
        From a seed to the sampler.
    asks
        Whether the sampler must have been asked for every trial, as those are that mark them with generations.
    """

    def propose(
        space: Space, observed: Sequence[Observation], known: Collection[PlanKey], seed: int, count: int
    ) -> list[PlanKey]:
        import optuna
        from optuna.distributions import CategoricalDistribution

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        drawn = _seed(seed, len(observed), len(known))
        distributions = {layer: CategoricalDistribution(texts) for layer, texts in space.choices.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(directions=_DIRECTIONS, sampler=make(drawn))
            for each in observed:
                _replay(study, space, each, distributions, asks)
            asked = [study.ask(dict(distributions)).params for _ in range(count)]
        wanted = [tuple(params[layer] for layer in space.choices) for params in asked]
        return _distinct(space, wanted, known, drawn)

    return propose


def _replay(
    study: optuna.Study,
    space: Space,
    observation: Observation,
    distributions: Mapping[str, CategoricalDistribution],
    asks: bool,
) -> None:
    from optuna.trial import create_trial

    params = dict(zip(space.choices, observation.plan, strict=True))
    if not asks:
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(distributions),
                values=list(observation.values),
                constraints=dict(observation.constraints),
            )
        )
        return
    study.enqueue_trial(params)
    trial = study.ask(dict(distributions))
    # NSGA-II gives a trial its generation when it samples for it, which a trial whose plan is fixed does not ask for.
    _ = trial.relative_params
    for name, value in observation.constraints.items():
        trial.set_constraint(name, value)
    study.tell(trial, observation.values)


def _distinct(space: Space, wanted: Sequence[PlanKey], known: Collection[PlanKey], seed: int) -> list[PlanKey]:
    """Return the wanted plans, those that are known or wanted twice replaced by neighbours that are new."""
    draw = random.Random(seed)
    taken, plans = set(known), list[PlanKey]()
    for plan in wanted:
        if (new := _near(space, plan, taken, draw)) is None:
            break
        plans.append(new)
        taken.add(new)
    return plans


def _near(space: Space, plan: PlanKey, taken: Collection[PlanKey], draw: random.Random) -> PlanKey | None:
    """Return the plan, or a new one that differs from it in few layers; None where every plan is taken."""
    if plan not in taken:
        return plan
    lists = list(space.choices.values())
    for attempt in range(_TRIES):
        changed = list(plan)
        for layer in draw.sample(range(len(lists)), min(len(lists), 1 + attempt // 20)):
            changed[layer] = draw.choice(lists[layer])
        if tuple(changed) not in taken:
            return tuple(changed)
    return next((each for each in space.plans() if each not in taken), None)


def _random(
    space: Space, observed: Sequence[Observation], known: Collection[PlanKey], seed: int, count: int
) -> list[PlanKey]:
    draw = random.Random(_seed(seed, len(observed), len(known)))
    wanted = [tuple(draw.choice(texts) for texts in space.choices.values()) for _ in range(count)]
    return _distinct(space, wanted, known, draw.getrandbits(32))


def _exhaustive(
    space: Space, observed: Sequence[Observation], known: Collection[PlanKey], seed: int, count: int
) -> list[PlanKey]:
    return list(itertools.islice((plan for plan in space.plans() if plan not in known), count))


def _evolution(
    space: Space, observed: Sequence[Observation], known: Collection[PlanKey], seed: int, count: int
) -> list[PlanKey]:
    from lrfdse.search.samplers.evolution import level_switches

    plans = level_switches(space.tables, observed, known, _seed(seed, len(observed), len(known)), count)
    return plans + _random(space, observed, {*known, *plans}, seed, count - len(plans))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _nsga2(seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=_POPULATION, seed=seed)


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=_STARTUP, multivariate=True, constant_liar=True)


def _gp(seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=_STARTUP, deterministic_objective=True)


SAMPLERS: Registry[Sampler] = Registry(
    "lrfdse.samplers",
    "sampler",
    {
        sampler.name: sampler
        for sampler in (
            Sampler("nsga2", _by_optuna(_nsga2, asks=True)),
            Sampler("tpe", _by_optuna(_tpe)),
            Sampler("gp", _by_optuna(_gp), needs="torch", package="torch"),
            Sampler("evolution", _evolution),
            Sampler("random", _random, batch=None),
            Sampler("exhaustive", _exhaustive, batch=None, whole_space=True),
        )
    },
)
"""The samplers by name; a plug-in adds one under the entry-point group "lrfdse.samplers"."""
