"""Tags, one per level, coarse to fine."""
