"""How long a reader of the saliency explorer waits, in a real Chromium: from the move of a control to the picture, from
`make lab` to the explorer, and from the click on an exported page to its first picture.

What a reader does not wait for, a graphics card or a faster network, plays no part: all runs on this machine.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil

from jsigr_lib.explorer.controls import ATTACKS
from jsigr_lib.explorer.snapshot import html
from jsigr_lib.measure import attributions
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.paths import NOTEBOOKS, PACKAGE, ROOT
from jsigr_lib.study.study import Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MAPS = ("gradient", "perturbation-linearised", "perturbation")
CONTROLS = ("image", "eps")
NETWORKS = ("garments", "photographs")
MOVES_PER_ROUND = 6
WARM_UP = 3  # moves that do not count
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # or Chromium calls services of its own
    *("--no-sandbox", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
TOKEN = "explorer"
FIRST = "map chosen, until its first picture"
USABLE = ".jsigr-explorer[data-drawn]"
PATIENCE = 120  # seconds

MOVE = """async ([name, positions]) => {
  const root = document.querySelector(".jsigr-explorer");
  const controls = root.querySelectorAll(`[data-control="${name}"]`); // one, or a button for each image
  const [control] = controls;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const milliseconds = [];
  for (const position of positions) {
    await pause(30); // as a hand does
    const drawn = new Promise((done) => root.addEventListener("jsigr:drawn", done, { once: true }));
    if (control.tagName === "SELECT") control.selectedIndex = position;
    else if (control.type === "range") control.value = position;
    const start = performance.now();
    if (control.type === "radio") controls[position].click();
    else control.dispatchEvent(new Event(control.type === "range" ? "input" : "change", { bubbles: true }));
    const came = await Promise.race([drawn.then(() => true), pause(20_000)]);
    await new Promise(requestAnimationFrame);
    milliseconds.push(performance.now() - start);
    if (!came) throw new Error(`no picture: ${root.querySelector(".error").textContent}`);
  }
  return milliseconds;
}"""


def table(study: Study, *, rounds: int) -> pd.DataFrame:
    """Median and 95th percentile of n waits: by networks the first picture of each map, 6 moves per round; a third as
    many starts and half as many loads; and how large the page is."""
    rows = []
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        starts = []
        for i in range(max(1, rounds // 3)):
            with lab(browser, Path(folder) / str(i)) as (page, seconds):
                starts.append(seconds)
                if i == 0:
                    for networks in NETWORKS:
                        turn(page, networks)
                        measured = [*firsts(page), *moves(page, MOVES_PER_ROUND * rounds)]
                        rows += [{**one, "networks": networks} for one in measured]
        rows.append(row("make lab, until the explorer is usable", "s", starts))
        exported = Path(folder) / "page.html"
        exported.write_text(document(study), encoding="utf-8")
        seconds = [load(browser, exported) for _ in range(max(1, rounds // 2))]
        rows.append(row("exported page, until it is usable", "s", seconds))
        rows.append(row("exported page, size", "MB", [exported.stat().st_size / 1e6]))
    return pd.DataFrame(rows)


def row(wait: str, unit: str, values: list[float], **of: str) -> dict[str, object]:
    blank = dict.fromkeys(("networks", "map", "attack"), "")
    median, late = np.quantile(values, [0.5, 0.95])
    return {"wait": wait, **blank, **of, "unit": unit, "n": len(values), "median": median, "p95": late}


def turn(page: "Page", networks: str) -> None:
    """To the explorer of other networks, if another is shown."""
    select = page.locator("select[data-control=networks]")
    if select.evaluate("select => select.selectedOptions[0].textContent") != networks:
        page.evaluate("document.querySelector('.jsigr-explorer').dataset.old = ''")
        select.select_option(label=networks)
        page.wait_for_selector(f"{USABLE}:not([data-old])", timeout=1000 * PATIENCE)


def firsts(page: "Page") -> list[dict[str, object]]:
    """Milliseconds from the choice of each map to its first picture."""
    names = page.locator("select[data-control=map] option").all_text_contents()
    kinds = {one.label: name for name, one in attributions.MAPS.items()}
    rows = []
    for place in (*range(1, len(names)), 0):  # the first is shown already
        waits = page.evaluate(MOVE, ["map", [place]])
        rows.append(row(FIRST, "ms", waits, map=kinds[names[place]], attack=next(iter(ATTACKS))))
    return rows


def moves(page: "Page", n: int) -> list[dict[str, object]]:
    """Milliseconds from the move of a control to its picture on the screen, n times, for each map, attack and control,
    two defences side by side."""
    rows = []
    for name in MAPS:
        for attack in ATTACKS:
            choose(page, "map", attributions.MAPS[name].label)
            choose(page, "attack", list(ATTACKS).index(attack))
            for control in CONTROLS:
                waits = page.evaluate(MOVE, [control, positions(page, control, WARM_UP + n)])[WARM_UP:]
                rows.append(row(f"{control} moved, until the picture changes", "ms", waits, map=name, attack=attack))
    return rows


def choose(page: "Page", control: str, option: str | int) -> None:
    """By its text or its place, unless it is chosen already."""
    now, texts = page.locator(f"select[data-control={control}]").evaluate(
        "select => [select.selectedIndex, [...select.options].map(option => option.textContent)]"
    )
    place = texts.index(option) if isinstance(option, str) else option
    if place != now:
        page.evaluate(MOVE, [control, [place]])


def positions(page: "Page", control: str, n: int) -> list[int]:
    """Places of a slider, or of an image, all over its range, never the same twice in a row."""
    now, last = page.locator(f"input[data-control={control}]").evaluate_all(
        """all => all.length > 1 ? [all.findIndex((one) => one.checked), all.length - 1]
                               : [all[0].valueAsNumber, +all[0].max]"""
    )
    return [(now + 7 * (k + 1)) % (last + 1) for k in range(n)]


@contextmanager
def lab(browser: "Browser", folder: Path) -> Iterator[tuple["Page", float]]:
    """The page in which `make lab` shows the explorer, and the seconds from the command until it could be used."""
    start = time.perf_counter()
    with served("lab", folder) as url:
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        try:
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector(USABLE, timeout=1000 * PATIENCE)
            yield page, time.perf_counter() - start
        finally:
            context.close()


def load(browser: "Browser", path: Path) -> float:
    """Seconds from the navigation to a page until its explorer has drawn its first scene."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.add_init_script("addEventListener('jsigr:drawn', () => window.drawnAt ??= performance.now())")
        page.goto(path.as_uri())
        return page.wait_for_function("window.drawnAt", timeout=1000 * PATIENCE).json_value() / 1000
    finally:
        context.close()


