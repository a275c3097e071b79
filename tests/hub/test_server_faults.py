"""Every fault does what it says, and the real clients see what they would see on a bad day."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub.clients import in_this_process
from tests.hub.server import Fault, HubServer
from tests.hub.test_server import WEIGHTS, api, status_of

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

SMALL = "/org/m/resolve/main/a.txt"
LOST = r"refused|disconnected|reset"
LARGE = "/org/m/resolve/main/w.bin"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path) as server, in_this_process(server, tmp_path / "cache"):
        server.add("org/m", {"a.txt": b"0123456789", "w.bin": WEIGHTS})
        yield server


@pytest.fixture
def xet(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path, xet=True) as server, in_this_process(server, tmp_path / "cache"):
        server.add("org/m", {"w.bin": WEIGHTS})
        yield server


def ask(hub: HubServer, address: str, span: str = "", method: str = "GET", token: str = ""):
    """Status, headers and body, without any of a client's patience."""
    parts = urlsplit(address if "://" in address else hub.endpoint + address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    headers = {"Range": f"bytes={span}"} if span else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("span", "status", "body", "place"),
    [
        ("2-4", 206, b"234", "bytes 2-4/10"),
        ("7-", 206, b"789", "bytes 7-9/10"),
        ("-2", 206, b"89", "bytes 8-9/10"),
        ("8-99", 206, b"89", "bytes 8-9/10"),
        ("10-12", 416, b"", "bytes */10"),
        ("0-1,4-5", 200, b"0123456789", None),
    ],
)
def test_a_range_is_what_the_standard_says(hub: HubServer, span: str, status: int, body: bytes, place: str) -> None:
    found, headers, content = ask(hub, SMALL, span)
    assert (found, content, headers["Content-Range"]) == (status, body, place)


def test_a_head_tells_the_size_and_sends_nothing(hub: HubServer) -> None:
    status, headers, body = ask(hub, SMALL, method="HEAD")
    assert (status, headers["Content-Length"], body, hub.requests[-1].served) == (200, "10", b"", 0)


def test_a_large_file_lies_behind_an_address_that_expires(hub: HubServer) -> None:
    status, headers, _ = ask(hub, LARGE)
    assert status == 302 and headers["Location"].startswith(hub.cdn) and headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert ask(hub, headers["Location"])[2] == WEIGHTS
    assert ask(hub, headers["Location"], token=hub.token)[0] == 400
    assert ask(hub, headers["Location"].replace("w.bin", "v.bin"))[0] == 403
    hub.expire()
    assert ask(hub, headers["Location"])[0] == 403
    assert ask(hub, ask(hub, LARGE)[1]["Location"])[2] == WEIGHTS


def test_faults_strike_as_often_as_they_should_and_then_no_more(hub: HubServer) -> None:
    hub.fail(Fault(path="resolve", status=503, skip=1, times=2, headers={"X-Why": "maintenance"}))
    assert [ask(hub, SMALL)[0] for _ in range(3)] == [200, 503, 503] and not hub.unmet()
    assert ask(hub, SMALL)[0] == 200
    assert [r.status for r in hub.requests] == [200, 503, 503, 200]


def test_a_fault_of_another_method_or_path_stays_to_come(hub: HubServer) -> None:
    fault = Fault("HEAD", "w.bin", status=500)
    hub.fail(fault)
    assert ask(hub, SMALL, method="HEAD")[0] == ask(hub, SMALL)[0] == 200
    assert hub.unmet() == [fault]
    hub.mend()
    assert hub.unmet() == [] and ask(hub, LARGE, method="HEAD")[0] == 302


def test_a_cut_body_ends_where_it_should(hub: HubServer) -> None:
    hub.fail(Fault(path="w.bin", truncate=1000))
    address = ask(hub, LARGE)[1]["Location"]
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(hub, address)
    assert error.value.partial == WEIGHTS[:1000] and hub.requests[-1].served == 1000
    assert ask(hub, address)[2] == WEIGHTS


def test_a_corrupt_body_differs_in_one_byte(hub: HubServer) -> None:
    hub.fail(Fault(path="w.bin", corrupt=True))
    body = ask(hub, ask(hub, LARGE)[1]["Location"], "100-199")[2]
    assert [i for i in range(100) if body[i] != WEIGHTS[100 + i]] == [50]


def test_a_range_may_be_ignored(hub: HubServer) -> None:
    hub.fail(Fault(path="a.txt", ignore_range=True))
    assert ask(hub, SMALL)[0] == 200
    status, headers, body = ask(hub, SMALL, "2-4")
    assert (status, headers["Content-Range"], body) == (200, None, b"0123456789")


