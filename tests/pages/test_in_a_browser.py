"""Both pages in a real browser: keys and buttons, dark and light, with and without scripts."""

from __future__ import annotations

import json
import time

import pytest
from test_human_page import pictures, truths
from whole_runs import INJECTION, Page, made_run

from genctl.cli.main import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a run that tries everything a stranger could."""
    run = made_run(tmp_path_factory.mktemp("runs") / "mine", text=INJECTION)
    assert main(["report", str(run), "--quiet"]) == 0
    return run / "reports" / "report.html"


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    one, two = made_run(folder / "one"), made_run(folder / "two", previews=2, seed=3)
    assert main(["report", str(one), str(two), "--out", str(folder / "x.html"), "--quiet"]) == 0
    return folder / "x.html"


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    """``question(n, seconds)``: a page that asks about dark and light pictures."""
    folder = tmp_path_factory.mktemp("questions")
    sides = (
        pictures(folder / "dark.npz", 10, shade=20),
        pictures(folder / "light.npz", 10, shade=200),
    )

    def made(n: int, *words: str):
        out = folder / f"{n}{''.join(words)}.html"
        arguments = [*map(str, sides), "--out", str(out), "-n", str(n), *words, "--quiet"]
        assert main(["evaluate", "--human", *arguments]) == 0
        return out

    return made


def until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def element(browser, name):
    return browser.driver.find_element("id", name)


def press(browser, key: str) -> None:
    """A key of the keyboard, wherever the focus is."""
    for kind in ("keyDown", "keyUp"):
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13}
        more = {"windowsVirtualKeyCode": codes[key]} | ({"text": "\r"} if key == "Enter" else {})
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": key, **more})


# --- report --------------------------------------------------------------------------------------
def shown_steps(browser) -> list[str]:
    """Steps of the pictures that can be seen."""
    return browser.run(
        "[...document.querySelectorAll('li[data-step]')]"
        ".filter(item => item.offsetParent !== null).map(item => item.dataset.step)"
    )


def test_the_slider_shows_one_step_at_a_time(browser, report) -> None:
    browser.open(report)
    slider = element(browser, "run1-step")
    assert shown_steps(browser) == ["400"]
    slider.send_keys("\ue012")  # left
    assert shown_steps(browser) == ["300"]
    assert slider.get_attribute("aria-valuetext") == "step 300"
    slider.send_keys("\ue011")  # home
    assert shown_steps(browser) == ["100"]
    assert browser.driver.find_element("css selector", "output").text == "step 100"
    sizes = browser.run("[...document.querySelectorAll('li.shown img')].map(i => i.naturalWidth)")
    assert sizes == [64]


def test_nothing_a_stranger_wrote_acts(browser, report) -> None:
    browser.open(report)
    assert browser.run("window.pwned") is None
    assert browser.run("document.images.length") == 5
    assert "window.pwned=2" in browser.driver.find_element("tag name", "body").text


def test_the_policy_stops_what_would_act(browser, report) -> None:
    """Were something to get through the escaping, it would do nothing."""
    browser.open(report)
    browser.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.pwned = 3';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        "document.body.append(i); })()"
    )
    assert browser.run("window.pwned") is None
    refused = browser.driver.get_log("browser")
    assert len(refused) == 2
    assert all("Content Security Policy" in entry["message"] for entry in refused)
    browser.driver.get_log("performance")


def test_light_and_dark_follow_the_reader(browser, report) -> None:
    lights = {}
    for scheme in ("light", "dark"):
        browser.open(report, scheme=scheme)
        colours = browser.run(
            "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
        )
        lights[scheme] = [sum(map(int, c[4:-1].split(","))) for c in colours]
        line = browser.run("getComputedStyle(document.querySelector('path.s0')).stroke")
        assert line == {"light": "rgb(11, 95, 165)", "dark": "rgb(109, 179, 242)"}[scheme]
    assert lights["light"][0] > 700 > 200 > lights["light"][1]
    assert lights["dark"][0] < 100 < 600 < lights["dark"][1]


def test_the_keyboard_reaches_everything_in_order(browser, report) -> None:
    browser.open(report)
    reached = []
    for _ in range(14):
        press(browser, "Tab")
        reached.append(
            browser.run("(e => e.hash || e.id || e.textContent.trim())(document.activeElement)")
        )
    assert reached[:5] == [
        f"#run1-{name}" for name in ("facts", "curves", "samples", "scores", "again")
    ]
    rest = [name for name in reached[5:] if name == "run1-step" or not name.startswith("Facts")]
    for name in ("run1-step", "Protocol at step 3,000", "Environment"):
        assert name in rest
    assert (
        rest.index("run1-step") < rest.index("Protocol at step 3,000") < rest.index("Environment")
    )


def test_tables_have_names_and_headers(browser, report) -> None:
    browser.open(report)
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [node["role"]["value"] for node in tree if not node.get("ignored")]
    names = [n.get("name", {}).get("value") for n in tree if n["role"]["value"] == "table"]
    assert names
    assert all(names)
    assert {"columnheader", "rowheader", "slider", "main", "navigation", "contentinfo"} <= set(
        roles
    )
    drawn = [
        n for n in tree if n["role"]["value"] in ("image", "img", "SvgRoot", "graphics-document")
    ]
    assert len(drawn) >= 5
    assert all(n.get("name", {}).get("value") for n in drawn)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen(browser, report, side_by_side, width) -> None:
    for path in (report, side_by_side):
        browser.open(path, width=width, height=800)
        assert browser.run("document.documentElement.scrollWidth") <= width
        hidden = browser.run(
            "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth"
            " && e.tabIndex !== 0).length"
        )
        assert hidden == 0  # what must be scrolled can be, by keys


def test_without_scripts_the_samples_are_a_strip(browser, report) -> None:
    browser.open(report, scripts=False)
    assert shown_steps(browser) == ["100", "200", "300", "400"]
    assert not element(browser, "run1-step").is_displayed()
    assert "mode-collapse" in browser.driver.find_element("tag name", "main").text


def test_on_paper_all_samples_and_tables_are_there(browser, report) -> None:
    browser.open(report)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert shown_steps(browser) == ["100", "200", "300", "400"]
    assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0


def test_one_slider_moves_several_runs(browser, side_by_side) -> None:
    browser.open(side_by_side)
    assert shown_steps(browser) == ["400", "200"]
    element(browser, "together-step").send_keys("\ue011")
    assert shown_steps(browser) == ["100", "100"]


# --- real or generated? --------------------------------------------------------------------------
def number(browser) -> int:
    return int(element(browser, "counter").text.split()[1])


def is_light(browser) -> bool:
    """What a person sees: whether the picture on the screen is light."""
    return browser.run(
        "(i => { const c = document.createElement('canvas'); c.width = c.height = 1;"
        "const d = c.getContext('2d'); d.drawImage(i, 0, 0, 1, 1);"
        "return d.getImageData(0, 0, 1, 1).data[0] > 128; })(document.getElementById('picture'))"
    )


FILM = """(() => {
  window.film = [];
  const watch = new MutationObserver((changes) => { for (const { target } of changes) {
    window.film.push([performance.now(), target.id, target.className]);
    if (target.className === "shown")
      document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
  } });
  for (const id of ["picture", "cross"])
    watch.observe(document.getElementById(id), { attributeFilter: ["class"] });
})()"""
"""When the picture and the cross came and went: a machine that is busy looks too late itself."""


def wait_for(browser, i: int) -> None:
    """Until question ``i`` can be answered: its picture was painted a frame ago."""
    browser.driver.execute_async_script(
        "const [number, done] = arguments; let frames = 0; const look = () => {"
        "const open = document.getElementById('real').getAttribute('aria-disabled') === 'false';"
        "const here = document.getElementById('counter').textContent.includes(` ${number} of`);"
        "frames = open && here ? frames + 1 : 0;"
        "if (frames > 3) done(); else requestAnimationFrame(look); }; look();",
        i,
    )


def save(browser) -> str:
    before = set(browser.downloads.iterdir())
    element(browser, "save").click()
    new = lambda: [p for p in set(browser.downloads.iterdir()) - before if p.suffix == ".json"]  # noqa: E731
    until(lambda: bool(new()))
    return str(new()[0])


def judged(capsys, file: str) -> dict:
    capsys.readouterr()
    assert main(["evaluate", "--human-results", file, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["metrics"]["human"]


def test_a_sitting_by_keys(browser, question, capsys) -> None:
    """Whoever sees light pictures as real is always right here."""
    path = question(8)
    browser.open(path)
    element(browser, "start").click()
    seen = []
    for i in range(1, 9):
        wait_for(browser, i)
        seen.append(is_light(browser))
        press(browser, "ArrowLeft" if seen[-1] else "ArrowRight")
    until(lambda: element(browser, "end").is_displayed())
    assert seen == truths(Page(path.read_text()))
    assert "8 of your 8 answers are right" in element(browser, "summary").text
    assert browser.run("document.activeElement.id") == "end-title"
    file = save(browser)
    human = judged(capsys, file)
    assert (human["value"], human["accuracy"], human["n_generated"]) == (0.0, 1.0, 4)
    low, high = (f"{100 * edge:.0f} %" for edge in human["interval"])
    assert element(browser, "generated-interval").text == f"{low} to {high}"
    with open(file) as stream:
        times = [answer["seconds"] for answer in json.load(stream)["answers"]]
    assert all(0 <= seconds < 60 for seconds in times)


def test_a_sitting_by_buttons_that_ends_early(browser, question, capsys) -> None:
    browser.open(question(10), scheme="dark", width=390, height=800)
    assert browser.run("document.documentElement.scrollWidth") == 390
    element(browser, "start").click()
    for i in range(1, 5):
        wait_for(browser, i)
        element(browser, "real").click()
        assert browser.run("document.activeElement.id") == "real"  # the next answer is one key away
    wait_for(browser, 5)
    assert browser.run("document.documentElement.scrollWidth") == 390
    element(browser, "stop").click()
    assert browser.run("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.wide'))") <= 0
    human = judged(capsys, save(browser))
    assert (human["value"], human["n_generated"] + human["n_real"]) == (1.0, 4)


def test_a_picture_is_shown_only_as_long_as_asked(browser, question, capsys) -> None:
    browser.open(question(2, "--seconds", "0.3"))
    browser.run(FILM)
    element(browser, "start").click()
    until(lambda: len(browser.run("window.film")) >= 5)
    film = browser.run("window.film")[:5]
    assert [(name, look) for _, name, look in film] == [
        ("picture", "away"),
        ("cross", "shown"),  # and a key is pressed: too early, nothing was shown
        ("cross", ""),
        ("picture", ""),
        ("picture", "away"),
    ]
    times = [at for at, _, _ in film]
    assert times[2] - times[1] > 400
    assert 290 < times[4] - times[3] < 30_000  # on a busy machine late, but never for good
    assert number(browser) == 1
    press(browser, "ArrowLeft")  # there is time to answer
    wait_for(browser, 2)
    press(browser, "ArrowRight")
    until(lambda: element(browser, "end").is_displayed())
    assert judged(capsys, save(browser))["n_real"] == 1


def test_without_scripts_the_page_says_why_nothing_happens(browser, question) -> None:
    browser.open(question(2), scripts=False)
    text = browser.driver.find_element("tag name", "main").text
    assert "You will see 2 pictures" in text
    assert "JavaScript, which is turned off" in text
    assert not element(browser, "start").is_displayed()
    assert not element(browser, "trial").is_displayed()
