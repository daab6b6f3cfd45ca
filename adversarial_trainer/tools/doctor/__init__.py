"""`adversarial-trainer doctor`: check a folder of audio before training on it."""
