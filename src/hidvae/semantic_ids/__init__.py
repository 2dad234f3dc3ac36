"""Item ↔ semantic ID: the table, its collisions, its trie, and formats of other tools."""
