"""What the study of robustness asks, cell by cell: which network, threat, source, attack and budget."""

from dataclasses import dataclass

from jsigr_lib.networks.zoo import Training
from jsigr_lib.study.attacked import Attacked, Outcomes, transferred
from jsigr_lib.study.study import Study


@dataclass(frozen=True)
class Cell:
    """A number of a table: what its row says, and the outcomes (one per seed) that it comes from."""

    row: dict
    outcomes: list[Outcomes]


@dataclass(frozen=True)
class Source:
    """Where transferred attacks are made: one network, or several with averaged logits."""

    architecture: str
    defence: str
    networks: tuple[Training, ...]


def sources_of(study: Study, architecture: str) -> list[str]:
    """Surrogates of another architecture than the target's."""
    return [name for name in study.profile.surrogates if name != architecture]


def headline_attack(study: Study, architecture: str) -> Attacked:
    """The test images attacked through the first surrogate: the same for every defence of an architecture."""
    p = study.profile
    source = study.surrogate(sources_of(study, architecture)[0])
    return Attacked(sources=source, attack=p.transfer_attacks[0], eps=p.eps)


def attack_sources(study: Study, architecture: str) -> list[Source]:
    """Undefended surrogates, the first the headline source; their ensemble; defended surrogates ("star": of the first
    architecture only); and the defended networks of the target's own architecture (first seed)."""
    p, names = study.profile, sources_of(study, architecture)
    plain = [Source(name, "standard", (study.surrogate(name),)) for name in names]
    together = [Source("+".join(names), "standard", tuple(study.surrogate(name) for name in names))]
    some, targets = names if p.transfer_design == "full" else names[:1], study.targets().items()
    defended = [Source(one, name, (study.surrogate(one, name),)) for name in p.surrogate_defences for one in some]
    own = [Source(one, name, (networks[0],)) for (one, name), networks in targets if one == architecture]
    return [*plain, *(together if len(names) > 1 else []), *defended, *own]


def attack_grid(study: Study, source: Source, architecture: str) -> list[tuple[str, float]]:
    """The (attack, eps) that a source is used for. "full": all. "star", around the headline: every attack on the
    headline source, every eps on the undefended surrogates, and the headline alone on all other sources."""
    p, first = study.profile, study.profile.transfer_attacks[0]
    if p.transfer_design == "full":
        return [(attack, eps) for attack in p.transfer_attacks for eps in p.budgets]
    if source.defence != "standard" or source.architecture == architecture:
        return [(first, p.eps)]
    others = p.transfer_attacks[1:] if source == attack_sources(study, architecture)[0] else []
    return [*((first, eps) for eps in p.budgets), *((attack, p.eps) for attack in others)]


def robustness_cells(study: Study) -> list[Cell]:
    """Every number about every defence, on the test images."""
    cells = []
    for (architecture, defence), networks in study.targets().items():
        asked = [_clean(networks), *_white_box(study, defence, networks), *_transferred(study, architecture, networks)]
        cells += [Cell({"architecture": architecture, "defence": defence, **what}, of) for what, of in asked]
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
        add("white-box", "pgd", "pgd", eps, images=None, steps=p.pgd_steps)
    add("white-box", "pgd", "pgd-restarts", p.eps, images=few, steps=2 * p.pgd_steps, restarts=p.pgd_restarts)
    add("white-box", "pgd", "pgd", p.eps_l2, norm="l2", images=few, steps=p.pgd_steps)
    add("black-box", "square", "square", p.eps, images=few, queries=p.square_queries)
    if defence in p.autoattack:
        add("white-box", "autoattack", "autoattack", p.eps, images=min(p.autoattack_images, p.test_images))
    return cells


def _transferred(study: Study, architecture: str, networks: list[Training]) -> list[tuple[dict, list[Outcomes]]]:
    """Attacks made on every source; a network is never its own."""
    p, cells = study.profile, []
    for source in attack_sources(study, architecture):
        others = [network for network in networks if network not in source.networks]
        grid = [(attack, eps, "linf") for attack, eps in attack_grid(study, source, architecture)]
        if source == attack_sources(study, architecture)[0]:
            grid.append((p.transfer_attacks[0], p.eps_l2, "l2"))
        for attack, eps, norm in grid if others else []:
            where = {"source": source.architecture, "source_defence": source.defence, "attack": attack, "norm": norm}
            outcomes = [transferred(study, one, source.networks, eps, attack=attack, norm=norm) for one in others]
            cells.append((_what("transfer", eps, **where), outcomes))
    return cells


def headline_cells(study: Study) -> list[Cell]:
    """Clean, and the headline attack and budget from every undefended surrogate."""
    p, cells = study.profile, []
    for (architecture, defence), networks in study.targets().items():
        asked = [_clean(networks)]
        for name in sources_of(study, architecture):
            what = _what("transfer", p.eps, source=name, source_defence="standard", attack=p.transfer_attacks[0])
            asked.append((what, [transferred(study, network, study.surrogate(name), p.eps) for network in networks]))
        cells += [Cell({"architecture": architecture, "defence": defence, **what}, of) for what, of in asked]
    return cells
