"""Numbers in words. Whatever chooses between two words by a number does it here, so that each rule is written once."""

from collections.abc import Iterable, Mapping

import pandas as pd

from jsigr_lib.records.markdown import plain

SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NOTHING = "This run has too little to say anything here."
Labels = Mapping[str, str]
"""Defence -> its name in figures."""


class Text(str):
    """A paragraph that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return self.replace(" %", "\N{NO-BREAK SPACE}%")  # else a line may break there


def paragraph(*sentences: str, lead: str = "What it shows.") -> Text:
    """The sentences that are not empty, after a lead in bold; if all are, that there is nothing to say."""
    said = [sentence for sentence in sentences if sentence] or [NOTHING]
    return Text(" ".join([f"**{lead}**", *said]))


# numbers


def number(value: float, digits: int = 2) -> str:
    """−0.42; never −0.00."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def brief(value: float) -> str:
    """990, 60.3 or 6.09."""
    return number(value, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)


def percent(share: float) -> str:
    """71 %. What is not quite nothing, or not quite all, is not rounded to it."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """A difference of percentages, without its sign: "3 points", "under a point"."""
    size = abs(100 * difference)
    if size < 0.5:
        return "under half a point"
    return "1 point" if round(size) == 1 else f"{size:.0f} points"


def lost(differences: Iterable[float]) -> str:
    """Clean accuracy that was given up: "4 to 5 points", "−1 to 2 points", "1 point"."""
    ends = span(differences, lambda value: number(100 * value, 0))
    return f"{ends} point" if ends == "1" else f"{ends} points"


def span(values: Iterable[float], shown=number) -> str:
    """The least and the most of several numbers, "0.30 to 0.40", or one of them if they look the same."""
    values = list(values)
    return " to ".join(dict.fromkeys([shown(min(values)), shown(max(values))]))


def interval(row, of: str = "difference", low: str = "low", high: str = "high", digits: int = 2) -> str:
    """0.42 [0.36, 0.47], from the columns of a row. An end that is clearly not 0 is not rounded to it."""
    while digits < 4 and sign(row, low, high) and not all(round(float(row[end]), digits) for end in (low, high)):
        digits += 1
    value, *ends = (number(float(row[name]), digits) for name in (of, low, high))
    return f"{value} [{', '.join(ends)}]"


def share(row, of: str = "accuracy", low: str = "low", high: str = "high") -> str:
    """71 % [69, 73], from the columns of a row."""
    ends = ", ".join(f"{100 * float(row[name]):.0f}" for name in (low, high))
    return f"{percent(float(row[of]))} [{ends}]"


def sign(row, low: str = "low", high: str = "high") -> int:
    """How sure a difference is: 1 if its whole interval is above 0, −1 if it is below, 0 if it may be either."""
    return 1 if float(row[low]) > 0 else -1 if float(row[high]) < 0 else 0


def times(ratio: float) -> str:
    """How a ratio is said before the thing that it is of: "more than twice", "about", "under half"."""
    if ratio < 0.1:
        return "less than a tenth of"
    if ratio < 0.5:
        return "less than half of"
    if 0.95 <= ratio <= 1.05:
        return "about"
    if ratio < 2:
        return f"{ratio:.1f} times"
    return "more than twice" if ratio < 3 else f"{ratio:.0f} times"


# counts and names


def count(n: int, what: str = "", plural: str = "") -> str:
    """ "one row", "three rows", "14 rows"."""
    said = SMALL[n] if n < len(SMALL) else f"{n:,}"
    return f"{said} {what if n == 1 else plural or what + 's'}" if what else said


def of_all(n: int, all_: int, what: str, plural: str = "") -> str:
    """ "none of the four rows", "two of the four rows", "all four rows", "the one row"."""
    if all_ == 1:
        return f"the one {what}" if n else f"not the one {what}"
    if n == all_ == 2:
        return f"both {plural or what + 's'}"
    said = f"{count(all_)} {plural or what + 's'}"
    return f"all {said}" if n == all_ else f"{count(n) if n else 'none'} of the {said}"


def listed(names: Iterable[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"; of none "none"."""
    *others, end = [*names] or ["none"]
    return f"{', '.join(others)} {last} {end}" if others else end


def begin(text: str) -> str:
    """As a sentence begins."""
    return text[:1].upper() + text[1:]


def name(defence: str, labels: Labels) -> str:
    """Its label; "the standard network"."""
    label = str(plain(labels.get(defence, defence)))
    return f"the {label} network" if defence == "standard" else label


def names(defences: Iterable[str], labels: Labels, last: str = "and") -> str:
    return listed((name(one, labels) for one in defences), last)


# tables


def rows(table: pd.DataFrame, **values) -> pd.DataFrame:
    """The rows that have these values, or one of those of a list; none of a table that lacks a column."""
    for column, value in values.items():
        if column not in table:
            return table.iloc[:0]
        table = table[table[column].isin(value if isinstance(value, list) else [value])]
    return table


def known(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows that have numbers in these columns, as numbers; none of a table that lacks one of them."""
    if not set(columns) <= set(table):
        return table.iloc[:0]
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in columns}).dropna(
        subset=columns
    )


def first(table: pd.DataFrame) -> pd.DataFrame:
    """The part that is about the first architecture, the one of the figures."""
    return rows(table, architecture=table.architecture.iloc[0]) if len(table) and "architecture" in table else table


def keyed(table: pd.DataFrame, column: str = "defence") -> dict[str, pd.Series]:
    """Value of the column -> its row, the first if there are several."""
    return {row[column]: row for _, row in table.drop_duplicates(column).iterrows()} if column in table else {}
