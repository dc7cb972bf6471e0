"""The ground that everything stands on: folders, stored results and their keys."""
