"""Measure speed and memory on this machine: the dense CRF, and the net beside its peers.

All that is compared runs in turns, because a machine that does other things is faster at some
times than at others: only ratios of such times mean something.
"""
