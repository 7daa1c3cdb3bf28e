"""Released weights from the web, and where they are on this machine."""
