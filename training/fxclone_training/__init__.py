"""Training: model families, losses, feedback noise, stages, recipes."""
