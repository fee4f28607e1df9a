# A package and not a namespace: an installed package called `tests` would hide a namespace, wherever it stands.
