"""Tells whether an error means that the machine has run out of something."""

_MEMORY = (
    *("bad_alloc", "out of memory", "insufficient memory"),
    *(
        "failed to allocate",
        "cannot allocate",
        "unable to allocate",
        "could not allocate",
        "smaller than requested bytes",
    ),
    "failed to map segment",  # by the linker, of a library
)
_THREADS = ("can't start new thread", "pthread", "posixthread", "resource temporarily unavailable")


def shortage(error: BaseException) -> str | None:
    """What somebody ran out of, with the mend: for a message, after who it was. None if nothing.

    error: of Python or of any library, which say it in words of their own.
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY):
        return (
            "ran out of memory: use a smaller image (segment takes --max-side) or tiles (--tile), "
            "a higher limit on memory (ulimit -v), or a machine with more"
        )
    if any(words in text for words in _THREADS):
        return "could not start threads: raise the limits on them (ulimit -u) and on memory (-v)"
    return None
