"""The page in a real browser: headless Chromium, where there is one."""

import pytest
from browser import CHROMIUM, launched, opened, serving, until
from players import make_session

from worldmodels.play.server import Server
from worldmodels.stages.play import make_server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def blob(**options):
    """A server of small untrained models."""
    return Server(lambda: make_session(**options), "A dream of Blob")


@pytest.fixture(scope="module")
def address():
    """Of a server whose controller always steers right."""
    import torch

    with serving(blob(real=True, act=lambda state: torch.tensor([[1.0, 0.0, 0.0]]))) as found:
        yield found


@pytest.fixture
def page(address):
    with opened(address) as found:
        yield found


def step(page):
    """One step of the paused dream; returns its view."""
    number = page.evaluate("seen.at(-1).step") + 1
    page.click("#step")
    until(page, f"seen.at(-1).step === {number}")
    return page.evaluate("seen.at(-1)")


def dreamt(page, seed, key=None, steps=5):
    """z of `steps` steps from the seed with the key held."""
    page.fill("#seed", str(seed))
    page.click("#again")
    until(page, "seen.at(-1).step === 0")
    page.locator("#pause").focus()
    if key:
        page.keyboard.down(key)
    found = [step(page)["z"] for _ in range(steps)]
    if key:
        page.keyboard.up(key)
    return found


def test_frames_flow(page):
    page.evaluate("seen.length = 0")
    page.wait_for_timeout(10_000)
    frames = page.evaluate("new Set(seen.map(view => view.dream)).size")
    assert frames >= 200, "twenty a second, all of them different"


def test_the_models_that_ship_dream_for_a_while():
    """Nobody touches a key for ten seconds."""
    with serving(make_server()) as address, opened(address) as page:
        page.evaluate("seen.length = 0")
        page.wait_for_timeout(10_000)
        assert page.evaluate("new Set(seen.map(view => view.dream)).size") >= 100, "also on a busy machine"
        assert page.evaluate("seen.at(-1).ended") == ""


def test_the_keys_drive_again_once_a_start_is_typed(page):
    page.fill("#seed", "7")
    page.locator("#seed").press("Enter")
    until(page, "seen.at(-1).step < 5")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#seed") == "7"
    page.keyboard.press("Space")
    assert page.get_attribute("#pause", "aria-pressed") == "true"


@pytest.mark.parametrize("width, height", [(1280, 800), (844, 390)])
def test_worlds_and_buttons_fit_into_the_window(page, width, height):
    """A laptop's, the real world beside the dream; and a phone's on its side, with buttons for the thumbs."""
    page.set_viewport_size({"width": width, "height": height})
    page.keyboard.press("KeyB")
    until(page, "seen.at(-1).real !== null")
    names = ("#dream", "#real", "#seen", *(["#jump"] if height > 500 else ["[data-key=left]", "[data-key=down]"]))
    for box in (page.locator(name).bounding_box() for name in names):
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    assert page.locator("#dream").bounding_box()["width"] > 300


def test_the_car_obeys(page):
    page.click("#pause")
    page.wait_for_timeout(200)
    nothing, left, right = (dreamt(page, 5, key) for key in (None, "ArrowLeft", "KeyD"))
    assert nothing == dreamt(page, 5) and len({str(way) for way in (nothing, left, right)}) == 3
    page.locator("#pause").focus()
    page.keyboard.press("KeyC")
    assert page.get_attribute("#wheel", "aria-pressed") == "true"
    assert dreamt(page, 5) == right, "the controller steers right"


def test_the_keys_that_a_race_takes(page):
    assert page.inner_text("#help") == "Hold ← or A: left · → or D: right · ↑ or W: gas · ↓ or S: brake."
    assert page.get_attribute("[data-key=down]", "aria-label") == "brake"


def test_a_world_of_two_keys():
    """As TakeCover: no word of gas and brake, and no button for them."""
    names = ["", "move_right", "move_left"]
    with (
        serving(blob(action_space={"type": "discrete", "n": 3}, action_names=names)) as address,
        opened(address) as page,
    ):
        assert page.inner_text("#help") == "Hold ← or A: move left · → or D: move right."
        assert page.locator("#touch button").count() == 2
        page.click("#pause")
        page.wait_for_timeout(200)
        nothing, left, right, up = (dreamt(page, 5, key) for key in (None, "KeyA", "ArrowRight", "ArrowUp"))
        assert up == nothing and len({str(way) for way in (nothing, left, right)}) == 3


