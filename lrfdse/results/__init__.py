"""What was asked and what was found: the document of an exploration, its one reader, and its schema."""
