"""The two events of the original, for either side of the pipe.

python -m restpipe time_and_cat:Server
python -m restpipe time_and_cat:Client --listen http://127.0.0.1:8081
"""

from __future__ import annotations

import logging
import time

import restpipe

_log = logging.getLogger(__name__)


class Server(restpipe.ServerEventHandler):
    """What the server node answers."""

    def get_time(self, ctx: restpipe.Context, post_data: restpipe.PostData) -> dict[str, float]:
        _log.info("%s asks for the time", ctx.peer)
        return {"time_from_server": time.time()}

    def get_cat(
        self, ctx: restpipe.Context, post_data: restpipe.PostData, x: str, y: str
    ) -> dict[str, str]:
        return {"result_from_server": x + y}


class Client(restpipe.ClientEventHandler):
    """What a client node answers."""

    def get_time(self, ctx: restpipe.Context, post_data: restpipe.PostData) -> dict[str, float]:
        _log.info("%s asks for the time", ctx.peer)
        return {"time_from_client": time.time()}

    def get_cat(
        self, ctx: restpipe.Context, post_data: restpipe.PostData, x: str, y: str
    ) -> dict[str, str]:
        return {"result_from_client": x + y}
