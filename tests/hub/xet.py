"""The routes of Xet: tokens on the Hub, xorbs, shards and reconstructions on the other origin."""

from __future__ import annotations

import re
import time

from tests.hub.cas import Cas
from tests.hub.delivery import admit
from tests.hub.state import MODEL, REVISION, State, Table, router
from tests.hub.wire import Answer, Exchange, Refusal, Stored, reply, serve

HUB_ROUTES: Table = []
CDN_ROUTES: Table = []
hub_route = router(HUB_ROUTES)
cdn_route = router(CDN_ROUTES)

CAS = "/cas/[0-9a-f]+/v1"
HASH = "(?P<name>[0-9a-f]{64})"


@hub_route("GET", f"{MODEL}/xet-(?P<scope>read|write)-token/{REVISION}")
def token(state: State, exchange: Exchange, repo: str, scope: str, revision: str) -> Answer:
    """Where the storage is and a token for it; 404 on a Hub without Xet."""
    propose = bool(exchange.asked("create_pr")) or revision.startswith("refs/pr/")
    repository = state.read(exchange, repo) if scope == "read" else state.write(exchange, repo, propose=propose)
    if revision != "None" or scope == "read":
        repository.at(revision)
    cas = _storage(state)
    until = int(time.time()) + state.signed_seconds
    given = state.xet_token(scope, until)
    headers = {"X-Xet-Cas-Url": cas.address, "X-Xet-Access-Token": given, "X-Xet-Token-Expiration": str(until)}
    return reply({"casUrl": cas.address, "accessToken": given, "exp": until}, headers=headers)


def _storage(state: State) -> Cas:
    if state.xet is None:
        raise Refusal(404, "Xet is not enabled here")
    return state.xet


def _enter(state: State, exchange: Exchange, scope: str) -> Cas:
    """The storage, for who has a token of this scope; a token of the Hub is none."""
    given = exchange.headers.get("Authorization", "").removeprefix("Bearer ")
    kind, _, until = given.split(".")[0].partition("-")
    known = until.isdigit() and given == state.xet_token(kind, int(until)) and int(until) >= time.time()
    if not known:
        raise Refusal(401, "not a token of this storage, or an old one")
    if scope == "write" and kind != "write":
        raise Refusal(403, "this token may only read")
    return _storage(state)


@cdn_route("POST", f"{CAS}/xorbs/default/{HASH}")
def take_xorb(state: State, exchange: Exchange, name: str) -> Answer:
    """A xorb, kept under its name."""
    return reply({"was_inserted": _enter(state, exchange, "write").take_xorb(name, exchange.body())})


@cdn_route("POST", f"{CAS}/shards")
def take_shard(state: State, exchange: Exchange) -> Answer:
    """A shard: which file is made of what."""
    _enter(state, exchange, "write").take_shard(exchange.body())
    return reply({"result": 1})


@cdn_route("GET", f"{CAS}/reconstructions/{HASH}")
def reconstruction(state: State, exchange: Exchange, name: str) -> Answer:
    """From which bytes of which xorbs a file, or a range of it, is made."""
    cas = _enter(state, exchange, "read")
    if (file := cas.files.get(name)) is None:
        raise Refusal(404, f"no file {name}")
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.headers.get("Range", "bytes=0-"))
    start = int(match[1]) if match else 0
    stop = min(int(match[2]) + 1, file.size) if match and match[2] else file.size
    if start >= stop:
        raise Refusal(416, f"bytes {start} to {stop} of {file.size}", Content_Range=f"bytes */{file.size}")
    skipped, pieces = cas.pieces(file, start, stop)
    terms, wanted = [], dict[str, list[tuple[int, int]]]()
    for run, length in pieces:
        terms.append({"hash": run.xorb, "unpacked_length": length, "range": {"start": run.first, "end": run.stop}})
        wanted.setdefault(run.xorb, []).append((run.first, run.stop))
    fetches = {
        xorb: [
            {
                "range": {"start": first, "end": stop},
                "url": state.sign(f"/xorbs/{xorb}"),
                "url_range": {
                    "start": cas.xorbs[xorb].offsets[first],
                    "end": cas.xorbs[xorb].offsets[stop] - 1,
                },
            }
            for first, stop in _joined(ranges)
        ]
        for xorb, ranges in wanted.items()
    }
    return reply({"offset_into_first_range": skipped, "terms": terms, "fetch_info": fetches})


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same chunks as ranges that do not overlap: the client looks for the one that holds a term."""
    joined: list[tuple[int, int]] = []
    for first, stop in sorted(ranges):
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((first, stop))
    return joined


@cdn_route("GET", f"/xorbs/{HASH}")
def xorb(state: State, exchange: Exchange, name: str) -> Answer:
    """Bytes of a xorb."""
    admit(state, exchange)
    place = _storage(state).xorbs[name].place
    return serve(Stored(place.stat().st_size, place), exchange.headers.get("Range"), {"ETag": f'"{name}"'})
