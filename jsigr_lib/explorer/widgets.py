"""What moves in a notebook: the live saliency explorer, and the progress line while something is computed."""

import ast
import logging
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import display

from jsigr_lib.explorer.controls import control
from jsigr_lib.explorer.explorer import IMAGES, Explorer, of_photographs, of_pretrained, of_study
from jsigr_lib.explorer.snapshot import specs
from jsigr_lib.method.errors import InputError, one_of
from jsigr_lib.records.running import running_cell
from jsigr_lib.store.artefacts import Progress
from jsigr_lib.store.paths import FRONT, ROOT
from jsigr_lib.store.queue import makespan
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.needs import NEEDS
from jsigr_lib.study.provenance import check_folder
from jsigr_lib.study.speed import Speed, read_headers
from jsigr_lib.study.study import Study

PARAMETERS = ("profile", "device", "out", "download", "dataset", "data_root", "train_images", "epochs", "seeds", "eps")
PARAMETERS += ("settings",)
"""What every notebook can be asked to change."""
INJECTED = "# Parameters"
"""How the cell begins that papermill puts behind a notebook's own parameters, whatever their names."""
PROGRESS = "jsigr-progress"
"""In the metadata of a progress line, by which it is told from what a notebook shows."""

logger = logging.getLogger(__name__)


def progress_display() -> Progress:
    """A progress callback for notebooks. It shows one line and rewrites it in place."""
    start, handle, shown = time.perf_counter(), None, {"raw": True, "metadata": {PROGRESS: True}}

    def progress(spec: Spec, done: float, total: float) -> None:
        nonlocal handle
        elapsed = time.perf_counter() - start
        left = elapsed * (total - done) / done
        line = f"{done / total:.0%} of what was missing is made; {elapsed / 60:.1f} min, about {left / 60:.1f} min left"
        if handle is None:
            handle = display({"text/plain": line}, display_id=True, **shown)
        else:
            handle.update({"text/plain": line}, **shown)

    return progress


def open_study(parameters: dict[str, Any]) -> Study:
    """The study that a notebook's cell of parameters describes; `parameters` are its globals(). Says what the notebook
    takes here and where it writes, paths being relative to the repository; what is missing is made under a progress
    line. Raises InputError, in one line, for whatever is wrong with a parameter, or if its name is none's."""
    for name in _assigned(parameters.get("In", ())):
        one_of("parameter", name, (*PARAMETERS, "live"))
    chosen = {name: parameters[name] for name in PARAMETERS}
    for name in ("profile", "out", "data_root"):
        if isinstance(path := chosen[name], str) and path and (name != "profile" or path.endswith(".toml")):
            chosen[name] = str(ROOT / Path(path).expanduser())
    study = Study(progress=progress_display(), **chosen)
    check_folder(study.out, study.profile, study.data.content)
    lines = [*study.notes, f"{_duration(study)}Figures and tables go to {study.out}."]
    display({"text/plain": "\n".join(lines)}, raw=True, metadata={PROGRESS: True})
    return study


def _assigned(cells: Iterable[str]) -> list[str]:
    """The names that papermill gave values to, among the cells that ran."""
    lines = [line for cell in cells if cell.startswith(INJECTED) for line in ast.parse(cell).body]
    return [target.id for line in lines if isinstance(line, ast.Assign) for target in line.targets]


def _duration(study: Study) -> str:
    """What the notebook that is being executed takes on this machine; nothing in one of the reader's own."""
    cell = running_cell()
    if cell is None or cell.notebook not in NEEDS[study.profile.group]:
        return ""
    store, speed = study.store, Speed.of(study.store, read_headers(study.store.root)[0], study.profile.name)
    waves = store.missing(specs(study, cell.notebook))
    processes = store.processes(waves)
    starts = time.process_time() * (processes > 1)  # of the processes that make what is missing
    seconds = makespan([spec for wave in waves for spec in wave], speed.seconds, processes)
    minutes = (starts + seconds + speed.notebook(cell.notebook)) / 60
    what = f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute or less"
    return f"Run All takes {what} on this machine: {sum(map(len, waves))} artefacts are missing. "


class SaliencyExplorer(anywidget.AnyWidget):
    """The live explorer: the front end asks for a scene, and this answers.

    The front end asks one question at a time and keeps only the reader's latest one, so that sliders never queue up. To
    bad settings the answer is a message, which the front end shows beside the old pictures. The other question is to
    turn to other networks.
    """

    _esm = FRONT / "explorer.js"
    _css = FRONT / "explorer.css"
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, **explorers: Callable[[], Explorer]):
        """`explorers`: name -> what makes it, when it is first shown. The reader turns from one to another."""
        super().__init__()
        self.explorers = {name: cache(make) for name, make in explorers.items()}
        self._turn(next(iter(explorers)))
        self.on_msg(self._answer)

    @classmethod
    def pretrained(cls, images: int = IMAGES) -> "SaliencyExplorer":
        """The explorer of the networks that come with the repository: there is nothing to train."""
        return cls(garments=partial(of_pretrained, images), photographs=of_photographs)

    @classmethod
    def of_study(cls, study: Study, images: int = IMAGES) -> "SaliencyExplorer":
        """The explorer of a study's networks, which are trained if they are missing."""
        return cls(study=partial(of_study, study, images))

    def _turn(self, name: str) -> None:
        """Show another explorer. Raises InputError if there is none of that name."""
        one_of("explorer", name, tuple(self.explorers))
        self.explorer = self.explorers[name]()
        about = self.explorer.about()
        if len(self.explorers) > 1:
            names = {one: one for one in self.explorers}
            choice = control("networks", "choice", names, name, "what they are trained on")
            about["controls"].insert(0, {**choice, "local": True, "turns": True})
        self.about = about

    def _answer(self, _widget, question: Any, _buffers: list) -> None:
        asked, scene, pictures = question if isinstance(question, dict) else {}, {}, b""
        try:
            if "turn" in asked:
                self._turn(asked["turn"])
            else:
                scene, pictures = self.explorer.scene(asked.get("settings"))
        except InputError as error:
            scene, pictures = {"error": str(error)}, b""
        except Exception as error:  # the reader sees no traceback: the log has it, the page names the error
            logger.exception("the explorer failed with %s", question)
            scene, pictures = {"error": f"{type(error).__name__}: {error}"}, b""
        self.send({"id": asked.get("id"), "scene": scene}, [pictures])
