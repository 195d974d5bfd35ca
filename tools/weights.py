"""Make the candidates of a profile's search of weights, and print what the rule chooses of them, on validation images:
`python tools/weights.py full-mnist`. They are artefacts like any: a run finds them."""

import sys
import time

from jsigr_lib.study import weights
from jsigr_lib.study.study import Study


def report(spec, done: float, total: float) -> None:
    print(f"{time.strftime('%H:%M:%S')} {done / total:4.0%} {spec.kind}", flush=True)


if __name__ == "__main__":
    study = Study(sys.argv[1], device="cpu", progress=report)
    study.make(weights.specs(study))
    table = weights.table(study)
    keys = ["defence", "weights"]
    rows = table[table.split == "validation"]
    accuracies = rows.pivot_table(index=keys, columns="threat", values="accuracy", sort=False)
    print(accuracies.assign(chosen=rows.drop_duplicates(keys).set_index(keys).chosen).to_string())
    print("other weights in the profile:", ", ".join(weights.unlike_profile(study, table)) or "none")
