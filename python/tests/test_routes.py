"""Which method answers which event, and what is refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

import restpipe
from restpipe import Context, HandlerError, PostData, noun
from restpipe.errors import RefusedError
from restpipe.routes import Routes


def routes(**methods: Any) -> Routes:
    return Routes(type("Made", (restpipe.EventHandler,), methods)())


def answer(self: Any, ctx: Context, post_data: PostData) -> None: ...


def test_names_say_verb_and_noun() -> None:
    found = routes(get_time_utc=answer, post_time=answer, patch_a_b_c=answer)
    assert {(r.verb, r.noun, r.name) for r in found} == {
        ("GET", "time/utc", "get_time_utc"),
        ("POST", "time", "post_time"),
        ("PATCH", "a/b/c", "patch_a_b_c"),
    }


def test_an_underscore_in_a_noun_is_written_out() -> None:
    found = routes(get_time_utc=answer, get_other=noun("time_utc")(lambda s, c, p: None))
    assert found.find("GET", "time/utc").name == "get_time_utc"
    assert found.find("GET", "time_utc").name == "get_other"


def test_a_noun_takes_the_place_of_the_name_and_may_be_given_more_than_once() -> None:
    @noun("Files-2")
    @noun("v1.0/files", verb="put")
    def get_it(self: Any, ctx: Context, post_data: PostData) -> None: ...

    found = routes(get_it=get_it)
    assert {(r.verb, r.noun) for r in found} == {("GET", "Files-2"), ("PUT", "v1.0/files")}
    with pytest.raises(RefusedError):
        found.find("GET", "it")


def test_two_methods_for_one_event_are_refused_and_both_named() -> None:
    clash = noun("time/utc")(lambda s, c, p: None)
    with pytest.raises(
        HandlerError, match=r"get_clock and Made\.get_time_utc both answer GET time/"
    ):
        routes(get_time_utc=answer, get_clock=clash)


def test_an_inherited_method_may_be_replaced_and_is_no_clash() -> None:
    class Base(restpipe.EventHandler):
        def get_x(self, ctx: Context, post_data: PostData) -> str:
            return "base"

    class Own(Base):
        def get_x(self, ctx: Context, post_data: PostData) -> str:
            return "own"

    assert len(list(Routes(Own()))) == 1


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({}, "answers nothing: write a method such as get_time"),
        ({"get_a__b": answer}, "get_a__b makes a noun with an empty segment"),
        (
            {"get_x": lambda self: None},
            r"get_x cannot answer events: it takes no \(ctx, post_data\)",
        ),
        ({"x": noun("x")(lambda s, c, p: None)}, "x has a noun but no verb"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(methods: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        routes(**methods)


@pytest.mark.parametrize("name", ["", "a/", "/a", "a//b", "..", "a/./b", "a\0", "x" * 2000])
def test_a_noun_that_no_gateway_lets_through_is_refused(name: str) -> None:
    with pytest.raises(HandlerError, match="the noun"):
        noun(name)


def test_a_verb_that_is_none_is_refused() -> None:
    with pytest.raises(HandlerError, match="give one of GET, HEAD"):
        noun("x", verb="FETCH")


def test_what_is_no_method_is_left_alone() -> None:
    looked: list[str] = []

    class Own(restpipe.EventHandler):
        get_limit = 7
        getter = None

        def get_x(self, ctx: Context, post_data: PostData) -> None: ...

        def _get_y(self) -> None: ...

        def gets_z(self) -> None: ...

        @property
        def get_p(self) -> str:
            looked.append("p")
            return "p"

        @staticmethod
        def post_s(ctx: Context, post_data: PostData) -> str:
            return "s"

        class get_inner:
            pass

    assert {r.name for r in Routes(Own())} == {"get_x", "post_s"}
    assert looked == []


def test_a_class_that_is_no_handler_is_refused() -> None:
    with pytest.raises(HandlerError, match=r"object is no restpipe\.EventHandler"):
        restpipe.asgi_app(object)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"threads": 0}, "threads is 0"), ({"default_deadline_s": 0}, "default_deadline_s is 0")],
)
def test_limits_that_let_nothing_through_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        restpipe.Settings(**settings)
