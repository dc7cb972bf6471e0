"""The contracts find the faults that they are there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FAULTS = {
    "trusting": "a_kernel_that_computes_wrong_numbers_gets_none",
    "restless": "its_key_repeats",
    "zeros": "full_rank_gives_the_weight_itself",
    "noisy": "equal_problems_have_equal_fits",
    "forgetful": "the_whole_space_is_proposed_once_each",
    "moody": "plans_depend_on_the_arguments_alone",
    "misnamed": "it_says_what_it_is",
    "lower": "the_best_is_one_and_other_outputs_have_less",
    "deaf:": "output_errors_and_exit_code_come_back",
}


@pytest.fixture(scope="module")
def failed():
    """The lines of pytest's summary on what failed of `faulty.py`, in a process of its own."""
    chosen = " or ".join({*FAULTS.values(), "arguments_reach_the_program_in_order"})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", "--tb=no", "-k", chosen]
    ran = subprocess.run(
        [*command, str(Path(__file__).with_name("faulty.py"))], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, failed):
    assert any(f"::test_{FAULTS[fault]}[" in line and fault in line for line in failed), failed


@pytest.mark.slow
def test_arguments_that_are_lost_are_found(failed):
    assert any("::test_arguments_reach_the_program_in_order[deaf:]" in line for line in failed), failed


def test_what_is_not_at_fault_passes(failed):
    """A meter that is wrong in one way is right in the others, so a contract does not fail for any reason at all."""
    assert not any("its_key_repeats" in line and "trusting" in line for line in failed)
    assert not any("wrong_numbers" in line and "restless" in line for line in failed)
    assert not any("the_whole_space" in line and "moody" in line for line in failed)
