"""Where a publication would go: the repository, its branches, and whether this account may write there.

Nothing here changes anything on the Hub but `make`, which creates what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from merging.errors import HubError
from merging.hub.answers import patiently, status_of, told
from merging.hub.client import Hub, Pinned, RemoteFile
from merging.hub.names import HubName, parse_hub_name
from merging.hub.redact import redacted

T = TypeVar("T")
MAIN = "main"
PULLS = "refs/pr/"
STALE = 412
_DIGITS = re.compile(r"[0-9a-fA-F]{7,40}")


@dataclass(frozen=True)
class Target:
    """A repository to write to, and how: `branch` None is main, `private` is for a repository that is not there yet.

    parent    the commit, whole or its first digits, that the branch must be at
    """

    repository: str
    branch: str | None = None
    pull_request: bool = False
    private: bool = True
    parent: str | None = None

    @classmethod
    def of(cls, repository: str, branch: str | None = None, **settings: Any) -> Target:
        """The target, where `owner/name@branch` says the same as a branch of its own."""
        named = parse_hub_name(repository)
        if named and named.revision and branch in (None, named.revision):
            return cls(named.repository, named.revision, **settings)
        return cls(repository, branch, **settings)

    def __str__(self) -> str:
        if self.pull_request:
            return f"a pull request of {self.repository}"
        return str(HubName(self.repository, self.branch))


@dataclass(frozen=True)
class Destination:
    """What is there now: `pinned` is the state that a commit would follow, None where there is no repository.

    `heads` are the commits of all branches by name and of all pull requests as refs/pr/N.
    """

    account: str
    pinned: Pinned | None
    heads: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Mapping[str, RemoteFile]:
        """The files that are there already."""
        return self.pinned.files if self.pinned else {}


def look(hub: Hub, target: Target) -> Destination:
    """What the Hub has where `target` points; refuses whom it would not let write. Changes nothing. Raises HubError."""
    _refuse_nonsense(hub, target)
    api = hub.api()
    account = patiently(hub.waits, lambda: _account(hub, api), f"the account of this token at {hub.endpoint}", refused)
    name = target.repository
    if not patiently(hub.waits, lambda: bool(api.repo_exists(name)), name, refused):
        if target.parent:
            raise HubError(f"there is no {name} whose commit {target.parent} could be followed", fix="leave it out")
        return Destination(account, None)
    patiently(hub.waits, lambda: _allowed(api, target), f"write to {name} as {account}", refused)
    heads = patiently(hub.waits, lambda: heads_of(api, name), f"the branches of {name}", refused)
    start = heads.get(target.branch or MAIN) or heads.get(MAIN)
    pinned = hub.pin(HubName(name, start))
    if target.parent and not pinned.commit.startswith(target.parent.lower()):
        raise moved(target, pinned.commit)
    return Destination(account, pinned, heads)


def make(hub: Hub, target: Target, found: Destination) -> Destination:
    """Create the repository and the branch where they are missing. Raises HubError."""
    api, name, pinned, heads = hub.api(), target.repository, found.pinned, dict(found.heads)
    if pinned is None:
        what = f"make the repository {name} as {found.account}"
        _once(hub, lambda **also: api.create_repo(name, private=target.private, **also), what)
        pinned = hub.pin(HubName(name))
        heads = {MAIN: pinned.commit}
        if target.private and not pinned.private:
            raise HubError(
                f"{name} should be private, but the Hub made it public; nothing has been sent",
                fix="make it private in its settings, or pass --public",
            )
    start = pinned.commit
    if target.branch and target.branch not in heads:
        if target.branch.startswith(PULLS):
            raise HubError(f"{name} has no pull request {target.branch}", must_be="one of its own")
        branch = target.branch
        what = f"make the branch {branch} of {name}"
        _once(hub, lambda **also: api.create_branch(name, branch=branch, revision=start, **also), what)
        heads[branch] = start
    return Destination(found.account, pinned, heads)


def _once(hub: Hub, create: Callable[..., object], what: str) -> None:
    """Create something that may be there already only where a try before this one, whose answer was lost, made it."""
    tries: list[object] = []

    def attempt() -> None:
        tries.append(what)
        create(exist_ok=len(tries) > 1)

    patiently(hub.waits, attempt, what, refused)


def heads_of(api: Any, name: str) -> dict[str, str]:
    """The commits that branches and pull requests are at."""
    refs = api.list_repo_refs(name, include_pull_requests=True)
    pulls = {f"{PULLS}{each.name.rpartition('/')[2]}": each.target_commit for each in refs.pull_requests or ()}
    return {**{each.name: each.target_commit for each in refs.branches}, **pulls}


def moved(target: Target, head: str) -> HubError:
    """The error for a branch that is not where it should be; nothing has been changed."""
    return HubError(
        f"{target} has moved on: somebody else has changed it",
        where=f"it is at commit {head}" + (f", not at {target.parent}" if target.parent else ""),
        must_be="the commit that this push started from",
        fix=f"look at what changed, then run the same command again (with --parent {head[:12]}, if you name one); "
        "what has been sent is not sent again",
    )


def refused(error: Exception, what: str) -> HubError:
    """An error while writing, in our words and without secrets."""
    status = status_of(error)
    if isinstance(error, HubError):
        return error
    if status == 403:
        return HubError(
            f"this token may not: {what}",
            must_be="a token with the right to write to this repository",
            fix="give another token (`hf auth login`, or HF_TOKEN); whoever may only read can propose with --pr",
        )
    if status == 409:
        return HubError(
            f"the Hub has it already: {what}",
            where=redacted(str(error))[:300],
            fix="somebody made it at the same moment; run the same command again",
        )
    if status in (400, 413, 422) or isinstance(error, ValueError):
        return HubError(f"the Hub does not take it: {what}", where=redacted(str(error))[:500])
    return told(error, what)


def _refuse_nonsense(hub: Hub, target: Target) -> None:
    named = parse_hub_name(target.repository)
    whole = parse_hub_name(f"{target.repository}@{target.branch}") if target.branch else named
    if named is None or named.revision or named.repository != target.repository:
        raise HubError(f"{target.repository!r} names no repository on the Hub", must_be="owner/name")
    if whole is None:
        raise HubError(f"{target.branch!r} cannot be the name of a branch", must_be="a name that git allows")
    if target.branch and target.pull_request:
        raise HubError("a pull request goes to main, not to a branch", fix="choose one of --branch and --pr")
    if target.parent and not _DIGITS.fullmatch(target.parent):
        raise HubError(f"{target.parent!r} is no commit", must_be="40 hexadecimal digits, or at least the first 7")
    if hub.offline:
        raise HubError("nothing can be published in offline mode", fix="unset HF_HUB_OFFLINE")
    if not hub.token:
        raise HubError(
            f"there is no token for {hub.endpoint}",
            must_be="one with the right to write",
            fix="log in (`hf auth login`), or set HF_TOKEN",
        )


def _allowed(api: Any, target: Target) -> None:
    """Raise unless this token may write to an existing repository, or read it where it only proposes."""
    try:
        api.auth_check(target.repository, write=not target.pull_request)
    except Exception as error:
        # The repository is there: it is the question that this server does not know, and its answers will have to do.
        if status_of(error) != 404:
            raise


def _account(hub: Hub, api: Any) -> str:
    """Whose token this is; one that may only read is refused."""
    found = api.whoami()
    token = (found.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(
            f"the token of {found.get('name')} may only read",
            must_be="a token with the right to write",
            fix=f"make one at {hub.endpoint}/settings/tokens, and log in with it (`hf auth login`, or HF_TOKEN)",
        )
    return str(found.get("name"))
