"""What the study of robustness asks, cell by cell: which network, threat, source, attack and budget."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from jsigr_lib.networks.zoo import Training
from jsigr_lib.study.attacked import Attacked, Outcomes, transferred
from jsigr_lib.study.sources import Source, attack_sources, ensembles, families
from jsigr_lib.study.study import Study


@dataclass(frozen=True)
class Cell:
    """A number of a table: what its row says, and the outcomes that it comes from. There is one per network that is
    judged, and with several origins of an attack, one after the other, one per origin and network."""

    row: dict
    outcomes: list[Outcomes]
    origins: int = 1

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values [outcomes, images] as [origins, seeds, images]."""
        return values.reshape(self.origins, -1, values.shape[-1])


def attack_grid(study: Study, source: Source, architecture: str) -> list[tuple[str, float]]:
    """The (attack, eps) that a source is used for, around the headline: every eps on the undefended sources and the
    ensembles, every attack on the headline source of the figures' architecture, the headline alone on all others."""
    p, first = study.profile, study.profile.transfer_attacks[0]
    undefended = families(study, architecture)
    if source not in [*undefended, *ensembles(study, architecture)]:
        return [(first, p.eps)]
    headline = source == undefended[0] and architecture == study.architecture
    others = p.transfer_attacks[1:] if headline else []
    return [*((first, eps) for eps in p.budgets), *((attack, p.eps) for attack in others)]


def robustness_cells(study: Study) -> list[Cell]:
    """Every number about every defence, on the test images."""
    cells = []
    for (architecture, defence), networks in study.targets().items():
        asked = [_clean(networks), *_white_box(study, defence, networks), *_transferred(study, architecture, networks)]
        cells += [Cell({"architecture": architecture, "defence": defence, **what}, *of) for what, *of in asked]
    return cells


def _what(threat: str, eps: float = 0.0, *, source="", source_defence="", attack="", norm="linf") -> dict:
    where = {"threat": threat, "source": source, "source_defence": source_defence}
    return {**where, "attack": attack, "norm": norm, "eps": eps}


def _clean(networks: list[Training]) -> tuple[dict, list[Outcomes]]:
    return _what("clean"), [Outcomes(target=network) for network in networks]


def _white_box(study: Study, defence: str, networks: list[Training]) -> list[tuple[dict, list[Outcomes]]]:
    """Attacks that ask the network itself: for its gradients or, as a black box, for its logits."""
    p, cells = study.profile, []

    def add(threat: str, attack: str, label: str, eps: float, *, norm: str = "linf", images: int | None, **settings):
        what = _what(threat, eps, source="itself", attack=label, norm=norm)
        common = {"attack": attack, "eps": eps, "norm": norm, "images": images, "settings": tuple(settings.items())}
        asked = networks[:1] if attack == "autoattack" else networks
        cells.append((what, [Outcomes(target=one, attacked=Attacked(sources=one, **common)) for one in asked]))

    few = min(p.strong_images, p.test_images)
    for eps in p.budgets:
        add("white-box", "pgd", "pgd", eps, images=p.white_box_images, steps=p.pgd_steps)
    add("white-box", "pgd", "pgd-restarts", p.eps, images=few, steps=2 * p.pgd_steps, restarts=p.pgd_restarts)
    add("white-box", "pgd", "pgd", p.eps_l2, norm="l2", images=few, steps=p.pgd_steps)
    add("black-box", "square", "square", p.eps, images=few, queries=p.square_queries)
    if defence in p.autoattack:
        add("white-box", "autoattack", "autoattack", p.eps, images=min(p.autoattack_images, p.test_images))
    return cells


def _transferred(study: Study, architecture: str, networks: list[Training]) -> list[tuple]:
    """Attacks made on every source; a network is never its own."""
    p, cells = study.profile, []
    for source in attack_sources(study, architecture):
        grid = [(attack, eps, "linf") for attack, eps in attack_grid(study, source, architecture)]
        if source == families(study, architecture)[0]:
            grid.append((p.transfer_attacks[0], p.eps_l2, "l2"))
        cells += [from_source(study, source, networks, eps, attack=attack, norm=norm) for attack, eps, norm in grid]
    return [cell for cell in cells if cell[1]]


def from_source(study: Study, source: Source, networks: list[Training], eps: float, *, attack="", norm="linf") -> tuple:
    """What a row says, its outcomes and how many origins they have; with the headline attack by default."""
    attack = attack or study.profile.transfer_attacks[0]
    what = {"source": source.architecture, "source_defence": source.defence, "attack": attack, "norm": norm}
    others = [one for one in networks if not any(one in origin for origin in source.origins)]
    pairs = product(source.origins, others)
    outcomes = [transferred(study, one, origin, eps, attack=attack, norm=norm) for origin, one in pairs]
    return _what("transfer", eps, **what), outcomes, len(source.origins)


def headline_cells(study: Study) -> list[Cell]:
    """Clean, and the headline attack and budget from every undefended source and the ensembles."""
    p, cells = study.profile, []
    for (architecture, defence), networks in study.targets().items():
        sources = [*families(study, architecture), *ensembles(study, architecture)]
        asked = [_clean(networks), *(from_source(study, source, networks, p.eps) for source in sources)]
        cells += [Cell({"architecture": architecture, "defence": defence, **what}, *of) for what, *of in asked]
    return cells
