"""torchattacks, timed in an environment of its own: its pins exclude current JupyterLab, and so this project's.

    python -m benchmarks.torchattacks_worker '{"workload": ..., "threat": ..., "rounds": 10, ...}'

runs in the repository's root and prints seconds per round and peak bytes, as JSON: of torchattacks, and of the bare
passes on the same network there. It needs torch and torchattacks only.
"""

import json
import sys

import torch
import torchattacks

from benchmarks.floors import frozen, gradient_passes
from benchmarks.threats import Threat, check
from benchmarks.timing import measure
from benchmarks.workloads import Workload
from jsigr_lib.networks.counting import peak_bytes

NSIG = 3  # the kernel of translation invariance ends after so many standard deviations


def main(*, workload: dict, threat: dict, rounds: int, device: str, threads: int) -> dict[str, dict]:
    torch.set_num_threads(threads)
    workload, threat = Workload(**workload), Threat(**threat)
    x, y = workload.images(device)
    attack = build(threat, workload.model(device).eval())
    check("torchattacks", attack(x, y), x, threat)
    floor = frozen(workload.model(device))
    cases = {"bare passes": lambda: gradient_passes(floor, x, y, threat.steps), "torchattacks": lambda: attack(x, y)}
    seconds = measure(cases, rounds=rounds, device=device)
    return {"seconds": seconds, "peaks": {name: peak_bytes(case, device) for name, case in cases.items()}}


def build(threat: Threat, model: torch.nn.Module) -> torchattacks.attack.Attack:
    """Its class for the threat, with our settings wherever it takes them."""
    loop = {"eps": threat.eps, "alpha": threat.step_size, "steps": threat.steps}
    if not threat.momentum:
        if threat.steps == 1:
            return torchattacks.FGSM(model, eps=threat.eps)
        kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[threat.norm]
        return kind(model, random_start=threat.random_start, **loop)
    loop["decay"] = threat.momentum
    if threat.diversity:
        return torchattacks.DIFGSM(model, diversity_prob=threat.diversity, **loop)
    if threat.translation:
        sides = round(NSIG * threat.translation)  # so that NSIG standard deviations are as many pixels
        return torchattacks.TIFGSM(model, len_kernel=2 * sides + 1, nsig=NSIG, diversity_prob=0, **loop)
    if threat.scales > 1:
        return torchattacks.SINIFGSM(model, m=threat.scales, **loop)
    if threat.variance:
        return torchattacks.VMIFGSM(model, N=threat.variance, **loop)
    return (torchattacks.NIFGSM if threat.nesterov else torchattacks.MIFGSM)(model, **loop)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
