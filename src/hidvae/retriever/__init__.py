"""Stage 2: a transformer that reads histories and generates the next item's semantic ID."""
