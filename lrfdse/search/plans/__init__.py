"""Plans from additive tables: the exact front, and which of it to evaluate."""
