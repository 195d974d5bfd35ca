"""What attacks are transferred from, and which sources count: those that are competent and whose attacks bite."""

from dataclasses import dataclass
from itertools import product

import pandas as pd

from jsigr_lib.measure import statistics
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import EXACT, SHARE, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.attacked import Attacked, Outcomes, correct_of, transfer_settings, transferred
from jsigr_lib.study.study import Study

LEFT = 0.5  # at most this share of its clean accuracy may an attack leave the undefended network
STEPS = {"mi-fgsm": 40, "di-fgsm": 40, "vt-fgsm": 10}  # attack -> the most steps of the curve; VT's cost 21 passes
BEHIND = 0.05  # a competent source is at most so much less accurate than the undefended target


@dataclass(frozen=True)
class Source:
    """What transferred attacks are made on. Each origin, one per seed, is a network or several with averaged logits."""

    architecture: str
    defence: str
    origins: tuple[tuple[Training, ...], ...]

    @property
    def name(self) -> str:
        return self.architecture if self.defence == "standard" else f"{self.architecture}, {self.defence}"


def sources_of(study: Study, architecture: str) -> list[str]:
    """The families of undefended sources: surrogates of other architectures, then the target's own, another seed."""
    return [*(name for name in study.profile.surrogates if name != architecture), architecture]


def headline_attack(study: Study, architecture: str) -> Attacked:
    """The test images attacked through the first surrogate: the same for every defence of an architecture."""
    p = study.profile
    source = study.surrogate(sources_of(study, architecture)[0])
    return Attacked(sources=source, attack=p.transfer_attacks[0], eps=p.eps, settings=transfer_settings(p))


def families(study: Study, architecture: str) -> list[Source]:
    """Undefended sources, the first the headline one; those of the target's architecture come last."""
    seeds, names = range(study.profile.surrogate_seeds), sources_of(study, architecture)
    return [Source(name, "standard", tuple((study.surrogate(name, seed=seed),) for seed in seeds)) for name in names]


def ensembles(study: Study, architecture: str) -> list[Source]:
    """The undefended sources together; and the same with the defended ones, as the authors' repository attacks: for the
    figures' architecture."""
    if architecture != study.architecture:
        return []
    undefended, defended = families(study, architecture), defended_sources(study, architecture)
    name = "+".join(one.architecture for one in undefended)
    together = tuple(sum(one, ()) for one in zip(*(family.origins for family in undefended), strict=True))
    found = [Source(name, "standard", together)]
    if defended:
        mixed = (*together[0], *(one.origins[0][0] for one in defended))
        found.append(Source(name, "+".join(["standard", *study.profile.surrogate_defences]), (mixed,)))
    return found


def defended_sources(study: Study, architecture: str) -> list[Source]:
    """Defended networks of the first two families, which the attacker has trained; for the figures' architecture."""
    some = sources_of(study, architecture)[:2] if architecture == study.architecture else []
    pairs = product(study.profile.surrogate_defences, some)
    return [Source(one, name, ((study.surrogate(one, name),),)) for name, one in pairs]


def attack_sources(study: Study, architecture: str) -> list[Source]:
    """Everything that attacks are transferred from: undefended sources, their ensembles, defended sources, and the
    defended networks of the target's own architecture (first seed)."""
    targets = study.targets().items()
    own = [
        Source(one, name, ((networks[0],),))
        for (one, name), networks in targets
        if one == architecture and name != "standard"
    ]
    found = attackers(study, architecture)
    named = {(one.architecture, one.defence) for one in found}
    return [*found, *(one for one in own if (one.architecture, one.defence) not in named)]


def attackers(study: Study, architecture: str) -> list[Source]:
    """All sources but the targets themselves."""
    return [*families(study, architecture), *ensembles(study, architecture), *defended_sources(study, architecture)]


def voting(study: Study, architecture: str) -> list[Source]:
    """The families of undefended sources that count: competent, and their attack bites."""
    return [one for one in families(study, architecture) if _judged(study, architecture, one)["votes"]]


