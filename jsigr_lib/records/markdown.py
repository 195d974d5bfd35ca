"""Text as Markdown that shows it as it is: what Markdown or HTML would read otherwise is written as a character
reference, which both show as the character."""

import re

import pandas as pd

# Of _ only what could end an emphasis, of ~ what could begin a deletion: numbers and formulas keep theirs.
SPECIAL = re.compile(r"[&<>|`$*\\\r\n]|~(?=\S)|_(?=_*(?!\w))|(?<=\])[(\[]|:(?=//)|^[#+-](?=[#\s])|^\d(?=\d*[.)]\s)")


def table(frame: pd.DataFrame) -> str:
    return frame.map(plain).rename(columns=plain).to_markdown(index=False)


def plain(value: object) -> object:
    """A string for a cell or a paragraph; anything else stays as it is."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", value) if isinstance(value, str) else value