def document(study: Study) -> str:
    """A page with the study's snapshot and nothing else."""
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>{html(study)}</html>'


# what it takes to get there


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The Chromium that the machine has. Raises InputError if there is none, or nothing to drive it with."""
    path = find()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


def find() -> str:
    """Raises InputError unless there is a Chromium, and Playwright to drive it with."""
    if not util.find_spec("playwright"):
        raise InputError(
            "no Playwright to drive a browser with; accepted: an environment with it, such as make bench's"
        )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        raise InputError(f"no Chromium to measure in; accepted: one of {', '.join(BROWSERS)} on the PATH")
    return found


def versions() -> dict[str, str | int]:
    """Of what the waits depend on beyond torch."""
    said = subprocess.run([find(), "--version", "--no-sandbox"], capture_output=True, text=True, check=True).stdout
    found = {name: metadata.version(name) for name in ("jupyterlab", "anywidget")}
    return {"threads": 1, "browser": said.strip(), **found}  # a scene takes one thread, whatever the machine has


@contextmanager
def served(target: str, folder: Path, *, token: str = TOKEN) -> Iterator[str]:
    """What `make lab` or `make voila` serves, on a free port and without a browser: its address. It runs below
    `folder`, on a copy of the notebook, sees no settings of the user's, and ends with all its kernels. Without a token
    it makes its own, as it does for users."""
    folder = _workplace(folder)
    port = _free_port()
    arguments = {
        "lab": f"--no-browser --ServerApp.port={port} --ServerApp.port_retries=0",
        "voila": f"--no-browser --port={port}",
    }[target]
    if token:
        arguments += {"lab": " --IdentityProvider.token=", "voila": " --Voila.token="}[target] + token
    if target == "lab" and os.geteuid() == 0:
        arguments += " --allow-root"
    own = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    settings = {f"JUPYTER_{name}_DIR": str(folder / place) for name, place in own.items()}
    environment = {**os.environ, **settings, "IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
    command = ["make", target, f"BIN={Path(sys.executable).parent}", f"ARGS={arguments}"]
    with (folder / "server.log").open("w+", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(server, port, folder / "server.log")
            path = {"lab": "lab/tree/notebooks/explorer.ipynb", "voila": ""}[target]
            yield f"http://127.0.0.1:{port}/{path}" + (f"?token={token}" if token else "")
        finally:
            _stop(settings)
            server.wait()


def _workplace(folder: Path) -> Path:
    """A folder that `make` takes for the repository, all set up."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / ".venv").mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(NOTEBOOKS / "explorer.ipynb", folder / "notebooks" / "explorer.ipynb")
    (folder / PACKAGE.name).symlink_to(PACKAGE)
    (folder / ".venv" / ".stamp").touch()
    return folder


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(server: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


def _stop(settings: dict[str, str]) -> None:
    """The server, its kernels, and whatever else it started: all that was given these settings."""
    for last in (False, True):
        left = processes(settings)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill() if last else process.terminate()
        psutil.wait_procs(left, timeout=10)


def processes(settings: dict[str, str]) -> list[psutil.Process]:
    """Those with these variables in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if settings.items() <= process.environ().items():
                found.append(process)
    return found