def biting(study: Study, architecture: str, sources: list[Source]) -> list[Source]:
    """Those whose attack bites."""
    return [one for one in sources if _judged(study, architecture, one)["bites"]]


def _judged(study: Study, architecture: str, source: Source) -> dict[str, float | bool]:
    """A source on validation images: how accurate it is, what its attack leaves of the undefended target, and whether
    that is little enough."""
    clean, attacked, own = (correct_of(study, ones).mean() for ones in _outcomes(study, architecture, source))
    bites = attacked <= LEFT * clean
    accuracies = {"source_accuracy": own, "clean": clean, "attacked": attacked, "share_left": attacked / clean}
    family = source.defence == "standard" and len(source.origins[0]) == 1
    votes = family and bites and own >= clean - BEHIND
    return {**accuracies, "bites": bool(bites), "votes": bool(votes)}


def _outcomes(study: Study, architecture: str, source: Source) -> tuple[list[Outcomes], ...]:
    """The undefended target on clean validation images, on attacked ones, and the source's networks on clean ones."""
    networks, eps = study.targets()[architecture, "standard"], study.profile.eps
    pairs = product(source.origins, networks)
    attacked = [transferred(study, one, origin, eps, split="validation") for origin, one in pairs]
    own = dict.fromkeys(network for origin in source.origins for network in origin)
    clean, own = ([Outcomes(target=one, split="validation") for one in some] for some in (networks, own))
    return clean, attacked, own


def specs(study: Study) -> list[Spec]:
    """The artefacts that say which sources count."""
    pairs = [(one, source) for one in study.profile.architectures for source in attackers(study, one)]
    return [spec for one, source in pairs for part in _outcomes(study, one, source) for spec in part]


def sources_table(study: Study) -> pd.DataFrame:
    """One row per architecture and source: its own accuracy, what the headline attack leaves of the undefended network
    (both on validation images), whether that bites, and whether the source's rows vote."""
    study.make(specs(study))
    rows = []
    for architecture in study.profile.architectures:
        for source in attackers(study, architecture):
            what = {"architecture": architecture, "source": source.architecture, "source_defence": source.defence}
            what |= {"origins": len(source.origins), "images": study.profile.validation_images}
            rows.append({**what, **_judged(study, architecture, source)})
    shares = dict.fromkeys(("source_accuracy", "clean", "attacked", "share_left"), SHARE)
    return declare(pd.DataFrame(rows), "architecture", "source", "source_defence", origins=EXACT, **shares)


def strength_cells(study: Study) -> dict[tuple[str, str, int], Outcomes]:
    """(attack, source, steps) -> how the undefended network fares on attacked validation images."""
    p, target, found = study.profile, study.targets()[study.architecture, "standard"][0], {}
    for attack, most in STEPS.items():
        for source, steps in product(families(study, study.architecture), (5, 10, 20, 40)):
            if attack in p.transfer_attacks and steps <= most:
                common = {"eps": p.eps, "split": "validation", "images": min(p.strong_images, p.validation_images)}
                made = Attacked(sources=source.origins[0], attack=attack, settings=(("steps", steps),), **common)
                found[attack, source.architecture, steps] = Outcomes(target=target, attacked=made, split="validation")
    return found


def strength_table(study: Study) -> pd.DataFrame:
    """One row per attack, undefended source (first seed) and number of steps: what is left of the undefended network on
    validation images. The profile's headline attack should be the one that leaves the least, in the mean."""
    outcomes, rows = strength_cells(study), []
    study.make(list(outcomes.values()))
    for (attack, source, steps), one in outcomes.items():
        numbers = statistics.columns("accuracy", correct_of(study, [one]), statistics.proportion)
        rows.append({"attack": attack, "source": source, "steps": steps, **numbers})
    return declare(pd.DataFrame(rows), "attack", "source", "steps")
