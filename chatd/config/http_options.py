"""The section [http] of the configuration.

Owns: HttpOptions.
Elsewhere: the whole schema (config.schema), the listeners (config.schema.ListenerOptions), what the options mean
(docs/api.md).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chatd.config.option import option


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[http], of all listeners with protocol http"""

    body_bytes: Annotated[
        int, option("maximum size of the body of a request", "live", ge=1024, le=16 * 1024 * 1024)
    ] = 256 * 1024
    header_bytes: Annotated[
        int,
        option("maximum size of the first line and the headers of a request together", "live", ge=1024, le=256 * 1024),
    ] = 16 * 1024
    request_s: Annotated[
        float, option("time in which a request must arrive completely, from its first byte", "live", ge=0.1, le=600)
    ] = 10.0
    idle_s: Annotated[
        float,
        option(
            "how long a connection without a request is kept; more than a load balancer keeps it", "live", 0.1, 3600
        ),
    ] = 75.0
    requests_per_connection: Annotated[
        int, option("requests after which a connection is closed; 0 = no limit", "live", ge=0, le=1_000_000_000)
    ] = 100_000
    requests_per_s: Annotated[
        int,
        option(
            "maximum requests per second with one key on one worker, averaged over 10 s; 0 = no limit",
            "live",
            ge=0,
            le=1_000_000,
        ),
    ] = 1000
    concurrent_requests: Annotated[
        int, option("maximum requests that a worker serves at the same time; further ones are refused", "live", ge=1)
    ] = 1000
    origins: Annotated[
        tuple[str, ...],
        option(
            'origins whose pages may call the API (CORS), each as a browser sends it ("https://HOST"); [] = none. A '
            "key in a page is known to everybody who sees the page: let pages ask your own backend",
            "worker",
        ),
    ] = ()
    mobileimsdk_demo: Annotated[
        bool,
        option(
            "whether /api/loginConnect and /api/sendMsg are served, the two calls of the page of MobileIMSDK's demo. "
            "They need no key: whoever reaches a listener may try passwords there, within [penalties], and send "
            "in the name of the user who is logged in on the page",
            "worker",
        ),
    ] = False
    docs: Annotated[bool, option("whether /docs and /openapi.json are served, without a key", "worker")] = True
