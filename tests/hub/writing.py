"""The writing side of the Hub: is the card sound, how is each file to be sent, and the commit."""

from __future__ import annotations

import base64
import fnmatch
import json
from typing import Any

import yaml

from tests.hub.card import front_matter
from tests.hub.state import MODEL, REVISION, State, Table, router
from tests.hub.storage import Blob, Commit, Repository, git_blob, is_large
from tests.hub.wire import Answer, Exchange, Refusal, reply

ROUTES: Table = []
route = router(ROUTES)

SETTINGS = {"base_model": (str, list), "tags": (list,), "license": (str, list), "library_name": (str,)}


@route("POST", "/api/validate-yaml")
def validate(state: State, exchange: Exchange) -> Answer:  # noqa: ARG001
    """Whether the settings at the head of a card can be read and are of their kinds: 400 names what is wrong."""
    try:
        card = front_matter(exchange.json()["content"])
    except yaml.YAMLError as error:
        return reply({"errors": [{"message": f"YAML: {error}"}], "warnings": []}, 400)
    wrong = [name for name, kinds in SETTINGS.items() if name in card and not isinstance(card[name], kinds)]
    errors = [{"message": f'"{name}" must be one of {[kind.__name__ for kind in SETTINGS[name]]}'} for name in wrong]
    empty = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return reply({"errors": errors, "warnings": empty}, 400 if errors else 200)


def _target(state: State, exchange: Exchange, repo: str, revision: str) -> tuple[Repository, Commit]:
    """The repository and the commit that a change starts from: of a branch, or of main where a pull request opens."""
    propose = bool(exchange.asked("create_pr"))
    repository = state.write(exchange, repo, propose=propose or revision.startswith("refs/pr/"))
    if revision in repository.branches or revision.startswith("refs/pr/"):
        return repository, repository.at(revision)
    raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


@route("POST", f"{MODEL}/preupload/{REVISION}")
def plan(state: State, exchange: Exchange, repo: str, revision: str) -> Answer:
    """For each file: in git or large, ignored or not, and what is there under its name."""
    _, commit = _target(state, exchange, repo, revision)
    asked = exchange.json()
    ignored = [line.strip() for line in asked.get("gitIgnore", "").splitlines() if line.strip() and line[0] != "#"]

    def planned(file: dict[str, Any]) -> dict[str, Any]:
        path = file["path"]
        large = is_large(path, file["size"], base64.b64decode(file["sample"]))
        there = commit.files.get(path)
        skip = any(fnmatch.fnmatch(path, line) or path.startswith(f"{line.rstrip('/')}/") for line in ignored)
        mode = "lfs" if large else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": skip, "oid": there.etag if there else None}

    return reply({"files": [planned(file) for file in asked["files"]], "commitOid": commit.id})


@route("POST", f"{MODEL}/commit/{REVISION}")
def commit(state: State, exchange: Exchange, repo: str, revision: str) -> Answer:
    """All changes in one commit, or none: 412 where the branch has moved on, 400 where a large file never came."""
    lines = [json.loads(line) for line in exchange.body().splitlines() if line.strip()]
    head = next((line["value"] for line in lines if line["key"] == "header"), {})
    if not head.get("summary"):
        raise Refusal(400, "A commit needs a header with a summary")
    with state.lock:
        repository, parent = _target(state, exchange, repo, revision)
        if head.get("parentCommit") not in (None, parent.id):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for line in lines:
            _apply(state, repository, files, line["key"], line["value"])
        author = state.user(exchange).name
        made = repository.commit(files, parent, head["summary"], head.get("description", ""), author)
        number = _advance(repository, revision, made, bool(exchange.asked("create_pr")))
    url = f"{state.endpoint}/{repo}"
    pull = f"{url}/discussions/{number}" if number else None
    answer = {"commitUrl": f"{url}/commit/{made.id}", "commitOid": made.id, "pullRequestUrl": pull}
    return reply({"success": True, "hookOutput": "", **answer})


def _advance(repository: Repository, revision: str, made: Commit, propose: bool) -> int | None:
    if propose:
        return repository.open_pull(made)
    if revision.startswith("refs/pr/"):
        repository.pulls[int(revision.rpartition("/")[2])] = made.id
    else:
        repository.branches[revision] = made.id
    return None


def _apply(state: State, repository: Repository, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
    path = value.get("path", "")
    if key == "file":
        content = base64.b64decode(value["content"]) if value.get("encoding") == "base64" else value["content"].encode()
        files[path] = git_blob(state.objects.keep(content), content)
    elif key == "lfsFile":
        files[path] = state.large(repository, value["oid"], value.get("size"))
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    elif key == "deletedFolder":
        inside = [name for name in files if name.startswith(f"{path.rstrip('/')}/")]
        if not inside:
            raise Refusal(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
        for name in inside:
            del files[name]
    elif key != "header":
        raise Refusal(400, f"Unknown key of a commit: {key}")
