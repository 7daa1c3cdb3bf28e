"""Draws the scenes of ToyVOC."""
