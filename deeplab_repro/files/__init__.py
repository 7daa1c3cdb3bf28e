"""One file at a time, read and written whole or not at all."""
