"""The page in a real browser with a fake microphone: slow, and skipped where Chromium or playwright is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from moda import TalkingHead
from moda.bench.stages import looped

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns", "--allow-loopback-in-peer-connection",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
STATS = """async () => {
  const found = {};
  for (const one of (await peer.getStats()).values())
    if (one.type === "inbound-rtp") found[one.kind] = {
      frames: one.framesDecoded, freezes: one.freezeCount, played: one.estimatedPlayoutTimestamp,
      rate: one.framesPerSecond };
  return found;
}"""
SECONDS = 60


@pytest.mark.slow
def test_a_minute_in_chromium(portrait, tmp_path):
    """25 pictures a second, no freezes, picture and sound within 40 ms, and a screenshot to look at."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium")
    from test_serve import Server

    from moda.serve.hosts import Hosts
    from moda.serve.hub import Hub

    head = TalkingHead.from_pretrained("embedded", "cpu")
    hosts = Hosts(head)
    hub = Hub(head, size=256, hosts=hosts)
    own = hub.add(portrait)
    hosts.ready(hub.portraits[own].characters[256])
    server = Server(hub)
    microphone = looped(tmp_path / "microphone.wav", SECONDS)
    try:
        with playwright.sync_playwright() as run:
            flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
            browser = run.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_context(
                viewport={"width": 1000, "height": 760}, permissions=["microphone"]
            ).new_page()
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.goto(f"http://127.0.0.1:{server.port}/")
            page.wait_for_function("document.getElementById('portrait').options.length > 0")
            page.click("#connect")
            page.wait_for_function("!document.getElementById('speak').disabled", timeout=30_000)
            page.click("#mic")
            page.wait_for_timeout(5_000)
            before = page.evaluate(STATS)
            skews = []
            for _ in range(SECONDS // 5):
                page.wait_for_timeout(5_000)
                now = page.evaluate(STATS)
                skews.append(now["video"]["played"] - now["audio"]["played"])
            page.screenshot(path=str(tmp_path / "page.png"))
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.click("#leave")
            browser.close()
    finally:
        server.stop()
    rate = (now["video"]["frames"] - before["video"]["frames"]) / SECONDS
    freezes = now["video"]["freezes"] - before["video"]["freezes"]
    print(f"{rate:.2f} pictures a second, {freezes} freezes, skew {skews}, {Path(tmp_path / 'page.png')}")
    assert not said, said
    assert rate > 24.5 and freezes == 0
    assert max(map(abs, skews[1:])) <= 40  # ten seconds in: the first reading is of a buffer that still fills
