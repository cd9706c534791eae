"""Training: settings, statistics, losses, schedules, batches and the loop that every backend runs."""
