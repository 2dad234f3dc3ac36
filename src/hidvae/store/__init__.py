"""What lies on disk: stage folders, the shared cache, runs on the Hub."""
