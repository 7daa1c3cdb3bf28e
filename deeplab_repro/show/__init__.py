"""Pages, contact sheets and plots."""
