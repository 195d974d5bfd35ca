"""The statements of the theory notebook, each with all that checks it: in symbols, on trained networks in float64, by a
search for a counter-example, and, where the library draws at random, on its own draws."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch

from jsigr_lib import estimators, network_checks, searches, symbolic, theory
from jsigr_lib.findings import Finding
from jsigr_lib.specimens import Specimen, specimens
from jsigr_lib.study import Study
from jsigr_lib.tolerances import EXACT, RETOLD, Tolerance, declare

KINDS = ("symbolic", "trained networks, float64", "search", "random draws")
DRAWS = 20_000
ERRORS = "standard errors of the mean"


@dataclass(frozen=True)
class Statement:
    """One claim. A check is a function, or the reason why there is none, "none: ..."."""

    id: str
    title: str
    source: str  # [abs], [code: ...], [derived] or [ours]
    needs: str  # what it assumes, and so where it ends
    symbolic: Callable[[], symbolic.Identities] | str
    networks: Callable[[dict[str, Specimen]], Finding] | str
    search: Callable[[], Finding] | str
    draws: Callable[[Study], Finding] | None = None  # None where the library draws nothing

    def checks(self, study: Study, networks: dict[str, Specimen]) -> dict[str, Finding | str]:
        """What each kind of check finds."""
        given = {
            "symbolic": (symbolic.proved, (self.symbolic,), self.symbolic),
            "trained networks, float64": (self.networks, (networks,), self.networks),
            "search": (self.search, (), self.search),
            "random draws": (self.draws, (study,), self.draws),
        }
        if self.draws is None:
            del given["random draws"]
        return {kind: why if isinstance(why, str) else run(*args) for kind, (run, args, why) in given.items()}


def _drawn(study: Study):
    """Estimates of the Jacobian norm as the library draws them, for the undefended and the J-SIGR network: [draws,
    images], the exact norms and the predicted variances."""
    x, _ = study.batch("test", 24)
    for name in ("standard", "jsigr"):
        jacobian = theory.full_jacobian(study.model(study.training(name)).double(), x.double())
        estimates = theory.projection_draws(jacobian, DRAWS, study.generator())
        yield estimates, jacobian.square().sum((1, 2)), theory.projection_variance(jacobian)


def _mean_of_draws(study: Study) -> Finding:
    off = [(found.mean(0) - exact).abs() / (variance / DRAWS).sqrt() for found, exact, variance in _drawn(study)]
    return Finding(torch.cat(off).max().item(), 4.5, DRAWS * len(torch.cat(off)), ERRORS)


def _variance_of_draws(study: Study) -> Finding:
    off = [(found.var(0) / variance - 1).abs() for found, _, variance in _drawn(study)]
    return Finding(
        torch.cat(off).max().item(), 0.1, DRAWS * len(torch.cat(off)), "relative difference of the variances"
    )


def _gradients_of(estimator: str) -> Callable[[Study], Finding]:
    def check(study: Study) -> Finding:
        table = estimators.scatter_table(study)
        rows = table[table.estimator == estimator]
        return Finding(rows.deviation.max(), 5, int(rows.draws.sum()), f"{ERRORS} gradient")

    return check


STATEMENTS = (
    Statement(
        "S1",
        "one random projection estimates ‖J‖_F² without bias",
        "[code: Hoffman et al. 2019]",
        "v uniform on the sphere, or any v with E[v vᵀ] = I / K",
        symbolic.projection_mean,
        network_checks.projection_mean,
        searches.projection_mean,
        _mean_of_draws,
    ),
    Statement(
        "S2",
        "its variance is 2K/(K+2) (‖J Jᵀ‖_F² − ‖J‖_F⁴ / K)",
        "[derived]",
        "v uniform on the sphere: the second moments alone do not give it",
        symbolic.projection_variance,
        network_checks.projection_variance,
        searches.projection_variance,
        _variance_of_draws,
    ),
    Statement(
        "S3",
        "the input gradient is Jᵀ (p − onehot)",
        "[derived]",
        "cross-entropy, and logits that are differentiable at x",
        symbolic.input_gradient,
        network_checks.input_gradient,
        searches.input_gradient,
    ),
    Statement(
        "S4",
        "one pass with a coin estimates λ_J R_J + λ_S R_S, and its gradient, without bias",
        "[ours]",
        "p - onehot stays in the graph, and the squared L2 norm",
        symbolic.single_pass,
        network_checks.single_pass,
        searches.single_pass,
        _gradients_of("single pass"),
    ),
    Statement(
        "S5",
        "the penalty on a random share of the batch, re-weighted, is unbiased",
        "[ours]",
        "every image equally likely, and the weight 1 / chance",
        symbolic.fraction,
        network_checks.fraction,
        searches.fraction,
        _gradients_of("single pass, a half"),
    ),
    Statement(
        "S6",
        "linearised robustness ρ̃ is at least margin / (√2 ‖J‖_F)",
        "[derived]",
        "nothing of the network; it speaks about the tangent",
        symbolic.robustness_bound,
        network_checks.robustness_bound,
        searches.robustness_bound,
    ),
    Statement(
        "S7",
        "ρ̃ is the exact distance to the boundary of the tangent",
        "[derived; Etmann et al. 2019]",
        "L2, pixels without limits, and the tangent in place of the network",
        symbolic.boundary_distance,
        network_checks.boundary_distance,
        searches.boundary_distance,
    ),
    Statement(
        "S8",
        "ρ̃ and the alignment α differ by at most abs(β) / ‖∇‖, β the offset of the linear region",
        "[derived; Etmann et al. 2019]",
        "ReLUs and other piecewise affine layers; beta is one region's",
        symbolic.alignment,
        network_checks.alignment,
        searches.alignment,
    ),
    Statement(
        "S9",
        "the tangent errs by at most M ‖d‖² / 2, and not at all inside a linear region",
        "[derived]",
        "second derivatives bounded by M on the way; a ReLU network beyond its region has no such M",
        symbolic.remainder,
        network_checks.remainder,
        searches.remainder,
    ),
)


def checks_table(study: Study, networks: dict[str, Specimen] | None = None) -> pd.DataFrame:
    """One row per statement and kind of check; where there is none, its reason stands under `measure`."""
    networks = networks or specimens(study)
    rows = []
    for one in STATEMENTS:
        for kind, found in one.checks(study, networks).items():
            row = {"statement": f"{one.id}: {one.title}", "source": one.source, "check": kind}
            if isinstance(found, str):
                rows.append({**row, "n": 0, "deviation": "", "tolerance": "", "holds": "", "measure": found})
            else:
                size = f"{found.deviation:{'.4f' if found.deviation > 0.01 else '.1e'}}"
                numbers = {"deviation": size, "tolerance": f"{found.tolerance:g}"}
                measure = f"{found.measure}{f' ({found.worst})' if found.worst else ''}"
                rows.append({**row, "n": found.n, **numbers, "holds": found.holds, "measure": measure})
    size = Tolerance(absolute=4)  # in standard errors, or far below 1 and judged by `holds`
    columns = {"n": EXACT, "deviation": size, "tolerance": EXACT, "measure": RETOLD}  # of which network came out worst
    return declare(pd.DataFrame(rows), "statement", "source", "check", **columns)


def failing(table: pd.DataFrame) -> list[str]:
    """Statements with a check that does not hold, or with none that does."""
    checked = table[table.n > 0]
    bad = set(checked[~checked.holds.eq(True)].statement) | (set(table.statement) - set(checked.statement))
    return sorted(bad)
