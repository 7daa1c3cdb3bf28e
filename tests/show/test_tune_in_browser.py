"""The page of `tune` in a real browser: sliders, pictures, the address, texts to copy."""

import random
import re
import threading

import pytest

from deeplab_repro.tune.export import export
from deeplab_repro.tune.server import TuneServer
from tests.show.test_pages_in_browser import CONTRAST
from tests.tune.conftest import SIZE, session  # noqa: F401

PICTURE = "document.querySelectorAll('[data-wipe] img')[2].src"


@pytest.fixture
def server(session):  # noqa: F811
    with TuneServer(session) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def page(browser, server):
    """The page as it is when the labels are there; nothing goes wrong in it."""
    context, wrong = browser.new_context(viewport={"width": 1280, "height": 900}), []
    page = context.new_page()

    def note(request):
        if not request.url.startswith((server.address, "data:")):
            wrong.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append((message.text, message.location)))
    page.goto(server.address)
    settled(page)
    page.wait_for_selector("#steps li")
    yield page
    context.close()
    # Chromium asks for an icon by itself, and the server ends in one test.
    assert [each for each in wrong if not re.search("favicon|REFUSED", str(each))] == []


def settled(page, then="true"):
    """Wait until the full picture of the newest setting is shown, and something is true."""
    page.wait_for_function(f"""() => {{
      const told = document.getElementById("state").textContent;
      return / in \\d+\\.\\d\\d s$/.test(told) && {then};
    }}""")


def setting(page):
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")


def changed(page, act):
    """Do something, and wait for another full picture."""
    before = page.get_attribute(".wipe", "data-shown")
    act()
    settled(page, f"document.querySelector('.wipe').dataset.shown !== {before!r}")


def test_it_can_be_read_and_used_at_every_width(page):
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        widths = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrast, text = page.evaluate(CONTRAST)
        assert contrast >= 4.5, (scheme, text)
    unnamed = """() => [...document.querySelectorAll("input, select, button")].filter((each) =>
      !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim())"""
    assert page.evaluate(unnamed) == []
    assert page.locator("img:not([alt])").count() == 0
    ids = page.eval_on_selector_all("[id]", "found => found.map(each => each.id)")
    assert len(ids) == len(set(ids))
    # While the sliders are moved on a phone the picture stays in sight.
    page.locator("#iterations").scroll_into_view_if_needed()
    assert page.locator(".stack").bounding_box()["y"] >= 0


def test_a_slider_by_keyboard_and_the_address(page):
    before = page.evaluate(PICTURE)
    slider = page.locator("#sigma_alpha")
    assert slider.input_value() == "30"
    slider.focus()
    assert slider.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    changed(page, lambda: [page.keyboard.press("PageDown") for _ in range(2)])
    value = float(slider.input_value())
    assert value < 30
    assert page.locator("#sigma_alpha-number").input_value() == slider.input_value()
    assert page.evaluate(PICTURE) != before
    assert float(setting(page)["sigma_alpha"]) == value
    page.locator("#sigma_beta-number").fill("70.5")  # beyond the slider
    changed(page, lambda: page.locator(".wipe select").first.select_option("errors"))
    shown = page.evaluate(PICTURE)
    page.reload()
    settled(page)
    assert page.evaluate(PICTURE) == shown
    assert page.locator("#sigma_beta-number").input_value() == "70.5"
    assert page.locator(".wipe select").first.input_value() == "errors"
    assert page.locator("#verdicts").is_visible()
    changed(page, page.get_by_role("button", name="Reset").click)
    assert page.evaluate(PICTURE) == before
    page.locator("#sigma_beta-number").fill("0")  # refused: the setting stays
    page.locator("#sigma_beta").focus()
    assert page.locator("#sigma_beta-number").input_value() == "8"


