"""Every page can be read: in light and dark, at 1280 and 390 pixels, without colour vision, and without a mouse."""

from pathlib import Path
from typing import Any

import pytest

FAINT = """
const channel = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const bright = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (one) => {
  const colour = channel(getComputedStyle(one).backgroundColor);
  return colour.length === 3 || colour[3] > 0 ? colour : behind(one.parentElement);
};
const faint = [];
for (const one of document.querySelectorAll("body *")) {
  const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !one.checkVisibility() || one.closest("svg, [disabled], select, label:has([disabled])")) continue;
  const [a, b] = [bright(channel(getComputedStyle(one).color)), bright(behind(one))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${one.tagName} ${one.className}: ${one.textContent.slice(0, 40)}`);
}
return faint
"""
"""Texts whose contrast to what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3)."""

UNNAMED = """
return [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, meter, svg[role=img]")]
  .filter((one) => !one.textContent.trim() && !one.ariaLabel && !one.labels?.length)
  .filter((one) => !one.hasAttribute("aria-labelledby"))
  .map((one) => one.outerHTML.slice(0, 80))
"""
"""What can be worked with and has no name that is read out."""


@pytest.mark.parametrize("width", [1280, 390])
def test_every_text_stands_out_and_everything_has_a_name(house: Any, browser: Any, tmp_path: Path, width: int) -> None:
    browser.open(tmp_path / "profile", width, dark=False)
    browser.go(f"{house.url}/sign-in")
    assert browser.run(FAINT) == []
    browser.run(
        "const form = document.querySelector('.card'); form.name.value = 'jane';"
        "form.password.value = 'correct horse battery'; form.submit()"
    )
    for dark in (False, True):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [scheme]}})
        for name, path in places(house).items():
            browser.go(house.url + path)
            (tmp_path / f"{name}-{'dark' if dark else 'light'}.png").write_bytes(browser.screenshot())
            assert browser.run("return document.documentElement.scrollWidth") == width, name
            assert browser.run(FAINT) == [], (name, dark)
            assert browser.run(UNNAMED) == [], name


def places(house: Any) -> dict[str, str]:
    """Every kind of page -> its address."""
    return {"cases": "/", "case": f"/jobs/{house.jobs['held']}", "system": "/system", "help": "/help#anatomy"}


def test_states_are_told_apart_without_colour(site: Any, browser: Any, tmp_path: Path) -> None:
    browser.open(tmp_path / "profile", 1280, dark=False)
    browser.go(f"{site.url}/help")
    signs = browser.run(
        "return [...document.querySelectorAll('.words .state')].map((one) => getComputedStyle(one, '::before').content)"
    )
    assert len(signs) == 6
    assert len(set(signs)) == 6
    browser.go(site.url)
    grey = {"cmd": "Emulation.setEmulatedVisionDeficiency", "params": {"type": "achromatopsia"}}
    browser.call("/goog/cdp/execute", grey)
    (tmp_path / "grey.png").write_bytes(browser.screenshot())
