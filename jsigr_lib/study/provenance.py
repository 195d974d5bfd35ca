"""What of a profile the records of its files say, and whether a folder holds files made with another."""

from pathlib import Path
from typing import Any

import pandas as pd

from jsigr_lib.method.errors import InputError
from jsigr_lib.records import record
from jsigr_lib.study.config import PROFILE_NAMES, Profile, load_profile


def changed(profile: Profile) -> dict[str, dict[str, Any]] | None:
    """The fields, such as epochs or penalty.grid, that differ from the profile that ships under the name, with both
    values; None of a profile that does not ship."""
    if profile.name not in PROFILE_NAMES:
        return None
    both = (fields(profile), fields(load_profile(profile.name)))
    value, default = (pd.json_normalize(one).iloc[0].to_dict() for one in both)
    differ = [field for field in {**default, **value} if value.get(field) != default.get(field)]
    return {field: {"value": value.get(field), "default": default.get(field)} for field in differ}


def fields(profile: Profile) -> dict[str, Any]:
    """As JSON, without the folder of the data, which says nothing of them."""
    return profile.model_dump(mode="json", exclude={"data_root"})


def check_folder(folder: Path, profile: Profile, content: str) -> None:
    """Raise InputError if `folder` holds figures or tables made with other settings than the profile's, or of other
    pictures; `content` is the hash of its own."""
    try:
        sidecars = sorted(folder.glob("*.json"))
    except OSError as error:  # such as a name that is too long
        raise InputError(f"cannot read {folder} ({error.strerror}); accepted: a readable folder") from None
    theirs = next((part for sidecar in sidecars for part in record.parts(sidecar).values()), None)
    if theirs is None or theirs.profile.get("name") != profile.name:
        return
    ours, own = fields(profile), changed(profile)
    if own is not None and theirs.changed is not None:
        ours, before = ({key: one["value"] for key, one in each.items()} for each in (own, theirs.changed))
    else:
        before = theirs.profile
    other = sorted(key for key in {*ours, *before} if ours.get(key) != before.get(key))
    if profile.dataset == "folder" and theirs.data.get("content") != content:
        other.append("pictures")
    if other:
        raise InputError(f"{folder} holds figures of other {', '.join(other)}; accepted: another out, or no folder")
