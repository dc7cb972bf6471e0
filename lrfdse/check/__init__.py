"""The CI gate: a finished exploration against limits and an earlier run, and the verdicts in CI's formats."""
