"""The reading side of the Hub: who am I, what is there, in which state, and its bytes."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote

from tests.hub.access import user_of
from tests.hub.card import described
from tests.hub.state import MODEL, REPOSITORY, REVISION, State, Table, page, router
from tests.hub.storage import Blob, Commit
from tests.hub.wire import Answer, Exchange, Refusal, reply, serve

ROUTES: Table = []
route = router(ROUTES)


@route("GET", "/api/whoami-v2")
def whoami(state: State, exchange: Exchange) -> Answer:
    """The owner of the token."""
    user = state.user(exchange)
    token = {"displayName": "test", "role": user.role, "createdAt": "2025-01-01T00:00:00.000Z"}
    names = sorted({name.split("/")[0] for name in state.repositories} - {user.name}) if user.owns_all else []
    orgs = [{"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "admin"} for name in names]
    return reply(
        {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name,
            "email": f"{user.name}@example.org",
            "emailVerified": True,
            "canPay": False,
            "isPro": False,
            "avatarUrl": "",
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


@route("GET", "/api/models")
def search(state: State, exchange: Exchange) -> Answer:
    """Models whose name holds `search`, of one `author`, with all `filter` tags."""
    user = user_of(exchange, state.tokens)
    found = []
    for name, repository in sorted(state.repositories.items()):
        author = name.split("/")[0]
        if (repository.private and not user.owns(name)) or exchange.asked("author", author) != author:
            continue
        known = described(state, repository, repository.find("main"))
        wanted = set(exchange.query.get("filter", []))
        if exchange.asked("search").lower() in name.lower() and wanted <= set(known["tags"]):
            found.append({key: value for key, value in known.items() if key != "siblings"})
    return page(state, exchange, found)


@route("GET", MODEL)
@route("GET", f"{MODEL}/revision/{REVISION}")
def model(state: State, exchange: Exchange, repo: str, revision: str = "main") -> Answer:
    """What is known of a model at a revision; `expand` chooses fields, `blobs` adds sizes and hashes of files."""
    repository = state.see(exchange, repo)
    known = described(state, repository, repository.at(revision), blobs=bool(exchange.asked("blobs")))
    if exchange.asked("securityStatus"):
        known["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    if expand := [name for key in ("expand", "expand[]") for name in exchange.query.get(key, [])]:
        known = {name: known[name] for name in ("_id", "id", *expand) if name in known}
    return reply(known)


@route("GET", f"{MODEL}/auth-check(?P<kind>/write)?")
def allowed(state: State, exchange: Exchange, repo: str, kind: str = "") -> Answer:
    """Whether the files may be read (or changed)."""
    if kind:
        state.write(exchange, repo)
    else:
        state.read(exchange, repo)
    return reply({})


@route("GET", f"{MODEL}/tree/{REVISION}(?:/(?P<path>.*))?")
def listing(state: State, exchange: Exchange, repo: str, revision: str, path: str = "") -> Answer:
    """Files and folders under a path."""
    repository = state.see(exchange, repo)
    commit = repository.at(revision)
    entries = {entry["path"]: entry for entry in _entries(commit, exchange.asked("expand").lower() == "true")}
    prefix = f"{path}/" if path else ""
    inside = [name for name in entries if name.startswith(prefix)]
    if path and not inside:
        raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound", X_Repo_Commit=commit.id)
    if exchange.asked("recursive").lower() not in ("true", "1"):
        inside = [name for name in inside if "/" not in name.removeprefix(prefix)]
    return page(state, exchange, [entries[name] for name in sorted(inside)])


@route("POST", f"{MODEL}/paths-info/{REVISION}")
def paths(state: State, exchange: Exchange, repo: str, revision: str) -> Answer:
    """The same entries for the paths that are named, leaving out those that do not exist."""
    commit = state.see(exchange, repo).at(revision)
    if "json" in exchange.headers.get("Content-Type", ""):
        asked = exchange.json()
        names, expand = asked["paths"], bool(asked.get("expand"))
    else:
        fields = parse_qs(exchange.body().decode())
        names, expand = fields.get("paths", []), fields.get("expand", [""])[-1].lower() == "true"
    entries = {entry["path"]: entry for entry in _entries(commit, expand)}
    return reply([entries[name] for name in names if name in entries])


def _entries(commit: Commit, expand: bool) -> list[dict[str, object]]:
    folders = {str(parent) for path in commit.files for parent in PurePosixPath(path).parents} - {"."}
    found = [
        {"type": "directory", "oid": hashlib.sha1(f"{commit.id} {path}".encode()).hexdigest(), "size": 0, "path": path}
        for path in folders
    ]
    found += [_entry(path, blob) for path, blob in commit.files.items()]
    if expand:
        last = {"id": commit.id, "title": commit.title, "date": commit.date}
        found = [{**entry, "lastCommit": last} for entry in found]
    return found


def _entry(path: str, blob: Blob) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return entry | ({"xetHash": blob.xet} if blob.xet else {})


@route("GET", f"{MODEL}/refs")
def refs(state: State, exchange: Exchange, repo: str) -> Answer:
    """Branches, tags and, if asked, pull requests."""
    repository = state.see(exchange, repo)

    def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": id} for n, id in names.items()]

    found = {"branches": listed("heads", repository.branches), "converts": [], "tags": listed("tags", repository.tags)}
    if exchange.asked("include_prs"):
        found["pullRequests"] = listed("pr", {str(n): id for n, id in repository.pulls.items()})
    return reply(found)


@route("GET", f"{MODEL}/commits/{REVISION}")
def commits(state: State, exchange: Exchange, repo: str, revision: str) -> Answer:
    """The history of a revision, the newest first."""
    repository = state.see(exchange, repo)
    found: list[dict[str, object]] = [
        {
            "id": commit.id,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [{"user": commit.author, "avatar": ""}],
        }
        for commit in repository.history(repository.at(revision))
    ]
    return page(state, exchange, found)


@route("GET HEAD", f"/{REPOSITORY}/resolve/{REVISION}/(?P<path>.+)")
def resolve(state: State, exchange: Exchange, repo: str, revision: str, path: str) -> Answer:
    """A file: its bytes where it is small, the way to another origin where it is large."""
    repository = state.read(exchange, repo)
    commit = repository.at(revision)
    if (blob := commit.files.get(path)) is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.id)
    name = PurePosixPath(path).name
    headers = {
        "X-Repo-Commit": commit.id,
        "Accept-Ranges": "bytes",
        "ETag": f'"{blob.etag}"',
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{name}\";",
        "Access-Control-Expose-Headers": "X-Repo-Commit,X-Linked-Size,X-Linked-ETag,X-Xet-Hash,ETag,Link,Accept-Ranges",
    }
    if not blob.lfs:
        return serve(state.objects.open(blob.sha256), exchange.headers.get("Range"), headers)
    headers |= {"X-Linked-Size": str(blob.size), "X-Linked-Etag": f'"{blob.etag}"', "Vary": "Origin, Accept"}
    if blob.xet:
        token = f"{state.endpoint}/api/models/{repo}/xet-read-token/{commit.id}"
        headers |= {"X-Xet-Hash": blob.xet, "Link": f'<{token}>; rel="xet-auth"'}
    place = state.sign(f"/files/{repo}/{blob.sha256}/{quote(path)}")
    return Answer(302, {**headers, "Location": place, "Content-Type": "text/plain"}, f"Found: {place}".encode())
