"""Tools: one folder for each command of `adversarial-trainer`."""
