"""How well the linearised perturbation map ranks the places of an image as the exact one does, per defence."""

import numpy as np
import pandas as pd

from jsigr_lib.measure import statistics
from jsigr_lib.method.saliency import perturbation_saliency
from jsigr_lib.study.study import Study

IMAGES = 200  # test images, or as many as there are


def table(study: Study) -> pd.DataFrame:
    """Rank correlation of the two maps: its mean over images and seeds, with a 95 % interval, for each defence.

    The networks are the study's; those that are missing are trained first.
    """
    p = study.profile
    networks = {name: [study.training(name, seed=seed) for seed in p.seeds] for name in p.defences}
    study.make([network for seeds in networks.values() for network in seeds])
    rows = []
    for name, seeds in networks.items():
        correlations = np.stack([correlation(study, network) for network in seeds])
        mean, low, high = statistics.mean(correlations)
        row = {"network": study.architecture, "defence": study.labels[name], "rank_correlation": mean}
        rows.append({**row, "low": low, "high": high, "images": correlations.shape[1], "seeds": len(seeds)})
    return pd.DataFrame(rows)


def correlation(study: Study, network) -> np.ndarray:
    """Spearman's correlation of the exact and the linearised map, one number per test image."""
    model, (x, y) = study.model(network), study.batch("test", IMAGES)
    settings = study.profile.penalty.selection.perturbation
    exact, linearised = (
        perturbation_saliency(model, x, y, method=method, **settings).flatten(1).cpu().numpy()
        for method in ("exact", "linearised")
    )
    return statistics.rank_correlation(exact, linearised)
