"""Large files: by signed addresses on the other origin down, and in one piece or in parts up."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from tests.hub.state import REPOSITORY, State, Table, router
from tests.hub.wire import Answer, Exchange, Refusal, Stored, reply, serve

HUB_ROUTES: Table = []
CDN_ROUTES: Table = []
hub_route = router(HUB_ROUTES)
cdn_route = router(CDN_ROUTES)

SHA256 = "(?P<sha256>[0-9a-f]{64})"


def admit(state: State, exchange: Exchange) -> None:
    """Lets a signed address in; a token on top of it is refused, as storage does, for it should never come here."""
    if "Authorization" in exchange.headers:
        raise Refusal(400, "Only one auth mechanism allowed")
    if not state.signed(exchange):
        raise Refusal(403, "AccessDenied: the address has expired or was never signed")


@cdn_route("GET HEAD", f"/files/[^/]+/[^/]+/{SHA256}/.+")
def file(state: State, exchange: Exchange, sha256: str) -> Answer:
    """The bytes of a large file, or a range of them."""
    admit(state, exchange)
    return serve(state.objects.open(sha256), exchange.headers.get("Range"), {"ETag": f'"{sha256}"'})


@hub_route("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/batch")
def batch(state: State, exchange: Exchange, repo: str) -> Answer:
    """Where to send each file; nowhere if it is here already."""
    asked = exchange.json()
    if asked["operation"] != "upload":
        raise Refusal(400, "the loopback Hub gives out files by resolve only")
    repository = state.write(exchange, repo, propose=True)
    return reply(
        {
            "transfer": "multipart" if "multipart" in asked.get("transfers", []) else "basic",
            "objects": [
                {"oid": one["oid"], "size": one["size"]}
                | ({} if one["oid"] in repository.uploaded else {"actions": _actions(state, repo, one)})
                for one in asked["objects"]
            ],
        }
    )


def _actions(state: State, repo: str, wanted: dict[str, Any]) -> dict[str, Any]:
    sha256, size = wanted["oid"], wanted["size"]
    verify = {"href": f"{state.endpoint}/{repo}.git/info/lfs/objects/verify"}
    if size <= state.part_bytes:
        return {"upload": {"href": state.sign(f"/upload/{repo}/{sha256}")}, "verify": verify}
    parts = math.ceil(size / state.part_bytes)
    header = {f"{n:05d}": state.sign(f"/upload/{repo}/{sha256}/{n}") for n in range(1, parts + 1)}
    complete = state.sign(f"/complete/{repo}/{sha256}").replace(state.cdn, state.endpoint)
    return {"upload": {"href": complete, "header": {"chunk_size": str(state.part_bytes), **header}}, "verify": verify}


@cdn_route("PUT", f"/upload/{REPOSITORY}/{SHA256}")
def upload(state: State, exchange: Exchange, repo: str, sha256: str) -> Answer:
    """A large file in one piece, taken if it is what its name says."""
    admit(state, exchange)
    _take(state, repo, sha256, *state.objects.receive(exchange.chunks))
    return Answer(headers={"ETag": f'"{sha256[:32]}"'})


@cdn_route("PUT", rf"/upload/{REPOSITORY}/{SHA256}/(?P<number>\d+)")
def upload_part(state: State, exchange: Exchange, repo: str, sha256: str, number: str) -> Answer:
    """One part; it counts once the whole is completed with the etag that is given here."""
    admit(state, exchange)
    received, _, place = state.objects.receive(exchange.chunks)
    etag = f'"{received[:32]}"'
    with state.lock:
        state.parts.setdefault(f"{repo} {sha256}", {})[int(number)] = (etag, place)
    return Answer(headers={"ETag": etag})


@hub_route("POST", f"/complete/{REPOSITORY}/{SHA256}")
def complete(state: State, exchange: Exchange, repo: str, sha256: str) -> Answer:
    """Parts put together in the order of their numbers; each must be named by its etag."""
    if not state.signed(exchange):
        raise Refusal(403, "AccessDenied: the address has expired or was never signed")
    named = {part["partNumber"]: part["etag"] for part in exchange.json()["parts"]}
    with state.lock:
        there = state.parts.get(f"{repo} {sha256}", {})
        if named != {number: etag for number, (etag, _) in there.items()}:
            raise Refusal(400, "InvalidPart: a part is missing or has another etag")
        blocks = (block for number in sorted(there) for block in _blocks(there[number][1]))
        _take(state, repo, sha256, *state.objects.receive(blocks))
        for _, place in state.parts.pop(f"{repo} {sha256}").values():
            place.unlink()
    return reply({"success": True})


def _blocks(place: Path) -> Any:
    size = place.stat().st_size
    return Stored(size, place).blocks(0, size)


def _take(state: State, repo: str, sha256: str, received: str, size: int, place: Path) -> None:
    if received != sha256:
        place.unlink()
        raise Refusal(400, f"BadDigest: {sha256} was announced, {received} came")
    with state.lock:
        state.objects.known.setdefault(sha256, Stored(size, place))
        state.repositories[repo].uploaded.add(sha256)


@hub_route("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/verify")
def verify(state: State, exchange: Exchange, repo: str) -> Answer:
    """Whether a large file has come as it was announced."""
    repository = state.write(exchange, repo, propose=True)
    asked = exchange.json()
    if asked["oid"] not in repository.uploaded:
        raise Refusal(404, f"{asked['oid']} has not been uploaded")
    if state.objects.open(asked["oid"]).size != asked["size"]:
        raise Refusal(422, f"{asked['oid']} has another size")
    return reply({"success": True})


@hub_route("GET", f"/api/models/{REPOSITORY}/lfs-files")
def large_files(state: State, exchange: Exchange, repo: str) -> Answer:
    """All large files of a repository, of all its commits."""
    repository = state.write(exchange, repo)
    blobs = {b.sha256: (p, b, c) for c in repository.commits.values() for p, b in c.files.items() if b.lfs}
    return reply(
        [
            {
                "fileOid": hashlib.sha1(sha256.encode()).hexdigest(),
                "filename": path,
                "oid": sha256,
                "pushedAt": made.date,
                "ref": "main",
                "size": blob.size,
            }
            for sha256, (path, blob, made) in blobs.items()
        ]
    )
