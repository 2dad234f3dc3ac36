"""What a run is: its stages, told once, and how they are made."""
