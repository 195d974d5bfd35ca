"""Numbers in words. Whatever chooses between two words by a number does it here, so that each rule is written once."""

import math
from collections.abc import Iterable

import pandas as pd

SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NOTHING = "This run has too little to say more here."


class Text(str):
    """A paragraph that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def paragraph(*sentences: str, lead: str = "What it shows.") -> Text:
    """The sentences that there are, after a lead in bold; if there are none, that there are none."""
    said = [sentence for sentence in sentences if sentence] or [NOTHING]
    return Text(" ".join([f"**{lead}**", *said]))


def number(value: float, digits: int = 2) -> str:
    """−0.42; never −0.00."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def percent(share: float) -> str:
    """71 %. What is not quite nothing, or not quite all, is not rounded to it."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """Of percentages, without its sign: "3 points", "under a point"."""
    size = abs(100 * difference)
    if size < 0.5:
        return "under half a point"
    return "1 point" if round(size) == 1 else f"{size:.0f} points"


def span(values: Iterable[float], shown=number) -> str:
    """The least and the most of several numbers, "0.3 to 0.4", or the one that they are when rounded."""
    values = list(values)
    ends = list(dict.fromkeys([shown(min(values)), shown(max(values))]))
    return " to ".join(ends)


def interval(row: pd.Series, of: str = "difference", low: str = "low", high: str = "high", digits: int = 2) -> str:
    """0.42 [0.36, 0.47], from the columns of a row."""
    value, *ends = (number(float(row[name]), digits) for name in (of, low, high))
    return f"{value} [{', '.join(ends)}]"


def sign(low: float, high: float, zero: float = 0.0) -> int:
    """1 if a whole interval is above zero, −1 if it is below, 0 if it may be either (or if there is none)."""
    return 1 if low > zero else -1 if high < zero else 0


def verb(which: int, more: str, less: str, same: str) -> str:
    """The word for a sign."""
    return {1: more, -1: less, 0: same}[which]


def times(ratio: float) -> str:
    """ "more than twice", "1.4 times", "about as much as", "less than half": how a ratio is said before what it is of."""
    if not math.isfinite(ratio) or ratio <= 0:
        return ""
    if 0.95 <= ratio <= 1.05:
        return "about as much as"
    if ratio <= 0.5:
        return "at most half as much as" if ratio > 0.1 else "less than a tenth of"
    if ratio < 2:
        return f"{ratio:.1f} times as much as"
    return "twice as much as" if ratio < 2.1 else "more than twice as much as" if ratio < 3 else f"{ratio:.0f} times"


def count(n: int, what: str = "", plural: str = "") -> str:
    """ "one row", "three rows", "14 rows"."""
    said = SMALL[n] if n < len(SMALL) else f"{n:,}"
    return said if not what else f"{said} {what if n == 1 else plural or what + 's'}"


def share_of(n: int, of: int) -> str:
    """ "none of the four", "two of the four", "all four"."""
    if of == 1:
        return "the one" if n else "not the one"
    return f"all {count(of)}" if n == of else f"{'none' if n == 0 else count(n)} of the {count(of)}"


def listed(names: Iterable[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"; "" of none."""
    *others, end = [*names] or [""]
    return f"{', '.join(others)} {last} {end}" if others else end


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]
