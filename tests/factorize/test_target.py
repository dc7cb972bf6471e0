"""Targets on what a compressed model feeds a layer, and weightings of its outputs, against brute-force minimisation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lrfdse.errors import InputError
from lrfdse.factorize.als import fit_outputs
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.target import Cumulative
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments


def upstream(seed, outputs, inputs, samples, noise=0.4):
    """A weight, what the layer read, and what it reads after upstream layers were compressed."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, inputs)) @ (
        np.exp(-np.arange(inputs) / 4)[:, None] * rng.standard_normal((inputs, inputs))
    )
    keep = rng.standard_normal((inputs, inputs // 2))
    fed = x @ keep @ np.linalg.pinv(keep) + noise * rng.standard_normal(x.shape) + 0.7
    return rng.standard_normal((outputs, inputs)), x, fed


def saes(weight, x, fed, rank, beta):
    """The closed form of arXiv 2602.03051 as it stands there, on centred rows: with a Cholesky factor and inverses."""
    x, fed = (x - x.mean(axis=0)).T / len(x) ** 0.5, (fed - fed.mean(axis=0)).T / len(x) ** 0.5
    s = np.linalg.cholesky(fed @ fed.T)
    u, d, vt = np.linalg.svd(weight @ (s + beta * (x - fed) @ fed.T @ np.linalg.inv(s).T))
    return (u[:, :rank] * d[:rank]) @ vt[:rank] @ np.linalg.inv(s)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_svd_paths_reach_the_closed_form_of_saes_svd(moments_of, beta):
    weight, x, fed = upstream(0, 9, 12, 3000)
    moments = moments_of(fed, x @ weight.T)
    fitter = Fitter(weight, moments, beta=beta, ridge=0.0)
    for path in (Factorization.svd(9, 12, 3), Factorization((1, 9), (12, 1), (3,))):
        found = dense_weight(fitter.fit(path).cores)
        np.testing.assert_allclose(found, saes(weight, x, fed, 3, beta), atol=1e-8)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_the_closed_form_minimises_the_stated_objective(moments_of, beta):
    """Against a general minimiser over both factors and a bias, on the rows: no algebra in common."""
    weight, x, fed = upstream(1, 4, 5, 400)
    y = beta * x @ weight.T + (1 - beta) * fed @ weight.T

    def objective(parameters):
        left, right, bias = parameters[:8].reshape(4, 2), parameters[8:18].reshape(2, 5), parameters[18:]
        rest = fed @ (left @ right).T + bias - y
        grad = 2 * rest / len(x)
        moved = grad.T @ fed
        return float(np.sum(rest**2) / len(x)), np.concatenate(
            [(moved @ right.T).ravel(), (left.T @ moved).ravel(), grad.sum(axis=0)]
        )

    starts = np.random.default_rng(2).standard_normal((12, 22))
    least = min(minimize(objective, start, jac=True, options={"maxiter": 3000, "gtol": 1e-9}).fun for start in starts)
    moments = moments_of(fed, x @ weight.T)
    fitter = Fitter(weight, moments, beta=beta, ridge=0.0)
    factors = fitter.fit(Factorization.svd(4, 5, 2))
    reached = np.mean(np.sum((fed @ dense_weight(factors.cores).T + factors.bias_shift - y) ** 2, axis=1))
    # The bias is that of the original outputs, whose mean the mixture has only at beta = 1.
    reached -= float(np.sum(((1 - beta) * (x - fed).mean(axis=0) @ weight.T) ** 2))
    assert reached == pytest.approx(least, rel=1e-6)


def test_a_train_fitted_to_the_original_outputs_comes_nearer_to_them(moments_of):
    weight, x, fed = upstream(3, 12, 20, 4000)
    y, path = x @ weight.T, Factorization((3, 4), (4, 5), (4,))
    moments = moments_of(fed, y)
    errors = {beta: Fitter(weight, moments, beta=beta).fit(path).output_error for beta in (0.0, 0.5, 1.0)}
    own = Fitter(weight, moments_of(fed)).fit(path)
    unaware = Fitter(weight, moments).measured(path, own.cores).output_error
    assert errors[1.0] < errors[0.5] < errors[0.0]
    assert errors[0.0] == pytest.approx(unaware, rel=1e-3)
    plain = Fitter(weight, moments, "svd").fit(path)
    assert errors[1.0] < plain.output_error


def test_equal_inputs_are_the_plain_problem(moments_of):
    weight, x, _ = upstream(4, 8, 12, 500)
    path = Factorization((2, 4), (3, 4), (3,))
    cumulative = Fitter(weight, moments_of(x, x @ weight.T)).fit(path)
    plain = Fitter(weight, moments_of(x)).fit(path)
    np.testing.assert_allclose(dense_weight(cumulative.cores), dense_weight(plain.cores), atol=1e-6)
    np.testing.assert_allclose(cumulative.bias_shift, plain.bias_shift, atol=1e-6)
    assert cumulative.output_error == pytest.approx(plain.output_error, rel=1e-6)


def test_the_target_stays_the_weight_where_the_inputs_never_go(moments_of):
    weight, x, fed = upstream(5, 6, 10, 300)
    fed[:, 6:] = 1.0
    made = Cumulative.of(weight, moments_of(fed, x @ weight.T))
    np.testing.assert_allclose(made.at(1.0)[:, 6:], weight[:, 6:], atol=1e-9)
    assert np.abs(made.at(1.0)[:, :6] - weight[:, :6]).max() > 0.01


def test_the_ridge_keeps_few_samples_from_being_fitted(moments_of):
    """What is learned from 30 rows of 24 inputs must serve rows it has not seen; without a ridge it does not."""
    weight, x, fed = upstream(6, 10, 24, 10_000)
    y = x @ weight.T
    few = moments_of(fed[:30], y[:30])

    def unseen(target):
        rest = y - y.mean(axis=0) - (fed - fed.mean(axis=0)) @ target.T
        return float(np.mean(np.sum(rest**2, axis=1)))

    careful, greedy = Cumulative.of(weight, few), Cumulative.of(weight, few, ridge=0.0)
    assert unseen(careful.at(1.0)) < 0.8 * min(unseen(weight), unseen(greedy.at(1.0)))
    many = Cumulative.of(weight, moments_of(fed, y))
    assert many.ridge < 0.1 * careful.ridge
    assert unseen(many.at(1.0)) < unseen(careful.at(1.0))


def test_the_ridge_is_the_one_of_least_generalized_cross_validation_error(moments_of):
    """By hat matrices on the rows."""
    weight, x, fed = upstream(7, 5, 8, 40)
    y = x @ weight.T
    moments = moments_of(fed, y)
    centred = fed - fed.mean(axis=0)
    beyond = y - y.mean(axis=0) - centred @ weight.T

    def score(ridge):
        hat = centred @ np.linalg.solve(centred.T @ centred + len(x) * ridge * np.eye(8), centred.T)
        free = 1 - (1 + np.trace(hat)) / len(x)
        return np.sum((beyond - hat @ beyond) ** 2) / len(x) / free**2

    found = Cumulative.of(weight, moments).ridge
    grid = np.linalg.eigvalsh(moments.covariance)[-1] * np.geomspace(1e-10, 1e3, 61)
    assert score(found) == pytest.approx(min(map(score, grid)), rel=1e-9)


def test_aces_takes_the_weight_that_retains_most(moments_of):
    weight, x, fed = upstream(8, 14, 18, 3000, noise=0.8)
    moments = moments_of(fed, x @ weight.T)
    made, path = Cumulative.of(weight, moments), Factorization.svd(14, 18, 4)
    root = np.linalg.cholesky(moments.covariance)

    def retained(beta):
        s = np.linalg.svd(made.at(beta) @ root, compute_uv=False) ** 2
        return s[:4].sum() / s.sum()

    chosen = made.beta(path, moments.covariance)
    assert 0 <= chosen <= 1
    assert retained(chosen) >= max(map(retained, np.linspace(0, 1, 101))) - 1e-4
    train = Factorization((2, 7), (3, 6), (4,))
    assert 0 <= made.beta(train, moments.covariance) <= 1
    fitted = Fitter(weight, moments, beta=None).fit(path)
    np.testing.assert_allclose(
        dense_weight(fitted.cores), dense_weight(Fitter(weight, moments, beta=chosen).fit(path).cores), atol=1e-9
    )


def test_a_dense_layer_in_a_compressed_model_is_corrected_too(moments_of):
    weight, x, fed = upstream(9, 6, 9, 2000)
    y = x @ weight.T
    factors = Fitter(weight, moments_of(fed, y)).fit(Factorization.dense(6, 9))
    best = np.linalg.lstsq(np.hstack([fed, np.ones((len(fed), 1))]), y, rcond=None)[0]
    rest = y - np.hstack([fed, np.ones((len(fed), 1))]) @ best
    assert factors.output_error == pytest.approx(np.linalg.norm(rest) / np.linalg.norm(y - y.mean(axis=0)), rel=1e-3)


def outputs_weighting(rng, outputs, rank):
    factor = rng.standard_normal((outputs, rank)) * np.geomspace(3, 0.1, outputs)[:, None]
    return factor @ factor.T


def damped(weighting):
    return weighting + 0.1 * np.trace(weighting) / len(weighting) * np.eye(len(weighting))


@pytest.mark.parametrize("path", [Factorization.svd(12, 20, 4), Factorization((1, 12), (20, 1), (4,), "lr")])
def test_svd_under_a_weighting_is_the_weighted_low_rank_optimum(moments_of, path):
    rng = np.random.default_rng(10)
    weight, x, _ = upstream(10, 12, 20, 3000)
    weighting, moments = damped(outputs_weighting(rng, 12, 20)), moments_of(x)
    values, vectors = np.linalg.eigh(damped(weighting))
    s = np.linalg.svd((vectors * np.sqrt(values)).T @ weight @ np.linalg.cholesky(moments.covariance), compute_uv=False)
    found = Fitter(weight, moments, weighting=weighting).fit(path)
    error = OutputError.of(weight, moments.covariance, damped(weighting))
    assert error(found.cores) == pytest.approx(float(np.sum(s[4:] ** 2)), rel=1e-8)
    rest = weight - dense_weight(found.cores)
    loss = float(np.trace(weighting @ rest @ moments.covariance @ rest.T))
    assert Fitter(weight, moments, weighting=weighting).loss(found.cores) == pytest.approx(loss, rel=1e-8)


@pytest.mark.parametrize(
    ("m", "n", "ranks"),
    [((12, 1), (4, 5), (3,)), ((1, 12), (4, 5), (3,)), ((3, 4), (4, 5), (5,)), ((3, 2, 2), (2, 5, 2), (3, 3))],
)
def test_trains_under_a_weighting_come_nearer_in_it(moments_of, m, n, ranks):
    rng = np.random.default_rng(11)
    weight, x, _ = upstream(11, 12, 20, 3000)
    weighting, moments, path = outputs_weighting(rng, 12, 3), moments_of(x), Factorization(m, n, ranks)
    weighted, plain = Fitter(weight, moments, weighting=weighting), Fitter(weight, moments)
    aware, blind = weighted.fit(path), plain.fit(path)
    assert weighted.loss(aware.cores) < 0.9 * weighted.loss(blind.cores)
    assert plain.loss(blind.cores) <= plain.loss(aware.cores) + 1e-9


@pytest.mark.parametrize(("m", "n"), [((6, 1), (2, 4)), ((3, 2), (2, 4))])
def test_a_general_minimiser_finds_nothing_better_near_a_train_under_a_weighting(moments_of, m, n):
    rng = np.random.default_rng(12)
    weight, x, _ = upstream(12, 6, 8, 20_000)
    weighting, moments, path = outputs_weighting(rng, 6, 6), moments_of(x), Factorization(m, n, (2,))
    error = Fitter(weight, moments, weighting=weighting).problem.error(path)
    (a, b), sizes = path.core_shapes, [int(np.prod(shape)) for shape in path.core_shapes]

    def objective(parameters):
        first, second = parameters[: sizes[0]].reshape(a), parameters[sizes[0] :].reshape(b)
        rest = dense_weight([first, second]) - weight
        moved = 2 * error.weighting @ rest @ error.covariance
        moved = moved.reshape(m[0], m[1], n[0], n[1])
        by_first = np.einsum("xyzw,rywq->xzr", moved, second)
        by_second = np.einsum("xyzw,pxzr->ryw", moved, first)
        return float(np.vdot(moved.reshape(weight.shape), rest) / 2), np.concatenate(
            [by_first.ravel(), by_second.ravel()]
        )

    cores = fit_outputs(error, path, sweeps=300, gain=1e-10)
    reached = error(cores)
    start = np.concatenate([core.ravel() for core in cores])
    assert objective(start)[0] == pytest.approx(reached, rel=1e-9)
    assert minimize(objective, start, jac=True, options={"maxiter": 5000}).fun >= reached * 0.999
    # Alternating least squares may end in a local minimum, but not in a bad one.
    others = [
        minimize(objective, rng.standard_normal(sum(sizes)), jac=True, options={"maxiter": 5000}).fun for _ in range(15)
    ]
    assert reached <= 1.1 * np.median(others)


def test_a_weighting_of_zero_prefers_nothing(moments_of):
    weight, x, _ = upstream(13, 6, 8, 100)
    path = Factorization((2, 3), (2, 4), (2,))
    zero = Fitter(weight, moments_of(x), weighting=np.zeros((6, 6))).fit(path)
    none = Fitter(weight, moments_of(x)).fit(path)
    np.testing.assert_array_equal(dense_weight(zero.cores), dense_weight(none.cores))


def test_moments_that_do_not_fit_are_refused(moments_of):
    weight, x, fed = upstream(14, 6, 8, 100)
    whole = moments_of(fed, x @ weight.T)
    with pytest.raises(ValueError, match="need all of cross"):
        Fitter(weight, Moments(whole.count, whole.mean, whole.second, whole.cross))
    with pytest.raises(ValueError, match=r"cross of the layer has shape .* instead of \(6, 8\)"):
        Fitter(weight, Moments(1, whole.mean, whole.second, whole.cross.T, whole.output_mean, 1.0))
    with pytest.raises(ValueError, match=r"weighting of the layer has shape \(5, 5\) instead of \(6, 6\)"):
        Fitter(weight, whole, weighting=np.eye(5))
    with pytest.raises(InputError, match="weighting of the layer must be finite"):
        Fitter(weight, whole, weighting=np.full((6, 6), np.nan))
    with pytest.raises(InputError, match="at least one is needed"):
        Fitter(weight, Moments(0, whole.mean, whole.second))


def test_one_sample_and_one_class(moments_of):
    """A covariance of rank 0 or 1 says next to nothing: fits are finite and what was not seen is not thrown away."""
    weight, x, _ = upstream(17, 10, 15, 40)
    constant = np.tile(x[:1], (40, 1))
    line = x.mean(axis=0) + np.linspace(-1, 1, 40)[:, None] * x[0]
    for seen in (x[:1], constant, line):
        for path in (Factorization.svd(10, 15, 6), Factorization((2, 5), (3, 5), (4,))):
            found = Fitter(weight, moments_of(seen)).fit(path)
            blind = Fitter(weight, moments_of(seen), "svd").fit(path)
            assert found.weight_error <= 1.25 * blind.weight_error
            assert found.output_error < 0.05
            for fed in (seen, seen + 0.1):
                both = Fitter(weight, moments_of(fed, seen @ weight.T)).fit(path)
                assert all(np.isfinite(core).all() for core in both.cores) and both.weight_error < 1
                assert both.output_error < 0.05
