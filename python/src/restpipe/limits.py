"""Every limit, buffer and time-out of the package: its unit, and why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass

# --- serving ---------------------------------------------------------------

DEFAULT_ADDRESS = "http://127.0.0.1:8080"
"""Where handlers are served if nothing says otherwise: what the node's documentation uses."""

THREADS = 32
"""Threads for handlers that are not `async`: they mostly wait for files and databases."""

MAX_EVENTS = 256
"""Events in work at once: as many as a node opens on one pipe in one direction."""

MAX_CONNECTIONS = 1024
"""Connections at once: several pipes of a server node, and the idle connections they keep."""

BACKLOG = 512
"""Connections that the kernel may hold for us while the loop is busy."""

MAX_HEAD_BYTES = 128 * 1024
"""Bytes of a request's line and headers: above what a node lets through."""

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Bytes of a body that is handed over whole. Larger ones take `@restpipe.streamed`."""

DEFAULT_DEADLINE_S = 60.0
"""Seconds for an event whose sender set no deadline: the node's own default."""

ANSWER_MARGIN_S = 0.25
"""Seconds before the deadline at which a hanging handler is given up, so that the caller hears
that it hangs before its own node stops waiting."""

ANSWER_MARGIN_SHARE = 0.1
"""The same as a share of the time left, for short deadlines: the smaller of the two counts."""

STREAM_STALL_S = 60.0
"""Seconds for the next chunk of a streamed answer or a streamed request body."""

SEND_STALL_S = 300.0
"""Seconds for the node to take a chunk: its caller may read slowly, but not for ever."""

STREAM_QUEUE_CHUNKS = 4
"""Chunks of a streamed answer that may wait between a handler's thread and the socket."""

KEEP_ALIVE_S = 75
"""Seconds an idle connection is kept: a node stops using one after 15 s, so that it is never
closed just as an event is written to it."""

DRAIN_S = 20
"""Seconds for events in work after SIGTERM: inside the 30 s that Kubernetes gives a pod."""

HOOK_TIMEOUT_S = 15.0
"""Seconds for `start_hook`, `stop_hook` or an `async` connection hook: below the drain."""

# --- what crosses the pipe, what is logged ----------------------------------

MAX_MESSAGE_CHARS = 4096
"""Characters of an exception's message that are sent and logged."""

MAX_TRACEBACK_CHARS = 16 * 1024
"""Characters of a traceback that are sent, its end first: the node's own bound."""

MAX_PRINT_CHARS = 8192
"""Characters of one printed line before it is cut into several log lines."""

MAX_NOUN_BYTES = 1024
"""Bytes of a noun: the node's own bound."""

# --- calling ----------------------------------------------------------------

DEFAULT_GATEWAY = "http://127.0.0.1:7070"
"""Where the local gateway is if neither an argument nor `RESTPIPE_URL` says."""

CALL_TIMEOUT_S = 60.0
"""Seconds for a call's answer: the gateway's own default deadline."""

CALL_GRACE_S = 5.0
"""Seconds beyond its deadline that the gateway may take to say so."""

CHUNK_BYTES = 64 * 1024
"""Bytes that are read at once from a streamed answer."""

EAGER_BYTES = 64 * 1024
"""Bytes of an answer that is read with its head, so that nobody needs to close it: most are."""

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Bytes of an answer that is read whole. Larger ones are read with `iter_bytes`."""

MAX_ERROR_BYTES = 1024 * 1024
"""Bytes of a failed answer that are looked at for the exception in it."""

MAX_ERROR_TEXT_CHARS = 200
"""Characters of an answer that is no exception but is quoted in one."""

# --- the stream of connects and disconnects ---------------------------------

MAX_FEED_LINE_BYTES = 64 * 1024
"""Bytes of one line of the gateway's event stream."""

FEED_CONNECT_S = 5.0
"""Seconds for the gateway, which is on this machine, to begin its event stream."""

FEED_SILENCE_S = 60.0
"""Seconds without a byte on the event stream before it is opened anew: the gateway sends a
line every 15 s, even if there is nothing to tell."""

FEED_RETRY_MIN_S = 0.25
"""Seconds before the event stream is opened again, at first."""

FEED_RETRY_MAX_S = 5.0
"""Seconds that the wait before opening the event stream again doubles up to."""


@dataclass(frozen=True)
class Settings:
    """How much a served handler may use; what is not given is the constant of that name."""

    threads: int = THREADS
    max_events: int = MAX_EVENTS
    max_body_bytes: int = MAX_BODY_BYTES
    default_deadline_s: float = DEFAULT_DEADLINE_S
    stream_stall_s: float = STREAM_STALL_S
    drain_s: int = DRAIN_S
    tracebacks: bool = False
    """Send tracebacks of failed handlers over the pipe. They are logged in any case."""

    def __post_init__(self) -> None:
        for name in ("threads", "max_events", "max_body_bytes", "drain_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number from 1 up")
        for name in ("default_deadline_s", "stream_stall_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give seconds above 0")
