"""Real models that nobody tuned for, explored end to end."""
