"""Learned likeness: a vector per item, made from content alone, near to those of its successors."""
