from __future__ import annotations

import json
import shutil
from urllib.parse import urlparse

import pytest

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


class Browser:
    """A real browser, with what it complained of and what it asked the network for."""

    def __init__(self, driver, downloads) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, path, *, scheme="light", width=1280, height=900, scripts=True):
        tell = self.driver.execute_cdp_cmd
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        tell("Emulation.setEmulatedMedia", {"media": "", "features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        tell("Emulation.setDeviceMetricsOverride", size)
        tell("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.quiet()
        self.driver.get(f"file://{path}")
        return self.driver

    def quiet(self) -> None:
        """Forget what was logged, or fail: nothing may be complained of or asked for."""
        assert not self.driver.get_log("browser")
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                assert urlparse(url).scheme in ("file", "data", "blob"), url

    def run(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    pytest.importorskip("selenium", reason="selenium is not installed: pip install 'genctl[test]'")
    from selenium import webdriver

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile, downloads = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    opened.get("about:blank")
    opened.get_log("performance")  # the browser's own first page
    yield Browser(opened, downloads)
    opened.quit()


@pytest.fixture
def browser(chromium):
    yield chromium
    chromium.quiet()
