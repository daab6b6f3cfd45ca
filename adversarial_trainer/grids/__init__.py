"""Dora grids: `dora grid NAME` runs the experiments that grids/NAME.py lists."""
