"""Pages, contact sheets and plots."""

LEAST_SHARE = 0.005
"""Labels with a smaller share of the image are left out where labels are listed."""
