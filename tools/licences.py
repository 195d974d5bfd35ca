"""The licence of every locked package, from what the installed packages say of themselves: `python tools/licences.py`
writes THIRD_PARTY_LICENSES.md anew."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, LEDGER = ROOT / "requirements.lock", ROOT / "THIRD_PARTY_LICENSES.md"
SPDX = {
    "apache license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD",
    "bsd license": "BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "lgpl v2.1": "LGPL-2.1",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
"""How packages spell their licences; "BSD" is one that does not say with how many clauses."""

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0"),
    *("CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"),
}
REMARKS = {
    "MPL-2.0": "Weak copyleft, file by file: whoever changes its files shares those; it is used as it is.",
    "LGPL-2.1": "Weak copyleft: whoever changes it shares that; it is used as it is. minigrid imports it to draw "
    "windows, of which none is opened here.",
    "LicenseRef-NVIDIA-Proprietary": "NVIDIA's licence, for use with its GPUs: torch's wheels for Linux ask for it. "
    "It is not part of this repository, and nothing here needs it on a CPU.",
}
ELSEWHERE = {
    "aiohappyeyeballs": "PSF-2.0",
    "aiohttp": "Apache-2.0 AND MIT",
    "aiosignal": "Apache-2.0",
    "appnope": "BSD-2-Clause",
    "colorama": "BSD",
    "frozenlist": "Apache-2.0",
    "multidict": "Apache-2.0",
    "propcache": "Apache-2.0",
    "pywinpty": "MIT",
    "yarl": "Apache-2.0",
}
"""Of packages for other systems or another Python than ours: read in their wheels."""

SAYS_NOTHING = {"axe-playwright-python": "MIT AND MPL-2.0", "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
"""The first brings axe-core, which is MPL-2.0; the second is an empty package that asks for the others of NVIDIA."""


def locked() -> list[str]:
    return sorted(set(re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.M)))


def said(package: str) -> str:
    """What an installed package says: its SPDX expression, else its licence field, else its classifiers; else ""."""
    about = distribution(package).metadata
    classifiers = [one.split(" :: ")[-1] for one in about.get_all("Classifier") or [] if one.startswith("License ::")]
    for licence in (about.get("License-Expression"), about.get("License"), " AND ".join(sorted(classifiers))):
        licence = SPDX.get((licence or "").strip().lower(), (licence or "").strip())
        if licence and "\n" not in licence and all(part in PERMISSIVE | REMARKS.keys() for part in parts(licence)):
            return licence
    return SAYS_NOTHING.get(package, "")


def parts(licence: str) -> list[str]:
    """The single licences of an expression."""
    return re.split(r" AND | OR ", licence.replace("(", "").replace(")", ""))


def licences() -> dict[str, str]:
    """Package -> licence, "" if it is unknown."""
    found = {}
    for package in locked():
        try:
            found[package] = said(package)
        except PackageNotFoundError:
            found[package] = ELSEWHERE.get(package, "")
    return found


def markdown(found: dict[str, str]) -> str:
    lines = [
        "# Licences of the packages that are installed beside this one",
        "",
        "Written by `python tools/licences.py` from what the packages of `requirements.lock` say of themselves; none",
        "is part of this repository. A test fails if one is missing here, or its licence is unknown to that script.",
        "",
    ]
    for licence, remark in REMARKS.items():
        named = [package for package, one in found.items() if licence in parts(one)]
        lines += [f"**{licence}** ({', '.join(named)}). {remark}", ""]
    lines += ["All others are permissive.", "", "| package | licence |", "|---|---|"]
    return "\n".join([*lines, *(f"| {package} | {licence} |" for package, licence in found.items())]) + "\n"


if __name__ == "__main__":
    LEDGER.write_text(markdown(licences()), encoding="utf-8")
