"""How much of the code the unit tests hold fixed: mutation testing (`make mutants`).

A mutant is one small change inside a function: a constant, an operator, an argument left out. It is killed if a test
fails, or never ends. `survivors.toml` says of each that survives why no test should notice.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks import tables

RESULTS = Path(__file__).parent / "results"
REASONS = Path(__file__).parent / "survivors.toml"


def main() -> int:
    """After `mutmut run`, in its folder: write mutants.csv and .md. Gives 1 if there is a survivor without a reason,
    or a reason without a survivor."""
    mutants = pd.DataFrame(read())
    table = counts(mutants)
    tables.write(RESULTS, "mutants", table)
    problems = compare(mutants, tomllib.loads(REASONS.read_text(encoding="utf-8")))
    print(table.round(3).to_string(index=False), *problems, sep="\n")
    return int(bool(problems))


def read() -> Iterator[dict[str, str]]:
    """Each mutant: its module, function, status, and change, which is the old line and the new as in a diff."""
    from mutmut.mutation.data import SourceFileMutationData  # in an environment of its own, see the Makefile
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
            change = "\n".join(line[0] + line[1:].strip() for line in diff if line[0] in "+-")
            function = name.rpartition(".")[2].partition("__mutmut_")[0].lstrip("x").removeprefix("_").strip("ǁ")
            function = f"{path.stem}.{function.replace('ǁ', '.')}"
            status = status_by_exit_code[code].replace("segfault", "killed")  # whatever ends a test is noticed
            yield {"module": path.stem, "function": function, "status": status, "change": change}


def counts(mutants: pd.DataFrame) -> pd.DataFrame:
    """By module: mutants, killed by a failing test, timeout, survived (with those that no test runs), score."""
    rows = []
    for module, own in mutants.groupby("module"):
        killed, timeout = ((own.status == status).sum() for status in ("killed", "timeout"))
        score = (killed + timeout) / len(own)
        rows.append(
            {"module": module, "mutants": len(own), "killed": killed, "timeout": timeout,
             "survived": len(own) - killed - timeout, "score": score}
        )  # fmt: skip
    return pd.DataFrame(rows)


def compare(mutants: pd.DataFrame, reasons: dict[str, dict[str, str]]) -> list[str]:
    """Reasons are given by function and a part of the change. What is left over on either side, a line each."""
    left = {(function, part) for function, parts in reasons.items() for part in parts}
    problems = []
    for mutant in mutants[~mutants.status.isin(["killed", "timeout"])].itertuples():
        found = {(mutant.function, part) for part in reasons.get(mutant.function, ()) if part in mutant.change}
        left -= found
        if not found:
            problems.append(f"{mutant.status}, {mutant.function}:\n{mutant.change}")
    return problems + [f"no survivor, {function}: {part}" for function, part in sorted(left)]


if __name__ == "__main__":
    sys.exit(main())
