from __future__ import annotations

import pytest

from tests.kernels.operators.cases import begin_again


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    begin_again()
