"""Photograph the page of the models that ship, for the docs: C has driven in the real world, and dreams on.

python tests/play/photograph.py docs/media/play.png
python tests/play/photograph.py phone.png phone
"""

import sys

from browser import CHROMIUM, opened, serving, until

from worldmodels.stages.play import make_server

SIZES = {"desktop": (1120, 900), "phone": (390, 844)}
REAL, DREAMT = 40, 5  # steps


def photograph(path, size="desktop"):
    with serving(make_server()) as address, opened(address) as page:
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        for key in ("KeyC", "KeyB", "KeyJ"):  # into the real world
            page.keyboard.press(key)
        until(page, f"seen.at(-1).real !== null && seen.at(-1).step > {REAL}")
        page.keyboard.press("KeyJ")
        until(page, f"seen.at(-1).real !== null && seen.at(-1).step < {REAL} && seen.at(-1).step >= {DREAMT}")
        page.keyboard.press("Space")
        page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("needs Chromium: apt-get install chromium")
    photograph(*sys.argv[1:])
