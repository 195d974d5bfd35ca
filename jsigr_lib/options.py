"""What the options of the `jsigr` command accept. Each complaint names the value and what is accepted."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from jsigr_lib.method.errors import InputError, one_of, shown


def number(kind: type, help: str):
    """An option that takes a number. Its complaint names the value, which typer's own leaves out."""

    def parse(value: str) -> int | float:
        try:
            return kind(value)
        except ValueError:
            raise typer.BadParameter(f"{shown(value)} is no {'whole ' * (kind is int)}number") from None

    return typer.Option(help=help, parser=parse, metavar=f"<{kind.__name__}>")


PROFILES = "smoke, quick, full or paper, or a TOML file like theirs"
Profile = Annotated[str, typer.Option(help=PROFILES)]
ProfileOrGroup = Annotated[str | None, typer.Option(help=f"{PROFILES}; by default quick, or the group's own")]
Notebooks = Annotated[list[str] | None, typer.Option(help="01 to 05, 06 to 09 of the neighbours; all by default")]
Group = Annotated[str | None, typer.Option(help="study, or neighbours: the notebooks of related work")]
PARAMETER = typer.Option(
    "--set", metavar="KEY=VALUE", help="a key of the profile, such as eps=0.05 or penalty.share=0.3; repeatable"
)
Settings = Annotated[list[str] | None, PARAMETER]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Jobs = Annotated[int, number(int, "processes at a time; 0 is one per core")]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON, for programs")]


def path_of(option: str, path: str | None) -> Path | None:
    """The path given for an option. Raises InputError for an empty one, which would mean the current folder."""
    if path is not None and not (path.strip() and path.isprintable()):
        raise InputError(f"--{option} {shown(path)}; accepted: a path of printable characters")
    return path and Path(path)


def asked(profile: str | None, group: str | None, pairs: list[str]) -> dict:
    """The profile and its settings. A group alone brings its own profile; beside a profile it is one more setting."""
    settings = parse_settings(pairs)
    if profile is not None:
        return {"profile": profile, "settings": settings if group is None else {**settings, "group": group}}
    from jsigr_lib.study.config import GROUPS

    group = "study" if group is None else group
    one_of("group", group, GROUPS)
    return {"profile": GROUPS[group], "settings": settings}


def parse_settings(pairs: list[str]) -> dict:
    """["eps=0.1", "seeds=[0, 1]", "dataset=mnist"] -> their values. What is no TOML value is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not (key and equals):
            raise InputError(f"--set {shown(pair)}; accepted: KEY=VALUE")
        if key in settings:
            raise InputError(f"--set {shown(key)} stands there twice; accepted: once")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"] if value.isprintable() else value
        except (ValueError, RecursionError):
            settings[key] = value
    return settings
