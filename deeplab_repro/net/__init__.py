"""Nets, layers, coarse scores and solver settings as plain data."""
