"""A page that a test reads back."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Its pictures, links and text; void elements aside, every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.text, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())

    def pictures(self, kind):
        prefix = f"data:image/{kind};base64,"
        sources = [image.get("src", "") for image in self.images]
        encoded = [source[len(prefix) :] for source in sources if source.startswith(prefix)]
        return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]

    def picture(self, index):
        encoded = self.images[index]["src"].partition(";base64,")[2]
        return Image.open(io.BytesIO(base64.b64decode(encoded)))
