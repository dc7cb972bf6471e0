"""The models of the accuracy benchmark."""
