"""What licences that models are often under say of works derived from them: facts, each from the licence's own text.

The keys are the Hub's ids (https://huggingface.co/docs/hub/repositories-licenses). A licence that is not here is left
to its own text: nothing is assumed about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """A licence: its name, and what it asks of whoever passes on the work or one derived from it.

    `forbids` is what keeps a derived work from being passed on under it, or from being used commercially. `begins` is
    what the names of models made with the work must begin with.
    """

    title: str
    asks: str
    forbids: str | None = None
    begins: str | None = None
    is_shareable: bool = True


_NOTICES = "its text and the copyright notices stay with every copy"
_RAIL = "its restrictions on use are passed on, as binding terms, to whoever gets the model or a derivative of it"
_LLAMA = 'a copy of the licence and a notice file go with the model, and "{built}" is displayed prominently'

KNOWN: Mapping[str, Terms] = {
    "apache-2.0": Terms("Apache License 2.0", f"{_NOTICES}, and changed files say that they were changed"),
    "mit": Terms("MIT License", _NOTICES),
    "isc": Terms("ISC License", _NOTICES),
    "bsd-2-clause": Terms("BSD 2-Clause License", _NOTICES),
    "bsd-3-clause": Terms("BSD 3-Clause License", f"{_NOTICES}, and the authors' names are not used to endorse"),
    "cc0-1.0": Terms("Creative Commons Zero 1.0", "it asks for nothing"),
    "unlicense": Terms("The Unlicense", "it asks for nothing"),
    "lgpl-3.0": Terms(
        "GNU Lesser General Public License 3.0", "derived versions are under it again, with their source"
    ),
    "gpl-3.0": Terms("GNU General Public License 3.0", "derived works are under it again, with their source"),
    "agpl-3.0": Terms(
        "GNU Affero General Public License 3.0",
        "derived works are under it again, with their source, which users over a network are offered as well",
    ),
    "llama2": Terms(
        "Llama 2 Community License",
        "a copy of the licence and a notice file go with the model; an acceptable use policy is part of it",
        forbids="using the model or its output to improve large language models other than Llama 2 and its derivatives",
    ),
    "llama3": Terms(
        "Meta Llama 3 Community License",
        _LLAMA.format(built="Built with Meta Llama 3"),
        forbids="using the model or its output to improve large language models other than Llama 3 and its derivatives",
        begins="Llama 3",
    ),
    **{
        f"llama{version}": Terms(
            f"Llama {version} Community License", _LLAMA.format(built="Built with Llama"), begins="Llama"
        )
        for version in ("3.1", "3.2", "3.3", "4")
    },
    "gemma": Terms(
        "Gemma Terms of Use",
        "a copy of the terms and a notice file go with the model, changed files say that they were changed, and the"
        " restrictions on use are passed on as binding terms",
    ),
    "creativeml-openrail-m": Terms("CreativeML OpenRAIL-M", _RAIL),
    "openrail++": Terms("CreativeML Open RAIL++-M", _RAIL),
    "bigscience-openrail-m": Terms("BigScience OpenRAIL-M", _RAIL),
    "bigscience-bloom-rail-1.0": Terms("BigScience RAIL License 1.0", _RAIL),
    "bigcode-openrail-m": Terms("BigCode OpenRAIL-M", _RAIL),
    "apple-amlr": Terms(
        "Apple Machine Learning Research Model License", _NOTICES, forbids="uses other than non-commercial research"
    ),
    "fair-noncommercial-research-license": Terms(
        "FAIR Noncommercial Research License",
        "derived works are passed on under the same terms",
        forbids="commercial uses",
    ),
}

# licence: those that a work holding something under it may carry as a whole, by what both or their authors say:
# gnu.org/licenses/license-list, apache.org/licenses/GPL-compatibility, Creative Commons' chart of adapters' licences.
_GNU = ("gpl-3.0", "agpl-3.0")
FITS_INTO: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("mit", "isc", "bsd-2-clause", "bsd-3-clause"), ("apache-2.0", "lgpl-3.0", *_GNU)),
    "apache-2.0": _GNU,
    "lgpl-3.0": _GNU,
    "gpl-3.0": ("agpl-3.0",),
    "cc-by-4.0": ("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-4.0": ("cc-by-nc-sa-4.0",),
}
# Works under these may carry any licence as a whole.
ASK_NOTHING = ("cc0-1.0", "unlicense")

_ATTRIBUTION = re.compile(r"cc-by(?P<nc>-nc)?(?:-(?P<more>sa|nd))?-(?P<version>[1-4]\.[0-9])")


def terms(licence: str) -> Terms | None:
    """What is known of a licence by its Hub id; None where nothing is.

    >>> terms("cc-by-nc-sa-4.0").forbids
    'commercial uses'
    """
    parts = _ATTRIBUTION.fullmatch(licence)
    if parts is None:
        return KNOWN.get(licence)
    asks = "the authors are credited, the licence is linked and changes are told"
    if parts["more"] == "sa":
        asks += ", and adapted material is under the same licence or a compatible one"
    forbidden = ["commercial uses"] if parts["nc"] else []
    forbidden += ["sharing adapted material"] if parts["more"] == "nd" else []
    title = "Creative Commons " + licence[3:].rpartition("-")[0].upper() + " " + parts["version"]
    return Terms(title, asks, " and ".join(forbidden) or None, is_shareable=parts["more"] != "nd")
