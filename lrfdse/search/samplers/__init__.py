"""Proposers of plans: functions of what was evaluated."""
