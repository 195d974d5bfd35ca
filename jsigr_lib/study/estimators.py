"""The scatter of the penalty's estimators for a study's networks: the artefacts and their table."""

from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.measure.estimators import ESTIMATORS, gradient_scatter, predicted_spread, single_pass_moments
from jsigr_lib.method.saliency import Selection, perturbation_saliency, selection_mask
from jsigr_lib.networks.zoo import OfNetwork, Options, trained
from jsigr_lib.records.tolerances import Tolerance, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.study.study import Study

COINS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8)


class Scatter(OfNetwork):
    """`gradient_scatter` of every estimator and coin for one network, on the first training images, in float64 and for
    the L2 norm, the one that has an exact reference."""

    kind: ClassVar[str] = "scatter"
    lambda_j: float
    lambda_s: float
    coin: float
    draws: int
    images: int = 8
    selection: Options = ()

    def work(self) -> float:
        return 90 * self.draws * self.images * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.target, store).double().requires_grad_(True)
        x, y = load(self.target.data, store).train.first(self.images).batch(slice(None), device)
        x, selection = x.double(), Selection(**dict(self.selection))
        generator, weights = torch.Generator().manual_seed(0), {"lambda_j": self.lambda_j, "lambda_s": self.lambda_s}
        saliency = perturbation_saliency(model, x, y, **selection.perturbation)
        batches = {
            kind: (x, y, selection_mask(saliency, share=selection.share, kind=kind)) for kind in ("hard", "soft")
        }

        def row(name: str, kind: str, coin: float, **predicted: float) -> dict[str, Any]:
            options = {"coin": coin, **ESTIMATORS[name]}
            tossed = coin if options["estimator"] == "single-pass" else None
            found = gradient_scatter(model, batches[kind], self.draws, generator, weights, **options)
            return {"estimator": name, "mask": kind, "coin": tossed, **predicted, **found}

        rows = [row(name, kind, self.coin) for kind in batches for name in ESTIMATORS]
        moments = single_pass_moments(model, batches["hard"], generator, weights)
        rows += [row("single pass", "hard", coin, predicted=predicted_spread(moments, coin)) for coin in COINS]
        return {}, {"rows": rows, "moments": moments}


def scatter_specs(study: Study) -> dict[str, Scatter]:
    """For the undefended and the J-SIGR network, both with J-SIGR's weights."""
    options, draws = study.profile.options("jsigr"), study.profile.estimator_draws
    settings = {name: options[name] for name in ("lambda_j", "lambda_s", "coin")}
    settings["selection"] = tuple((name, options[name]) for name in Selection.__dataclass_fields__ if name != "kind")
    return {name: Scatter(target=study.training(name), draws=draws, **settings) for name in ("standard", "jsigr")}


def scatter_table(study: Study) -> pd.DataFrame:
    """One row per network, estimator, mask and coin: deviation and spread of the gradient, and the predicted spread."""
    specs = scatter_specs(study)
    study.make(list(specs.values()))
    tables = [pd.DataFrame(study.get(spec).facts["rows"]).assign(draws=spec.draws) for spec in specs.values()]
    table = pd.concat(tables, keys=specs, names=["defence", None]).reset_index("defence")
    table["deviation"] = table.bias.abs() / table.error
    keys, spread = ("defence", "estimator", "mask", "coin", "draws"), Tolerance(absolute=0.02, relative=0.15)
    standard_errors = Tolerance(absolute=4)
    table = table[[*keys, "deviation", "spread", "predicted"]]
    return declare(table, *keys, deviation=standard_errors, spread=spread, predicted=spread)


def pooled_deviation(study: Study, estimator: str) -> tuple[float, int]:
    """The mean bias of all rows of an estimator, in standard errors, and their draws. A row's weight is one over the
    variance of its coin, coin / (1 - coin): one over the scatter that was measured would count those rows the most in
    which the rare side of the coin by chance hardly occurred."""
    specs = scatter_specs(study)
    study.make(list(specs.values()))
    rows = [(row, spec.draws) for spec in specs.values() for row in study.get(spec).facts["rows"]]
    own = [(row, draws, 1 / row["coin"] - 1) for row, draws in rows if row["estimator"] == estimator]
    bias = sum(weight * row["bias"] for row, _, weight in own)
    error = sum((weight * row["error"]) ** 2 for row, _, weight in own) ** 0.5
    return abs(bias) / error, sum(draws for _, draws, _ in own)


def coin_moments(study: Study) -> dict[str, dict[str, float]]:
    """`single_pass_moments` of each network of `scatter_specs`."""
    return {name: study.get(spec).facts["moments"] for name, spec in scatter_specs(study).items()}
