"""Files that are given in place of one of Caffe's binary files, told by how they begin."""

import codecs

from deeplab_repro.errors import FormatError

_OTHER_FORMATS = {
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip file (npz or PyTorch?)",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}


def refuse_other_formats(head: bytes, expected: str) -> None:
    """Raise FormatError if a file that begins so is text or of a kind that its first bytes tell.

    `expected` is what it should be, with its article, as the message says it.
    """
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise FormatError(f"this is {kind}, expected {expected}")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return
    # Caffe's files have control characters in their first bytes: the tags and lengths of fields.
    if any(char < " " and char not in "\t\n\v\f\r" for char in text):
        return
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise FormatError(f"this is a web page, expected {expected}: download it again")
    raise FormatError(
        f"this is a text file, expected {expected} (binary); is it the prototxt in the wrong place?"
    )
