from __future__ import annotations

from statistics import NormalDist

import pytest

from lrfdse.report.page.deciding import deciding_figure, layers_figure, options_figure
from lrfdse.report.page.figures import funnel_figure, pareto_figure, score_figure, spectra_figure


def points(figure):
    """Return (x, y) of every drawn design."""
    return sorted((x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True) if x is not None)


def every(document):
    return [*document["designs"], *document["dominated"]]


def test_every_evaluated_design_is_a_point(document, read):
    expected = sorted((d["latency"]["warm"]["us"], d["params"]) for d in every(document))
    assert points(pareto_figure(read(document))) == expected
    expected = sorted((d["params"], round(100 * d["test_score"]["value"], 6)) for d in every(document))
    assert points(score_figure(read(document))) == expected


def test_where_losses_are_not_measured_output_errors_are_drawn(unverified, read):
    errors = {d["id"]: d["output_error"] for d in (unverified["original"], *every(unverified))}
    drawn = [y for _, y in points(score_figure(read(unverified)))]
    assert sorted(drawn) == sorted(100 * error for error in errors.values())
    figure = score_figure(read(unverified))
    assert figure.layout.yaxis.title.text == "output error (%)" and figure.layout.yaxis.range is None
    assert "loss not measured" in figure.data[0].hovertext[0] and "97.00%" not in figure.data[0].hovertext[0]
    assert not any(trace.error_y.array for trace in figure.data)
    unverified["designs"][0]["output_error"] = 30.0
    assert score_figure(read(unverified)).layout.yaxis.range == (-4, 104)


def test_shapes_tell_the_kinds_apart(document, read):
    for figure in (pareto_figure(read(document)), score_figure(read(document))):
        shapes = {trace.name: trace.marker.symbol for trace in figure.data}
        assert set(shapes) == {"recommended", "original", "SVD at equal size", "uniform SVD", "front", "dominated"}
        assert len(set(shapes.values())) == 6
        named = [trace.name for trace in figure.data if trace.showlegend is not False]
        assert len(named) == len(set(named)) == 6


def test_colours_of_the_pareto_figure_are_the_reported_scores(document, read):
    traces = {t.name: t for t in pareto_figure(read(document)).data if t.marker.coloraxis}
    assert set(traces["recommended"].marker.color) == {90.0}
    assert "dominated" not in traces


def test_bars_are_the_bracket_and_the_interval_of_the_loss(document, read):
    best = next(trace for trace in pareto_figure(read(document)).data if trace.name == "recommended")
    assert best.error_x.array[0] == pytest.approx(1.0)
    assert best.error_x.arrayminus[0] == pytest.approx(1.0)
    by_score = next(trace for trace in score_figure(read(document)).data if trace.name == "recommended")
    assert by_score.error_y.array[0] == pytest.approx(100 * NormalDist(0, 0.0031).inv_cdf(0.975))
    by_size = score_figure(read(document))
    assert next(trace for trace in by_size.data if trace.name == "recommended").error_x.array is None


def test_hover_shows_the_plan_and_the_costs(document, read):
    trace = next(t for t in pareto_figure(read(document)).data if t.name == "recommended" and t.hovertext)
    assert "fc1 = tt:m=8x2,n=4x4,r=3<br>fc2 = svd:r=2" in trace.hovertext[0]
    said = "modelled latency, bracket 4.0..6.0 µs<br>warm 5.0 µs (4.0×)<br>cold 10 µs (4.0×)"
    assert said in trace.hovertext[0]
    assert "−0.50 ± 0.61 points (95 %)" in trace.hovertext[0]


def test_designs_that_nobody_wants_do_not_squeeze_the_rest(document, read):
    figure = score_figure(read(document))
    low, high = figure.layout.yaxis.range
    assert 69 < low < 70.5 and high > 90.5
    document["designs"] = [d for d in document["designs"] if d["test_score"]["value"] > 0.8]
    assert score_figure(read(document)).layout.yaxis.range is None


def test_axes_have_names_and_units(document, read):
    figure = pareto_figure(read(document))
    assert figure.layout.xaxis.title.text == "latency, modelled (µs)"
    assert figure.layout.yaxis.title.text == "parameters"
    assert score_figure(read(document)).layout.yaxis.title.text == "accuracy (%)"


