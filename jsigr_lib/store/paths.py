"""Where things live: absolute paths inside the repository, nothing else."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
PROFILES = PACKAGE / "study" / "profiles"
DATA = ROOT / "data"
PRETRAINED = DATA / "pretrained"
FRONT = PACKAGE / "explorer" / "front"
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"
FIGURES = ROOT / "figures"  # of published runs, by profile
CLAIMS = ROOT / "claims.toml"
DEVIATIONS = ROOT / "DEVIATIONS.md"
EQUATIONS = ROOT / "equations.toml"
PAPER_VALUES = ROOT / "paper_values.toml"
