"""Repositories as a whole: made, deleted, moved, set; branches, tags and pull requests."""

from __future__ import annotations

import re

from tests.hub.state import MODEL, REVISION, State, Table, router
from tests.hub.storage import Repository, git_blob, merged
from tests.hub.wire import Answer, Exchange, Refusal, reply

ROUTES: Table = []
route = router(ROUTES)

ATTRIBUTES = b"".join(b"%s filter=lfs diff=lfs merge=lfs -text\n" % kind for kind in (b"*.safetensors", b"*.bin"))


def _named(state: State, exchange: Exchange) -> tuple[str, dict[str, object]]:
    asked = exchange.json()
    user = state.user(exchange)
    if asked.get("type", "model") not in ("model", None):
        raise Refusal(400, "the loopback Hub has models only")
    name = f"{asked.get('organization') or user.name}/{asked['name']}"
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name) or "--" in name or ".." in name:
        raise Refusal(400, f"Invalid repository name {name}")
    return name, asked


@route("POST", "/api/repos/create")
def create(state: State, exchange: Exchange) -> Answer:
    """An empty repository: one commit with .gitattributes, as on the Hub."""
    name, asked = _named(state, exchange)
    user = state.user(exchange)
    if user.role != "write" or not user.owns(name):
        raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{name.split("/")[0]}"')
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    with state.lock:
        if name in state.repositories:
            url = f"{state.endpoint}/{name}"
            return reply({"error": "You already created this model repo", "url": url}, 409)
        made = state.repositories[name] = Repository(name, private)
        sha256 = state.objects.keep(ATTRIBUTES)
        first = made.commit({".gitattributes": git_blob(sha256, ATTRIBUTES)}, None, "initial commit", "", user.name)
        made.branches["main"] = first.id
    return reply({"url": f"{state.endpoint}/{name}", "name": name, "id": name, "private": private})


@route("DELETE", "/api/repos/delete")
def delete(state: State, exchange: Exchange) -> Answer:
    """A repository and all of its history, gone."""
    name, _ = _named(state, exchange)
    with state.lock:
        state.write(exchange, name)
        del state.repositories[name]
    return Answer()


@route("POST", "/api/repos/move")
def move(state: State, exchange: Exchange) -> Answer:
    """A repository under another name."""
    asked = exchange.json()
    with state.lock:
        repository = state.write(exchange, asked["fromRepo"])
        if asked["toRepo"] in state.repositories:
            raise Refusal(409, "A repository of this name exists")
        state.repositories[asked["toRepo"]] = state.repositories.pop(repository.name)
        repository.name = asked["toRepo"]
    return Answer()


@route("PUT", f"{MODEL}/settings")
def change(state: State, exchange: Exchange, repo: str) -> Answer:
    """Who sees it and who gets in."""
    repository = state.write(exchange, repo)
    asked = exchange.json()
    if "visibility" in asked or "private" in asked:
        repository.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repository.gated = asked.get("gated", repository.gated)
    return reply({"private": repository.private, "gated": repository.gated})


@route("POST DELETE", f"{MODEL}/branch/(?P<branch>[^/]+)")
def branch(state: State, exchange: Exchange, repo: str, branch: str) -> Answer:
    """A new branch at a revision, or one branch less."""
    with state.lock:
        repository = state.write(exchange, repo)
        if exchange.method == "DELETE":
            _remove(repository.branches, branch)
        else:
            start = repository.at(exchange.json().get("startingPoint", "main"))
            _insert(repository.branches, branch, start.id)
    return reply({})


@route("POST DELETE", f"{MODEL}/tag/{REVISION}")
def tag(state: State, exchange: Exchange, repo: str, revision: str) -> Answer:
    """A new tag on a revision, or the tag of this name removed."""
    with state.lock:
        repository = state.write(exchange, repo)
        if exchange.method == "DELETE":
            _remove(repository.tags, revision)
        else:
            _insert(repository.tags, exchange.json()["tag"], repository.at(revision).id)
    return reply({})


def _insert(names: dict[str, str], name: str, commit: str) -> None:
    if name in names:
        raise Refusal(409, f"Reference already exists: {name}")
    names[name] = commit


def _remove(names: dict[str, str], name: str) -> None:
    if names.pop(name, None) is None:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")


@route("POST", f"{MODEL}/discussions")
def propose(state: State, exchange: Exchange, repo: str) -> Answer:
    """An empty pull request; commits go to refs/pr/N."""
    with state.lock:
        repository = state.write(exchange, repo, propose=True)
        number = repository.open_pull(repository.at("main"))
    return reply({"num": number, "url": f"{state.endpoint}/{repo}/discussions/{number}"})


@route("GET", rf"{MODEL}/discussions/(?P<number>\d+)")
def proposal(state: State, exchange: Exchange, repo: str, number: str) -> Answer:
    """A pull request and whether it was merged."""
    repository = state.see(exchange, repo)
    pull = repository.at(f"refs/pr/{number}")
    done = pull.id in {commit.id for commit in repository.history(repository.at("main"))}
    return reply(
        {
            "num": int(number),
            "title": pull.title,
            "author": {"name": pull.author},
            "createdAt": pull.date,
            "status": "merged" if done else "open",
            "isPullRequest": True,
            "repo": {"name": repo, "type": "model"},
            "changes": {"base": "refs/heads/main", "mergeCommitId": pull.id if done else None},
            "filesWithConflicts": [],
            "events": [],
        }
    )


@route("POST", rf"{MODEL}/discussions/(?P<number>\d+)/merge")
def merge(state: State, exchange: Exchange, repo: str, number: str) -> Answer:
    """A pull request brought into main; its files win where both sides changed one."""
    with state.lock:
        repository = state.write(exchange, repo)
        main, pull = repository.at("main"), repository.at(f"refs/pr/{number}")
        ahead = main.id in {commit.id for commit in repository.history(pull)}
        files = pull.files if ahead else merged(repository, main, pull)
        made = pull if ahead else repository.commit(files, main, f"Merge pull request {number}", "", main.author)
        repository.branches["main"] = made.id
    return reply({"commitOid": made.id})
