"""What `merging run --push` would find at its destination, for a merge that is not begun: nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

from merging.engine.folder import LEDGER, RECORD, lay_out_plan
from merging.engine.provenance import lineage
from merging.errors import raise_all
from merging.hub.client import Hub
from merging.planning.plan import Plan
from merging.publish.destination import Target, look
from merging.publish.obstacles import ambiguous, notices, occupied, stale_weights, text_there
from merging.publish.readme import MERGE, README, with_card


@dataclass(frozen=True)
class Foresight:
    """A merge to the Hub before it begins. Its weights are known by name and size, its other files by name.

    private     whether others will not see the repository; of an existing one, as it is
    weights     the files of weights with their sizes in bytes
    replaced    files of the repository that get this merge's content
    kept        files of the repository that are left as they are, but for other files of the model's folder
    card        where the card goes: README.md, or MERGE.md where README.md is somebody's own
    notices     what the one who publishes should know: licences, gated and private sources
    """

    target: Target
    account: str
    is_new: bool
    private: bool
    parent: str | None
    weights: tuple[tuple[str, int], ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]
    card: str
    notices: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """The weights together, in bytes."""
        return sum(size for _, size in self.weights)


def foresee(
    plan: Plan,
    repository: str,
    *,
    branch: str | None = None,
    pull_request: bool = False,
    private: bool = True,
    hub: Hub | None = None,
) -> Foresight:
    """Find out what sending this merge to `owner/name` would do, and whether it may. Changes nothing.

    Raises HubError, or Problems with all that is in the way.
    """
    hub = hub or Hub.from_environment()
    target = Target.of(repository, branch, pull_request=pull_request, private=private)
    layout = lay_out_plan(plan)
    there = look(hub, target)
    _, merge = with_card(text_there(hub, there, README), "# Card\n")
    fix = "merge into a folder, and publish that with the choice to delete them"
    in_the_way = ambiguous(target, stale_weights(there, layout.names), fix)
    raise_all([*in_the_way, *occupied(hub, there, [MERGE] if merge else [])])
    wanted = {*layout.names, "config.json", RECORD, LEDGER, README, *([MERGE] if merge else [])}
    return Foresight(
        target=target,
        account=there.account,
        is_new=there.pinned is None,
        private=there.pinned.private if there.pinned else target.private,
        parent=there.pinned.commit if there.pinned else None,
        weights=tuple((file.name, file.size) for file in layout.files),
        replaced=tuple(sorted(wanted.intersection(there.files))),
        kept=tuple(path for path in there.files if path not in wanted),
        card=MERGE if merge else README,
        notices=tuple(notices(lineage(plan), target, there)),
    )
