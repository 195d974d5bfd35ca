"""Tables of things that are chosen by name: objectives, attacks, maps, architectures."""


class Registry(dict):
    """Name -> function, class or settings.

    Add an entry to make it known everywhere: `OBJECTIVES["mine"] = Mine`. An artefact counts the entries that it uses,
    each by its own source, and no other entry (see `keys`).
    """
