"""What the parts cost on this machine: the dense CRF, and the net beside its peers.

Only ratios of times that were taken in turns mean something on a machine that does other things.
"""