def test_presets_iterations_and_classes(page):
    changed(page, lambda: page.locator("#preset").select_option("DeepLab-LargeFOV"))
    found = setting(page)
    assert [found[name] for name in ("w1", "sigma_alpha", "sigma_beta")] == ["4", "121", "5"]
    page.wait_for_function("() => document.querySelectorAll('#steps li').length === 11")
    changed(page, page.get_by_role("button", name="iteration 2").click)
    assert setting(page)["step"] == "2"
    assert "--iterations 2" in page.locator("#command").inner_text()
    assert "shows 2 iterations of 10" in page.locator("#step-told").inner_text()
    belief = "document.querySelectorAll('[data-wipe] img')[3].src"
    before = page.evaluate(belief)
    changed(page, lambda: page.locator("#label").select_option("class-0"))
    assert page.evaluate(belief) != before
    cells = page.locator("#scores tbody tr").nth(2).locator("td").all_inner_texts()
    changed(page, lambda: (page.locator("#width").fill("30"), page.locator("#width").blur()))
    assert page.locator("#scores tbody tr").nth(2).locator("td").all_inner_texts() != cells


def test_copies(page):
    """With the browser's permission, and without."""
    button, text = page.locator("[data-copies=python]"), page.locator("#python").text_content()
    told = "() => document.querySelector('[data-copies=python] + output').textContent"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button.click()
    page.wait_for_function(f"() => ({told})() === 'copied'")
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.evaluate("getSelection().removeAllRanges()")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    button.click()
    page.wait_for_function(f"() => ({told})() === 'selected: press Ctrl+C'")
    assert page.evaluate("getSelection().toString()").strip() == text


def test_many_moves_and_the_end_of_the_server(page, server):
    rng = random.Random(0)
    for _ in range(40):
        name = rng.choice(["w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations"])
        page.evaluate(
            """([name, share]) => {
              const slider = document.getElementById(name);
              slider.value = Number(slider.min) + share * (slider.max - slider.min);
              slider.dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            [name, rng.random()],
        )
    last = page.evaluate("document.getElementById('w1').value")
    page.wait_for_function(
        "value => document.getElementById('command').textContent.includes(`--crf ${value},`)",
        arg=last,
    )
    settled(page)
    server.shutdown()
    server.server_close()
    page.locator("#w1").press("ArrowLeft")
    page.wait_for_function(
        "() => /The server has ended/.test(document.getElementById('state').textContent)"
    )


def test_where_copies_are_slow_the_full_picture_comes_last(page):
    page.evaluate("""() => {
      const quick = fetch;
      window.asked = 0;
      window.fetch = async (address) => {
        if (/^result.*small=1/.test(address)) {
          window.asked += 1;
          await new Promise((done) => setTimeout(done, 200));
        }
        return quick(address);
      };
      const slider = document.getElementById("w1");
      for (const value of [7, 8, 9]) {
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }""")
    page.wait_for_timeout(700)  # for any copy that might come after it
    settled(page, "document.getElementById('command').textContent.includes('--crf 9,')")
    assert page.evaluate("asked") == 1
    assert page.evaluate(f"{PICTURE.removesuffix('.src')}.naturalWidth") == SIZE[1]


def test_two_tabs(page, server):
    """Each gets its labels, though the one's requests are newer than the other's."""
    other = page.context.new_page()
    other.goto(server.address)
    for each in (page, other, page):
        each.bring_to_front()
        changed(each, lambda each=each: each.locator("#w1").press("ArrowRight"))
    other.close()


def test_the_exported_page(browser, session, tmp_path):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(export(session, tmp_path).as_uri())
    widths = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert page.evaluate(CONTRAST)[0] >= 4.5
    rights = page.locator(".wipe select").last
    assert rights.input_value() == "w1 4, sigma_alpha 30, sigma_beta 8"
    rights.select_option("w1 8, sigma_alpha 60, sigma_beta 16")
    shown = page.locator(".stack .right").get_attribute("src")
    assert shown == page.locator(".pictures img").last.get_attribute("src")
    page.close()
