"""The Optuna study: its storage, its queue, and who evaluates."""
