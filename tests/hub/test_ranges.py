"""A remote file by ranges: what arrives is what was asked for, whatever the network and the storage do."""

from __future__ import annotations

from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.errors import HubError
from merging.hub import ranges
from merging.hub.client import Hub
from merging.hub.names import HubName
from merging.hub.pages import Pages
from merging.hub.ranges import RangeBytes
from tests.hub.server import Fault, HubServer
from tests.remote import cache, client, server

__all__ = ["cache", "server"]

PAGE = 1000
CONTENT = bytes(i * 7 % 251 for i in range(10_500))
FILE = "model.safetensors"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PAGE_BYTES", PAGE)


@pytest.fixture
def opened(server: HubServer) -> RangeBytes:
    server.add("tester/model", {FILE: CONTENT})
    return remote(client(server))


def remote(hub: Hub, pages: Pages | None = None) -> RangeBytes:
    pinned = hub.pin(HubName("tester/model"))
    return RangeBytes(hub, pinned, pinned.files[FILE], pages or Pages(budget=5 * PAGE, connections=2))


def read(source: RangeBytes, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    source.read_into(start, memoryview(buffer))
    return bytes(buffer)


def data_requests(server: HubServer) -> list[int]:
    return [r.served for r in server.requests if r.origin == "cdn" and r.method == "GET"]


def test_any_range_in_any_order_is_what_the_file_holds(opened: RangeBytes) -> None:
    @settings(max_examples=30)
    @given(ends=st.tuples(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT))), ahead=st.booleans())
    def holds(ends: tuple[int, int], ahead: bool) -> None:
        start, stop = sorted(ends)
        if ahead:
            opened.advise(start, stop - start)
        assert read(opened, start, stop) == CONTENT[start:stop]

    holds()


def test_neighbours_share_one_request(server: HubServer, opened: RangeBytes) -> None:
    for start in range(0, PAGE, 100):
        assert read(opened, start, start + 100) == CONTENT[start : start + 100]
    assert data_requests(server) == [PAGE]


def test_what_is_announced_is_fetched_within_the_budget(server: HubServer, opened: RangeBytes) -> None:
    opened.advise(0, len(CONTENT))
    assert read(opened, 0, 10) == CONTENT[:10]
    assert len(data_requests(server)) <= 5
    assert read(opened, 0, len(CONTENT)) == CONTENT


def test_the_token_stays_with_the_hub(server: HubServer, opened: RangeBytes) -> None:
    assert read(opened, 0, 10) == CONTENT[:10]
    carried = {
        request.origin: request.token
        for request in server.requests
        if request.path.endswith(FILE) or "?" in request.path
    }
    assert carried["hub"] == server.token
    assert all(request.token is None for request in server.requests if request.origin == "cdn")


PASSING = [
    Fault("GET", "/files/", status=500, times=2),
    Fault("GET", "/files/", status=429, retry_after=0),
    Fault("GET", "/files/", status=403),
    Fault("GET", "/files/", drop="before", times=2),
    Fault("GET", "/files/", drop="after"),
    Fault("GET", "/files/", truncate=300, times=2),
    Fault("GET", "/files/", truncate=0),
    Fault("HEAD", "/resolve/", status=503),
    Fault("HEAD", "/resolve/", drop="before"),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.method} {fault.status or fault.drop or 'cut'}")
def test_what_passes_by_is_not_seen(server: HubServer, opened: RangeBytes, fault: Fault) -> None:
    server.fail(fault)
    assert read(opened, 0, len(CONTENT)) == CONTENT
    assert server.unmet() == []


def test_a_cut_answer_is_gone_on_with_where_it_ended(server: HubServer, opened: RangeBytes) -> None:
    server.fail(Fault("GET", "/files/", truncate=300))
    assert read(opened, 0, PAGE) == CONTENT[:PAGE]
    assert data_requests(server) == [300, 700]


def test_an_address_that_expires_is_asked_for_anew(server: HubServer, opened: RangeBytes) -> None:
    assert read(opened, 0, 10) == CONTENT[:10]
    server.expire()
    assert read(opened, 3 * PAGE, 4 * PAGE) == CONTENT[3 * PAGE : 4 * PAGE]


REFUSED = [
    (Fault("GET", "/files/", ignore_range=True, times=99), "the server sent the whole file when a part was asked for"),
    (
        Fault("GET", "/files/", headers={"Content-Range": "bytes 5-1004/10500"}, times=99),
        "the server sent bytes 5-1004",
    ),
    (Fault("GET", "/files/", status=500, times=99), "the storage answered 500"),
    (Fault("GET", "/files/", truncate=0, times=99), "ended too early|peer closed|RemoteProtocolError"),
    (Fault("HEAD", "/resolve/", etag="f" * 64, times=99), "is not what it was when its repository was listed"),
]


@pytest.mark.parametrize(("fault", "words"), REFUSED, ids=lambda each: str(each)[:30])
def test_what_does_not_pass_is_refused(server: HubServer, opened: RangeBytes, fault: Fault, words: str) -> None:
    server.fail(fault)
    with pytest.raises(HubError, match=words) as caught:
        read(opened, 0, 2 * PAGE)
    assert server.token not in str(caught.value)
    assert "?" not in str(caught.value)
    server.mend()
    assert read(opened, 0, 2 * PAGE) == CONTENT[: 2 * PAGE]


def test_a_file_that_changes_while_it_is_read_is_refused(server: HubServer, opened: RangeBytes) -> None:
    assert read(opened, 0, 10) == CONTENT[:10]
    server.fail(Fault("GET", "/files/", etag="0" * 64))
    assert read(opened, 3 * PAGE, 4 * PAGE) == CONTENT[3 * PAGE : 4 * PAGE]
    assert server.unmet() == []
    assert [r.method for r in server.requests if "/resolve/" in r.path].count("HEAD") == 2


def test_bytes_of_two_files_are_never_put_together(server: HubServer, opened: RangeBytes) -> None:
    server.fail(Fault("GET", "/files/", truncate=400))
    server.fail(Fault("GET", "/files/", etag="0" * 64, times=99))
    with pytest.raises(HubError, match="changed while it was read"):
        read(opened, 0, PAGE)


def test_who_waits_for_the_hub_is_let_go(server: HubServer, opened: RangeBytes) -> None:
    hold, stop = Event(), Event()
    server.fail(Fault("GET", "/files/", hold=hold))
    opened.stop = stop
    stop.set()
    try:
        with pytest.raises(HubError, match="stopped while waiting"):
            read(opened, 0, 10)
    finally:
        hold.set()