def test_everything_that_can_be_set(page):
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    before = page.evaluate("seen.length")
    page.wait_for_timeout(400)
    assert page.evaluate("seen.length") == before, "paused"
    assert step(page)["step"] == step(page)["step"] - 1

    wild = dreamt(page, 5)
    page.fill("#temperature", "0.1")
    assert page.inner_text("#temperature_value") == "0.10"
    page.wait_for_timeout(200)
    assert dreamt(page, 5) != wild

    page.locator("#latents input").nth(2).fill("3")
    until(page, "seen.at(-1).z[2] === 3")
    assert step(page)["z"][2] == 3
    page.locator("#latents label").nth(2).dblclick()
    page.wait_for_timeout(200)
    assert step(page)["z"][2] != 3

    page.fill("#horizon", "50")
    page.wait_for_timeout(200)
    page.click("#pause")
    until(page, "!document.getElementById('note').hidden")
    assert "horizon" in page.inner_text("#note")
    page.keyboard.press("KeyR")
    until(page, "document.getElementById('note').hidden")


def test_the_real_world_and_back(page):
    assert not page.is_visible("#real")
    page.keyboard.press("KeyB")
    until(page, "seen.at(-1).surprise !== null")
    assert page.is_visible("#real") and page.is_visible("#seen")
    page.keyboard.press("KeyJ")
    assert page.inner_text("#where") == "real"
    until(page, "seen.at(-1).ended.includes('real')")
    page.keyboard.press("KeyR")
    page.keyboard.press("KeyJ")
    assert page.inner_text("#where") == "dream"
    page.keyboard.press("KeyB")
    until(page, "seen.at(-1).real === null")
    page.keyboard.press("KeyJ")  # which opens it
    until(page, "seen.at(-1).real_ended.includes('over')")
    assert "over" in page.inner_text("#real_caption") and page.inner_text("#where") == "real"
    page.keyboard.press("KeyJ")
    until(page, "seen.at(-1).step > 3 && !seen.at(-1).ended && seen.at(-1).surprise === null")
    assert page.inner_text("#surprise_value") == "–", "the dream goes on, and nothing real beside it"


def test_a_recording_plays(page):
    with page.expect_download() as download:
        page.click("#record")
        page.wait_for_timeout(1500)
        page.click("#record")
    assert download.value.suggested_filename == "dream.webm"
    length = page.evaluate(
        """() => new Promise((resolve, reject) => {
          const video = document.createElement("video");
          video.onloadeddata = () => resolve(video.videoWidth);
          video.onerror = () => reject(new Error("it does not play"));
          video.src = document.getElementById("film").href;
        })"""
    )
    assert length == 512


def test_a_phone_has_buttons_and_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.is_visible("#touch")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.inner_text("[data-key=up]").split() == ["▲", "gas"]
    page.click("#pause")
    page.wait_for_timeout(200)
    left = dreamt(page, 5, "ArrowLeft")
    page.click("#again")
    until(page, "seen.at(-1).step === 0")
    page.locator("[data-key=left]").hover()
    page.mouse.down()
    page.wait_for_timeout(200)
    page.evaluate("document.getElementById('step').click()")
    until(page, "seen.at(-1).step === 1")
    assert page.evaluate("seen.at(-1)")["z"] == left[0], "the button is the key"


def test_sliders_let_go_where_the_dream_begins_anew(page):
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    page.keyboard.press("KeyB")
    until(page, "seen.at(-1).real !== null")
    page.locator("#latents input").nth(1).fill("3")
    until(page, "seen.at(-1).z[1] === 3")
    page.keyboard.press("KeyJ")
    page.keyboard.press("KeyJ")
    until(page, "seen.at(-1).z[1] !== 3")
    page.wait_for_timeout(200)
    shown = float(page.locator("#latents input").nth(1).input_value())
    assert shown == pytest.approx(page.evaluate("seen.at(-1).z[1]"), abs=0.03), "it follows z again"


def test_a_held_space_pauses_once_whatever_has_the_focus(page):
    page.locator("#pause").focus()
    page.keyboard.down("Space")
    page.keyboard.down("Space")
    page.keyboard.up("Space")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.locator("#beside_button").focus()
    page.keyboard.press("Space")
    assert page.get_attribute("#pause", "aria-pressed") == "false"
    assert page.get_attribute("#beside_button", "aria-pressed") == "false"


def test_a_report_opens_and_its_film_plays(tmp_path):
    """Without a server, and without a word on the console."""
    import json

    import numpy as np

    from worldmodels.evaluation.pictures import write_png, write_webm
    from worldmodels.stages.report import report

    lineage = {"stage": "dream_video", "command": "python", "started": "now", "seed": 0, "inputs": {}, "versions": {}}
    (tmp_path / "lineage.json").write_text(json.dumps(lineage))
    frames = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), np.uint8)
    write_png(tmp_path / "filmstrip.png", frames[0])
    write_webm(tmp_path / "dream.webm", list(frames), 12.5)
    with launched() as browser:
        page = browser.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(report(tmp_path).as_uri())
        loaded = page.evaluate(
            """() => new Promise((resolve, reject) => {
              const film = document.querySelector("video"), again = film.cloneNode();
              again.onloadeddata = () => resolve([again.videoWidth, document.querySelector("img").naturalWidth]);
              again.onerror = () => reject(new Error("it does not play"));
            })"""
        )
        assert loaded == [64, 64] and complaints == []
