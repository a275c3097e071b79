"""Who asks, and what the Hub lets them see and do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.hub.storage import Repository
from tests.hub.wire import Exchange, Refusal


@dataclass(frozen=True)
class User:
    """The owner of a token; "" is nobody."""

    name: str = ""
    role: str = "read"
    owns_all: bool = False

    def owns(self, repository_name: str) -> bool:
        """Whether a repository of this name is (or would be) theirs."""
        return self.owns_all or repository_name.split("/")[0] == self.name != ""


NOBODY = User()


def user_of(exchange: Exchange, tokens: dict[str, User]) -> User:
    """The user of the token that came along; an unknown token is refused, none at all is nobody."""
    if not (header := exchange.headers.get("Authorization")):
        return NOBODY
    user = tokens.get(re.sub("^Bearer ", "", header))
    if user is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return user


def visible(repository: Repository | None, user: User) -> Repository:
    """The repository, unless it is missing or hidden; both look alike from outside."""
    if repository is None or (repository.private and not user.owns(repository.name)):
        if user is NOBODY:
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return repository


def readable(repository: Repository | None, user: User) -> Repository:
    """The repository, unless its files are behind a gate that this user has not passed."""
    found = visible(repository, user)
    if found.gated and user.name not in found.granted:
        said = f"Access to model {found.name} is restricted"
        if user is NOBODY:
            raise Refusal(401, f"{said}. You must have access to it and be authenticated.", "GatedRepo")
        raise Refusal(403, f"{said} and you are not in the authorized list.", "GatedRepo")
    return found


def writable(repository: Repository | None, user: User, *, propose: bool = False) -> Repository:
    """The repository, unless this token may not write to it; whoever sees it may `propose` a change."""
    found = visible(repository, user)
    if user is NOBODY:
        raise Refusal(401, "Invalid username or password.")
    if user.role != "write" or not (propose or user.owns(found.name)):
        raise Refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
    return found
