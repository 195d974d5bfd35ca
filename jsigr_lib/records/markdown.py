"""Tables as Markdown whose cells are text, whatever they hold: what Markdown or HTML would read otherwise is written
as a character reference, which both show as the character."""

import re

import pandas as pd

# Of _ only what could end an emphasis, of ~ what could begin a deletion: numbers and formulas keep theirs.
SPECIAL = re.compile(r"[&<>|`$*\\\r\n]|~(?=\S)|_(?=_*(?!\w))|(?<=\])[(\[]|:(?=//)")


def table(frame: pd.DataFrame) -> str:
    return frame.map(_plain).rename(columns=_plain).to_markdown(index=False)


def _plain(value: object) -> object:
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", value) if isinstance(value, str) else value
