"""What users look at: terminal, report, views of a dataset."""
