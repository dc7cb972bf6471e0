from __future__ import annotations

import re

from lrfdse.report.card import design_card


def tables(card):
    """Return the cells of every table row, split where GitHub's Markdown splits them: at bars that are not escaped."""
    rows = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_card_says_costs_score_and_layers(document, read):
    found = read(document)
    card = design_card(found, found.designs[1])
    rows = {row[0]: row for row in tables(card)}
    assert rows["parameters"] == ["parameters", "200", "442", "2.2× less"]
    assert rows["weights (KiB)"] == ["weights (KiB)", "0.78", "1.7", "2.2× less"]
    assert rows["warm latency (µs), modelled"][1:] == ["5.0 [4.0..6.0]", "20 [16..24]", "4.0× less"]
    assert rows["cold latency (µs), modelled"][1:] == ["10 [8.0..12]", "40 [32..48]", "4.0× less"]
    assert rows["accuracy (%), on test data"][1:3] == ["90.00 [88.8..91.2]", "90.50 [89.3..91.7]"]
    assert rows["accuracy (%), on test data"][3] == "−0.50 ± 0.61 points"
    assert rows["accuracy (%), on evaluation data"][3] == "−0.50 ± 0.78 points"
    assert rows["`fc1`"] == ["`fc1`", "`tt:m=8x2,n=4x4,r=3`", "90", "180", "2.0", "4.0", "25.0%", "12.5%"]
    assert "Latency is **modelled** (SpacemiT X60, 1600 MHz), of the C kernels" in card
    assert card.count("not checked against hardware") == 1
    assert "### `aaaaaaaa` recommended" in card


def test_hostile_names_stay_in_their_cells(hostile, read):
    found = read(hostile)
    card = design_card(found, found.designs[1])
    widths = [len(row) for row in tables(card)]
    assert widths == [4] * 9 + [8] * 4
    layers = tables(card)[-2:]
    assert layers[0][0] == "`<script>alert(1)</script>`"
    assert layers[1][0].startswith("`` ") and layers[1][0].endswith(" ``")


def test_a_design_that_was_not_kept_says_how_to_get_it(document, read):
    found = read(document)
    assert "`lrfdse export DIR eeeeeeee` makes it" in design_card(found, found.designs[-1])


def test_a_card_without_test_data(untested, read):
    found = read(untested)
    rows = [row[0] for row in tables(design_card(found, found.designs[1]))]
    assert "fidelity (%), on evaluation data" in rows
    assert not any("test data" in row for row in rows)


def test_a_card_of_what_nobody_verified(unverified, read):
    found = read(unverified)
    card = design_card(found, found.designs[0])
    assert "| output error (%), on random inputs | 12.50 | 0.00 | loss not measured |" in card
    assert "97.00" not in card
