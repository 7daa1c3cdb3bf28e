"""Names and other text out of a file, as messages may show them: short, and on one line."""

_LONGEST_NAME = 200
_LONGEST_SHOWN = 60


def is_plain_name(name: str) -> bool:
    """Whether messages and tables can show the name as it is."""
    return name.isprintable() and len(name) <= _LONGEST_NAME


def shown(text: str) -> str:
    """Text in quotes, cut where it is long, escaped where it holds control characters."""
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "..."
    return f"'{text}'" if text.isprintable() else ascii(text)
