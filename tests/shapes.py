"""The checker of annotated shapes; an int may stand where a float is asked for, as in every type checker."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