def test_the_funnel_has_a_line_for_every_different_layer(document, read):
    figure = funnel_figure(read(document))
    assert [trace.name for trace in figure.data] == ["fc1 and 1 more"]
    assert list(figure.data[0].x) == [10**10, 1]
    document["layers"][1]["funnel"]["stages"][0]["designs"] = 7
    assert [trace.name for trace in funnel_figure(read(document)).data] == ["fc1", "fc2"]


def test_spectra_have_lines_and_effective_ranks(document, read):
    traces = spectra_figure(read(document)).data
    lines = {trace.name: trace for trace in traces if trace.mode == "lines"}
    assert set(lines) == {"fc1", "fc1, whitened", "fc2", "fc2, whitened"}
    # Zero has no place on a logarithmic axis.
    assert list(lines["fc1"].y) == [1.0, 0.5]
    ranks = sorted(trace.x[0] for trace in traces if trace.mode == "markers")
    assert ranks == pytest.approx([3.0, 4.8, 6.0, 9.6])


def test_a_document_without_spectra_has_no_lines(document, read):
    for layer in document["layers"]:
        layer["spectra"] = {}
    document["dominated"], document["evaluated"], document["kernels"], document["command"] = [], None, [], None
    assert len(spectra_figure(read(document)).data) == 0
    assert len(points(pareto_figure(read(document)))) == 5


def test_the_deciding_figure_shows_the_limit_the_intervals_and_both_cache_regimes(document, read):
    figure = deciding_figure(read(document))
    (limit,) = figure.layout.shapes
    base = document["original"]["eval_score"]["value"]
    assert limit.y0 == limit.y1 == pytest.approx(100 * (base - 0.01))
    low, high = figure.layout.yaxis.range
    assert low < limit.y0 - 1 and high > 100 * base
    best = next(trace for trace in figure.data if trace.name == "recommended")
    assert (list(best.x), list(best.y)) == ([5.0], [90.5])
    assert best.error_y.array[0] == pytest.approx(100 * NormalDist(0, 0.004).inv_cdf(0.975))
    spans = [tuple(trace.x[:2]) for trace in figure.data if trace.mode == "lines+markers"]
    assert (5.0, 10.0) in spans


def test_steps_lead_along_designs_that_no_faster_one_matches(document, read):
    figure = deciding_figure(read(document))
    (steps,) = (trace for trace in figure.data if trace.mode == "lines")
    seen = sorted((d["latency"]["warm"]["us"], 100 * d["eval_score"]["value"]) for d in every(document))
    seen = [(us, score) for us, score in seen if score > 100 * document["original"]["eval_score"]["value"] - 10]
    best = [(us, y) for us, y in seen if all(other < y for faster, other in seen if faster < us)]
    assert list(steps.x) == [us for us, _ in best]
    assert list(steps.y) == pytest.approx([score for _, score in best])


def test_without_losses_the_deciding_figure_has_no_limit(unverified, read):
    figure = deciding_figure(read(unverified))
    assert not figure.layout.shapes
    assert figure.layout.yaxis.title.text == "output error (%)"


def test_layers_are_bars_and_equal_ones_share_one(deep, read):
    found = read(deep)
    bytes_, latency = layers_figure(found, "bytes"), layers_figure(found, "latency")
    for figure in (bytes_, latency):
        assert {trace.name: len(trace.x) for trace in figure.data} == {"original": 3, "recommended": 3}
    original = next(trace for trace in bytes_.data if trace.name == "original")
    assert sum(original.x) == pytest.approx(sum(layer["weight_bytes"] for layer in deep["layers"]) / 1024)
    assert "warm latency" in latency.layout.xaxis.title.text


def test_the_choices_of_layers_stand_by_error_and_latency(document, read):
    traces = options_figure(read(document)).data
    assert [trace.name for trace in traces] == ["fc1", "fc2"]
    assert [list(trace.marker.symbol) for trace in traces] == [["star"], ["star"]]
    assert list(traces[0].x) == [2.0] and list(traces[0].y) == [12.5]


def test_layers_that_begin_with_as_many_designs_share_the_line_of_the_most(deep, read):
    for place, layer in enumerate(deep["layers"]):
        layer["funnel"]["stages"][1]["designs"] = 30 + place % 5
    (line,) = funnel_figure(read(deep)).data
    assert line.name.endswith("and 35 more") and list(line.x) == [10**10, 34]
