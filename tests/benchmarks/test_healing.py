"""The page on healing: validation data choose among teachers, and what was not run is said."""

from __future__ import annotations

from benchmarks.healing import lines_of


def row(seed, teacher, validation, test):
    scores = {"original": {"eval": 90.0, "test": 89.5}, "before": {"eval": 80.0, "test": 79.0}}
    scores |= {"after": {"eval": validation, "test": test}, "kept": True, "steps": 1200}
    costs = {"cpu_minutes": 0.2, "minutes": 0.5, "peak_mib": 9.0}
    return {"model": "lenet300", "seed": seed, "ratio": 32.0, "weights": 7700, "teacher": teacher} | scores | costs


def test_the_best_is_that_of_the_validation_data():
    rows = [row(1, "outputs", 86.0, 85.0), row(1, "both", 85.0, 87.0), row(1, "labels", 84.0, 83.0)]
    rows += [row(2, "outputs", 84.0, 84.0), row(2, "both", 85.0, 86.0), row(2, "labels", 84.5, 88.0)]
    lines = lines_of(rows, {"date": "today"}, 5)
    (line,) = [each for each in lines if each.startswith("| lenet300 | 32x |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:5] == ["7,700", "89.50 ± 0.00", "79.00 ± 0.00"]
    assert cells[5:8] == ["84.50 ± 0.71", "86.50 ± 0.71", "85.50 ± 3.54"]
    # Of seed 1 the outputs' 85.0, of seed 2 the 86.0 of both.
    assert cells[8:10] == ["85.50 ± 0.71", "6.50 ± 0.71"]
    assert cells[11] == "86.86: missed by 1.36"
    assert "Not run: lenet300 16x, mlp1024 32x, conv512 64x." in lines
    assert "| lenet300 | 2 | 32x | labels | 80.00 -> 84.50 | 79.00 -> 88.00 | yes | 1,200 | 0.20 | 0.50 | 9 |" in lines
