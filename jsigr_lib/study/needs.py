"""What each notebook needs: the artefacts that its tables and figures read. Whoever runs notebooks asks here, and so
needs to know nothing of the science in them. A profile runs one group of notebooks."""

from collections.abc import Callable

from jsigr_lib.store.specs import Spec
from jsigr_lib.study import (
    boundary,
    bounds,
    distillation,
    estimators,
    known_truth,
    linearised_tables,
    map_tables,
    quality,
    robustness,
    sources,
    transport,
    verdicts,
    weights,
)
from jsigr_lib.study.cells import robustness_cells
from jsigr_lib.study.study import Study


def _theory(study: Study) -> list[Spec]:
    scatters = estimators.scatter_specs(study).values()
    return [*linearised_tables.linearised_specs(study), *boundary.boundary_specs(study), *scatters]


def _transfer(study: Study) -> list[Spec]:
    own = [*sources.specs(study), *sources.strength_cells(study).values()]
    return [*own, *robustness.specs(study, robustness_cells(study))]


NEEDS: dict[str, dict[str, Callable[[Study], list[Spec]]]] = {
    "study": {
        "01_theory": _theory,
        "02_training": lambda study: [*study.networks, *weights.specs(study)],
        "03_transfer_attacks": _transfer,
        "04_saliency": lambda study: [*map_tables.specs(study), *known_truth.specs(study)],
        "05_claims": verdicts.specs,
    },
    "neighbours": {
        "06_distillation": distillation.specs,
        "07_bounds": bounds.specs,
        "08_transport": transport.specs,
        "09_quality": quality.specs,
    },
}
"""Group -> its notebooks, each with its artefacts, of a study."""
