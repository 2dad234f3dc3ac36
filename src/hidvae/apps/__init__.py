"""What users start: command line, server, batch jobs, export, pages."""
