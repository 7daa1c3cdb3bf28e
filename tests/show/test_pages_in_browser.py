"""Every page in a real browser: wide and narrow, light and dark, by mouse and by keyboard."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.paper import write
from deeplab_repro.paper.write import write_report
from deeplab_repro.show.photo_page import LabelledPhoto, PhotoPage
from deeplab_repro.toy.demo_page import write_page
from deeplab_repro.toy.scenes import make_scene
from tests.paper.test_page import draw
from tests.paper.test_page import make as paper_report
from tests.toy.test_demo_page import result_of

PAGES = ("segment", "demo", "paper")
LONG = "photos/" + "a long name " * 8 + "x" * 60 + ".jpg"

# The least contrast of a text with what is behind it, and that text.
CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const clear = (colour) => /rgba\\(.*, 0\\)/.test(colour);
  const found = [];
  for (const element of document.querySelectorAll("body, body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = texts.map((node) => node.data.trim()).join("");
    if (!text || /SCRIPT|OPTION/.test(element.tagName)) continue;
    let behind = element;
    while (clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const lights = [light(getComputedStyle(element).color),
                    light(getComputedStyle(behind).backgroundColor)];
    found.push([(Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05), text]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for each kind of page, with its index.html."""
    folder = tmp_path_factory.mktemp("pages")
    scenes = [make_scene(0, index, "val") for index in range(3)]
    page = PhotoPage(folder / "segment", VOC_CLASSES)
    for name, scene in zip(('a"b#%41&<i>\n.jpg', LONG, "c.jpg"), scenes, strict=True):
        labels = np.where(scene.labels == 255, 0, scene.labels)
        seconds = {"net": 0.25, "CRF": 1.5}
        both = {"net": np.roll(labels, 9), "net + CRF": labels}
        page.add(LabelledPhoto(Path(name), scene.image, both, seconds))
    page.add_failure(Path(LONG), "is no picture " * 20)
    page.write("a net")
    (folder / "demo").mkdir()
    write_page(folder / "demo" / "index.html", result_of(scenes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "draw_curves", draw)
        write_report(folder / "paper", paper_report())
    return folder


@pytest.fixture(scope="module")
def tabs(browser, folder):
    """The pages by kind, each in a tab of its own, and what went wrong in any of them."""
    context, wrong = browser.new_context(), []

    def note_foreign(request):
        if not request.url.startswith(("file:", "data:")):
            wrong.append(request.url)

    def tab(kind):
        page = context.new_page()
        page.on("request", note_foreign)
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((folder / kind / "index.html").as_uri())
        # What is out of sight would not be laid out, and so not be checked.
        page.add_style_tag(content="section { content-visibility: visible !important; }")
        return page

    yield {kind: tab(kind) for kind in PAGES}, wrong
    context.close()


@pytest.fixture
def opened(tabs):
    """A page at a width; there is no error in it, and it asks nobody for anything."""
    pages, wrong = tabs

    def show(kind, width=1280):
        pages[kind].bring_to_front()
        pages[kind].set_viewport_size({"width": width, "height": 900})
        return pages[kind]

    yield show
    assert wrong == []


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_can_be_read(opened, kind):
    for width in (1280, 390):
        page = opened(kind, width)
        widths = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], width
    for scheme, is_dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        contrast, text = page.evaluate(CONTRAST)
        assert contrast >= 4.5, (scheme, text)  # WCAG's level AA
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") != is_dark


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_tells_what_is_where(opened, kind):
    page = opened(kind)
    assert page.get_attribute("html", "lang") == "en"
    assert page.title()
    assert page.locator("h1").count() == 1
    assert page.locator("table").count() == page.locator("table > caption").count() > 0
    assert page.locator("th:not([scope])").count() == 0
    # A row that goes on with the one above has no heading.
    rows = "table:not(.pictures) tbody tr:not(:has(> td:first-child:empty))"
    assert page.locator(rows).count() == page.locator("tbody th[scope=row]").count() > 0
    assert page.locator("img:not([alt])").count() == 0
    ids = page.eval_on_selector_all("[id]", "found => found.map(each => each.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", PAGES)
def test_all_pictures_are_there(opened, kind):
    page = opened(kind)
    loaded = page.evaluate("""async () => {
      const images = [...document.images];
      for (const image of images) image.loading = "eager";
      await Promise.all(images.map((image) => image.decode()));
      return images.map((image) => image.naturalWidth);
    }""")
    assert min(loaded) > 0


def pixels(locator):
    with Image.open(io.BytesIO(locator.screenshot())) as shown:
        return np.asarray(shown.convert("RGB"), int)


def test_the_wipe_by_keyboard(opened):
    page = opened("segment")
    wipe = page.locator(".wipe").first
    slider, stack = wipe.locator("input"), wipe.locator(".stack")
    wipe.locator("select").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert slider.evaluate("each => each === document.activeElement")
    assert slider.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    assert "wipe between" in slider.get_attribute("aria-label")
    assert slider.get_attribute("aria-valuetext").startswith("50 percent ")
    middle = pixels(stack)
    page.keyboard.press("ArrowRight")
    assert 50 < float(slider.input_value()) <= 55
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext").startswith("100 percent ")
    left = pixels(stack)
    page.keyboard.press("Home")
    right = pixels(stack)
    assert np.abs(left - right).mean() > 1
    # Apart from the line between the two.
    end = middle.shape[1] // 2 - 4
    np.testing.assert_array_equal(middle[:, 4:end], left[:, 4:end])
    np.testing.assert_array_equal(middle[:, -end:-4], right[:, -end:-4])


def test_the_wipe_by_mouse(opened):
    page = opened("demo")
    wipe = page.locator(".wipe")
    wipe.scroll_into_view_if_needed()
    box = wipe.locator(".stack").bounding_box()
    at = {share: box["x"] + share * box["width"] for share in (0.25, 0.5, 0.75)}
    height = box["y"] + box["height"] / 2
    page.mouse.move(at[0.75], height)
    assert float(wipe.locator("input").input_value()) == 50
    page.mouse.down()
    page.mouse.move(at[0.25], height)
    page.mouse.up()
    page.mouse.move(at[0.5], height)
    assert float(wipe.locator("input").input_value()) == pytest.approx(25, abs=0.5)  # a pixel


def test_a_photo_is_chosen_for_the_wipe(opened):
    page = opened("paper", 390)
    wipe = page.locator(".wipe")
    assert wipe.locator("strong").inner_text() == "image_0"
    page.get_by_role("button", name="Wipe image_1").click()
    assert wipe.locator("strong").inner_text() == "image_1"
    assert wipe.locator("input").evaluate("each => each === document.activeElement")
    shown = wipe.locator("img").first.get_attribute("src")
    assert shown == page.get_by_alt_text("image_1", exact=True).last.get_attribute("src")


def test_the_choice_holds_for_all_photos(opened):
    page = opened("segment")
    wipes = page.locator(".wipe")
    assert wipes.count() == 3
    wipes.nth(0).locator("select").first.select_option("photo")
    for wipe in wipes.all():
        assert wipe.locator("select").first.input_value() == "photo"
        label = wipe.locator("input").get_attribute("aria-label")
        assert label.endswith("wipe between photo and net + CRF")
