"""Container of encoded audio, described byte by byte in docs/bitstream.md; knows no models."""
