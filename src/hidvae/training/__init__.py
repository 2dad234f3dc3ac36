"""What both trainings share: device, schedule, dropout, checkpoints, log."""
