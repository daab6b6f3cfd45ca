"""Audio files to bitstreams and back: the commands encode, decode and info."""
