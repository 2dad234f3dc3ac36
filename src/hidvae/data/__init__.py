"""Catalogue, interactions and their leave-one-out split: schema, sources, prepare."""
