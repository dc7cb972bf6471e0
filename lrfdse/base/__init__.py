"""What every package stands on: files, stored results, processes and registries; none of it knows the subject."""
