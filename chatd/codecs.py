"""Which codec speaks to the clients of a listener, with the limits of the configuration.

Owns: choosing the implementation of the wire that a [[listen]] names.
Elsewhere: the codecs (wire), the other implementations that a configuration names (worker).
Fails: never.
"""

from __future__ import annotations

from chatd.config.schema import Config, ListenerOptions
from chatd.net.websocket.frames import MAX_FRAME_BYTES
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.contract import Codec
from chatd.wire.echo import EchoCodec
from chatd.wire.mobileimsdk.codec import APART, MAX_PACKET_BYTES, Framing, MobileimsdkCodec
from chatd.wire.mobileimsdk.group_mark import GroupMark


def make_codec(listen: ListenerOptions, config: Config) -> Codec:
    limits = config.limits
    if listen.protocol == "chatserver":
        return ChatserverCodec(listen.max_frame_bytes, listen.pace_ms, limits.body_bytes, limits.fp_bytes)
    if listen.protocol == "mobileimsdk" or listen.mounted_path:
        if listen.mounted_path or listen.address.startswith(("ws:", "wss:")):
            longest = listen.max_frame_bytes or MAX_FRAME_BYTES
            return MobileimsdkCodec(longest, limits.body_bytes, limits.fp_bytes, framing=APART, mark=group_mark(listen))
        return MobileimsdkCodec(listen.max_frame_bytes, limits.body_bytes, limits.fp_bytes, mark=group_mark(listen))
    return EchoCodec()


def make_datagram_codec(listen: ListenerOptions, config: Config) -> MobileimsdkCodec:
    """COMPAT: the Java client reads a datagram into 1,024 bytes, but may send a longer one."""
    longest = listen.max_frame_bytes or 1024
    limits = config.limits
    inwards = max(longest, MAX_PACKET_BYTES)
    return MobileimsdkCodec(
        longest,
        limits.body_bytes,
        limits.fp_bytes,
        framing=Framing(prefixed=False, receive_bytes=inwards),
        mark=group_mark(listen),
    )


def group_mark(listen: ListenerOptions) -> GroupMark | None:
    """How this listener marks group messages for clients that know no groups; None = it does not."""
    if not listen.group_prefix and listen.group_typeu == -1:
        return None
    return GroupMark(listen.group_prefix, None if listen.group_typeu == -1 else listen.group_typeu)
