"""The nouns that every package shares: frozen, slotted, and free of heavy imports."""
