"""What a run or a plan is asked for: which notebooks, on what, and where to. Notebooks are read as JSON here, as the
packages that execute them take seconds to import."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsigr_lib.method.errors import InputError, file_name, one_line, one_of, within
from jsigr_lib.records.publishing import places
from jsigr_lib.records.running import environment
from jsigr_lib.store.paths import NOTEBOOKS, ROOT, RUNS
from jsigr_lib.study.needs import NEEDS
from jsigr_lib.study.provenance import check_folder
from jsigr_lib.study.settings import named
from jsigr_lib.study.study import Study


def place(name: str) -> Path:
    """Where a notebook lies: the groups beside the study's have folders of their own."""
    beside = next(NOTEBOOKS.glob(f"neighbours/{name}.ipynb"), None)
    return beside or NOTEBOOKS / f"{name}.ipynb"


def source(name: str) -> dict[str, Any]:
    """A clean notebook, as its JSON. Raises InputError unless it says what it makes, and which cell holds its
    parameters: without one, papermill would put them where the notebook's own overrule them."""
    path = place(name)
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        outputs = declared_outputs(notebook)
        tagged = sum("parameters" in cell["metadata"].get("tags", ()) for cell in notebook["cells"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path} is no notebook of a run ({reason}); accepted: the repository's JSON") from None
    if tagged != 1:
        raise InputError(f"{path} has {tagged} cells tagged 'parameters'; accepted: one")
    with within(str(path)):
        for output in outputs:
            file_name("name of an output", output)
    return notebook


def declared_outputs(notebook: dict[str, Any]) -> list[str]:
    """File names from the notebook's metadata: a figure is PNG and SVG, a table CSV and Markdown, and both JSON."""
    declared = notebook["metadata"]["jsigr"]
    figures = [f"{name}.{kind}" for name in declared["figures"] for kind in ("png", "svg", "json")]
    return figures + [f"{name}.{kind}" for name in declared["tables"] for kind in ("csv", "md", "json")]


def select(names: list[str] | None, group: str = "study") -> list[str]:
    """Notebooks of a group by number ("03") or name; all of them for None. Raises InputError for an unknown one."""
    for name in names or []:
        one_of("notebook", name, [*(known[:2] for known in NEEDS[group]), *NEEDS[group]])
    return [name for name in NEEDS[group] if not names or name in names or name[:2] in names]


@dataclass(frozen=True)
class Order:
    """What a run or a plan is asked for, checked: notebooks by name, settings that mean the same in the repository's
    folder, where notebooks run, and the folders for figures and for notebooks."""

    study: Study
    notebooks: list[str]
    settings: dict[str, Any]
    out: Path

    @property
    def targets(self) -> tuple[Path, Path]:
        return places(self.out, self.study.profile.name)

    @property
    def whole(self) -> bool:
        """Whether all notebooks of the profile's group run."""
        return len(self.notebooks) == len(NEEDS[self.study.profile.group])


def order(
    profile: str,
    notebooks: list[str] | None,
    settings: dict[str, Any] | None,
    *,
    out: Path | None = None,
    **options: Any,
) -> Order:
    """Everything but the data is checked, and nothing written; `options` are the study's. Raises InputError."""
    settings = dict(settings or {})
    if isinstance(root := settings.get("data_root"), str) and root:
        settings["data_root"] = from_root(Path(root).expanduser())
    study = Study(profile, settings={**settings, "data_root": root}, **options)
    chosen = select(notebooks, study.profile.group)
    for name in chosen:
        source(name)
    made = Order(study, chosen, settings, Path(out) if out else _home(settings))
    check_folder(made.targets[0], study.profile, study.data.content)
    environment(study.store.device)  # or a package without metadata would be found at the first table
    return made


def _home(settings: dict[str, Any]) -> Path:
    """Where a run publishes that is not told where."""
    return RUNS / "custom" / named(settings) if settings else ROOT


def from_root(path: Path) -> str:
    """Relative to the repository, where notebooks run, if it lies inside."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
