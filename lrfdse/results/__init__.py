"""What was asked and what was found."""
