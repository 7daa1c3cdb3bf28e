"""Files in, files out: segment, refine, convert."""
