"""Many items at once: threads, processes, a Dask cluster."""
