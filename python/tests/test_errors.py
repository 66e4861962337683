"""Failed answers become PipeFailError, whichever client brought them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

import restpipe
from conftest import FakeGateway, Request
from restpipe import PipeFailError, raise_for_exception

Get = Callable[[str], Any]
Start = Callable[..., FakeGateway]


def by_requests(url: str) -> Any:
    return requests.get(url, timeout=20)


def by_streaming_requests(url: str) -> Any:
    return requests.get(url, timeout=20, stream=True)


def by_httpx(url: str) -> Any:
    return httpx.get(url, trust_env=False)


CLIENTS: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def by_streaming_httpx(url: str) -> Any:
    client = httpx.Client(trust_env=False)
    CLIENTS.append(client)
    return client.send(client.build_request("GET", url), stream=True)


def by_pipe(url: str) -> Any:
    base, _, path = url.partition("/server/")
    return restpipe.Pipe(base, check=False).server.get(path)


ALL = [by_requests, by_streaming_requests, by_httpx, by_streaming_httpx, by_pipe]

HANDLER = {"exception": {"message": "no shelf", "traceback": "Traceback…", "class": "ShelfError"}}
PROBLEM = {
    "type": "urn:restpipe:error:peer-away",
    "title": "Peer is not connected",
    "status": 503,
    "detail": "fileserver is not connected: start its node",
    "code": "peer-away",
    "outcome": "not-sent",
    "retriable": True,
    "exception": {"message": "fileserver is not connected", "traceback": "", "class": "PeerAway"},
}


def failed(
    gateway: Start, get: Get, status: int, body: bytes | dict[str, Any], **headers: str
) -> PipeFailError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = gateway(lambda request: request.answer(status, raw, **headers)).url
    response = get(f"{url}/server/time")
    with pytest.raises(PipeFailError) as caught:
        raise_for_exception(response)
    assert caught.value.response is response
    response.close()
    return caught.value


@pytest.mark.parametrize("get", ALL)
def test_a_failed_handler_is_raised_with_all_that_is_known(gateway: Start, get: Get) -> None:
    error = failed(
        gateway, get, 500, HANDLER, X_Event_Return_Code="251", X_Event_Outcome="executed"
    )
    assert (error.code, error.status, error.outcome) == (251, 500, "executed")
    assert (error.message, error.class_name) == ("no shelf", "ShelfError")
    assert (error.traceback, error.retriable, error.reason) == ("Traceback…", False, "")
    assert str(error) == "(251) [ShelfError] no shelf"


@pytest.mark.parametrize("get", ALL)
def test_the_pipes_own_failure_says_whether_to_try_again(gateway: Start, get: Get) -> None:
    error = failed(gateway, get, 503, PROBLEM, X_Event_Outcome="not-sent", X_Event_Retriable="true")
    assert (error.code, error.reason, error.outcome, error.retriable) == (
        503,
        "peer-away",
        "not-sent",
        True,
    )
    assert error.message == "fileserver is not connected"


def test_the_originals_names_still_work(gateway: Start) -> None:
    error = failed(gateway, by_requests, 500, HANDLER, X_Event_Return_Code="251")
    assert error.error_message == "no shelf"
    assert error.error_traceback == "Traceback…"
    assert error.error_class_name == getattr(error, "class") == "ShelfError"
    assert error.return_code == 251


@pytest.mark.parametrize("get", ALL)
def test_success_raises_nothing_and_keeps_the_body(gateway: Start, get: Get) -> None:
    url = gateway(lambda request: request.answer(200, b"[1]", X_Event_Return_Code="0")).url
    response = get(f"{url}/server/time")
    raise_for_exception(response)
    if get is by_streaming_httpx:
        response.read()
    assert response.json() == [1]
    response.close()


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "message"),
    [
        (404, {}, b"not here\nat all", 404, "not here at all"),
        (502, {}, b"", 502, "HTTP 502 without a body"),
        (500, {"X_Event_Return_Code": "251"}, b'{"exception": 7}', 251, '{"exception": 7}'),
        (500, {"X_Event_Return_Code": "251"}, b'{"exception": {"message": 5}}', 251, "5"),
        (500, {"X_Event_Return_Code": "x"}, b"[]", 500, "[]"),
        (200, {"X_Event_Return_Code": "x"}, b"{}", 200, "{}"),
        (200, {"X_Event_Return_Code": "7"}, b'{"detail": "own"}', 7, "own"),
        (
            418,
            {"X_Event_Return_Code": "418"},
            b"\xff" * 999,
            418,
            "\N{REPLACEMENT CHARACTER}" * 200,
        ),
        (500, {}, b"[" * 100_000, 500, "[" * 200),
        (503, {"X_Event_Return_Code": "503"}, b'{"detail": null, "title": "T"}', 503, "T"),
    ],
)
def test_bodies_that_are_no_exception_still_make_a_clear_one(
    gateway: Start, status: int, headers: dict[str, str], body: bytes, code: int, message: str
) -> None:
    error = failed(gateway, by_requests, status, body, **headers)
    assert (error.code, error.message, error.class_name) == (code, message, "")


def test_an_answer_without_a_code_is_judged_by_its_status(gateway: Start) -> None:
    url = gateway(lambda request: request.answer(204)).url
    raise_for_exception(by_requests(url))


def test_a_huge_failed_answer_is_not_read_to_its_end(gateway: Start) -> None:
    def endless(request: Request) -> None:
        request.handler.send_response(500)
        request.handler.send_header("X-Event-Return-Code", "251")
        request.handler.end_headers()
        while True:
            request.write(bytes(65536))

    url = gateway(endless).url
    with pytest.raises(PipeFailError) as caught:
        raise_for_exception(by_streaming_requests(url))
    assert caught.value.code == 251
    caught.value.response.close()