def test_an_etag_may_change(hub: HubServer) -> None:
    hub.fail(Fault("HEAD", "w.bin", etag="other"))
    headers = ask(hub, LARGE, method="HEAD")[1]
    assert headers["ETag"] == headers["X-Linked-Etag"] == '"other"'
    assert ask(hub, LARGE, method="HEAD")[1]["ETag"] != '"other"'


def test_a_connection_lost_before_changes_nothing(hub: HubServer) -> None:
    hub.fail(Fault("POST", "/commit/", drop="before"))
    before = hub.head("org/m")
    with pytest.raises(Exception, match=LOST):
        api(hub).upload_file(path_or_fileobj=b"1", path_in_repo="b.txt", repo_id="org/m")
    assert hub.head("org/m") == before and hub.requests[-1].status == 0


def test_a_connection_lost_after_has_changed_all(hub: HubServer) -> None:
    hub.fail(Fault("POST", "/commit/", drop="after"))
    with pytest.raises(Exception, match=LOST):
        api(hub).upload_file(path_or_fileobj=b"1", path_in_repo="b.txt", repo_id="org/m")
    assert hub.contents("org/m")["b.txt"] == b"1"


def test_a_request_waits_until_it_is_let_go(hub: HubServer) -> None:
    gate = threading.Event()
    hub.fail(Fault(path="a.txt", hold=gate))
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(ask(hub, SMALL)[2]))
    reader.start()
    assert hub.wait_for("GET", "a.txt").status == 0 and found == []
    gate.set()
    reader.join()
    assert found == [b"0123456789"]


def test_clients_wait_as_long_as_they_are_told(hub: HubServer) -> None:
    hub.fail(Fault(path="/tree/", status=429, retry_after=0))
    assert len(list(api(hub).list_repo_tree("org/m"))) == 2
    assert [r.status for r in hub.requests] == [429, 200]


def test_clients_try_again_where_a_body_was_cut(hub: HubServer) -> None:
    hub.fail(Fault(path="/files/", truncate=200_000))
    assert Path(api(hub).hf_hub_download("org/m", "w.bin")).read_bytes() == WEIGHTS
    assert [r.served for r in hub.requests if r.origin == "cdn"] == [200_000, len(WEIGHTS)]


def test_an_upload_that_is_refused_once_is_sent_again(hub: HubServer) -> None:
    hub.fail(Fault("PUT", "/upload/", status=500))
    api(hub).upload_file(path_or_fileobj=WEIGHTS[::-1], path_in_repo="v.bin", repo_id="org/m")
    assert hub.contents("org/m")["v.bin"] == WEIGHTS[::-1]
    assert [r.status for r in hub.requests if r.method == "PUT"] == [500, 200]


def test_faults_strike_xet_as_well(xet: HubServer) -> None:
    xet.fail(Fault(path="/xorbs/", status=500))
    assert Path(api(xet).hf_hub_download("org/m", "w.bin")).read_bytes() == WEIGHTS
    xet.fail(Fault(path="xet-read-token", status=404))
    with in_this_process(xet, xet.folder), pytest.raises(Exception, match="404") as error:
        api(xet).hf_hub_download("org/m", "w.bin", force_download=True)
    assert status_of(error) == 404 and not xet.unmet()


def test_xet_takes_no_token_of_the_hub_and_none_that_is_old(xet: HubServer) -> None:
    address = f"{xet.state.xet.address}/v1/reconstructions/{'0' * 64}"
    headers = ask(xet, "/api/models/org/m/xet-read-token/main", token=xet.token)[1]
    assert ask(xet, address, token=xet.token)[0] == 401
    assert ask(xet, address, token=headers["X-Xet-Access-Token"])[0] == 404
    xet.expire()
    assert ask(xet, address, token=headers["X-Xet-Access-Token"])[0] == 401


def test_a_hub_that_has_stopped_answers_nobody(tmp_path: Path) -> None:
    with HubServer(tmp_path) as hub, in_this_process(hub, tmp_path / "cache"):
        hub.add("org/m", {"a.txt": b"1"})
        client = api(hub)
        client.model_info("org/m")
        hub.stop()
        with pytest.raises(Exception, match=LOST):
            client.model_info("org/m")


def test_a_mistake_of_the_hub_itself_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the loopback Hub itself went wrong"), HubServer(tmp_path) as hub:
        assert ask(hub, "/api/models/org/m/tree/main?cursor=x")[0] == 401
        hub.add("org/m", {"a.txt": b"1"})
        assert ask(hub, "/api/models/org/m/tree/main?cursor=x")[0] == 500
