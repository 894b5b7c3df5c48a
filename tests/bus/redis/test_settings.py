"""What the URL of the bus may say about Redis."""

from __future__ import annotations

import pytest

from chatd.bus.redis.settings import read_settings
from chatd.errors import BootError, Exit


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "what"),
        [
            ("redis://:secret@h:port/0", "is not HOST:PORT"),
            ("redis://:secret/more@h:1/0", "is not HOST:PORT"),
            ("redis://[secret", "is not a URL"),
            ("redis://:secret@h/0?timeout=3", "has no option timeout"),
            ("unix:", "unix: needs a path"),
            ("redis://:secret@h/x", "the database must be a number"),
            ("redis+sentinel://:secret@h", "needs the name by which the sentinels know the server"),
            ("redis+cluster://:secret@h/3", "a cluster has only database 0"),
            ("redis://:secret@h,i/3", "names more than one server"),
            ("redis+x://:secret@h", "redis+x: is not a scheme of Redis"),
            ("rediss://:secret@h?ssl_ca_certs=/no/such/file", "TLS: "),
            ("rediss://:secret@h?ssl_cert_reqs=maybe", "ssl_cert_reqs must be required, optional or none"),
        ],
    )
    def test_a_wrong_url_is_refused_without_showing_its_password(self, url: str, what: str) -> None:
        with pytest.raises(BootError) as caught:
            read_settings(url)
        assert what in str(caught.value)
        assert "secret" not in str(caught.value)
        assert caught.value.exit_code is Exit.CONFIG

    def test_a_url_gives_addresses_login_and_options(self) -> None:
        assert read_settings("redis://h").addresses == (("h", 6379),)
        assert read_settings("redis://u:p%40@h:1/3").login == ("AUTH", "u", "p@")
        assert read_settings("redis://u:p%40@h:1/3").db == 3
        assert read_settings("unix:/run/redis.sock?db=2&password=x").addresses == (("/run/redis.sock", 0),)
        assert read_settings("unix:///run/redis.sock?db=2&password=x").login == ("AUTH", "default", "x")
        place = read_settings("redis+sentinel://:p@a:1,b/chat/4?sentinel_password=q")
        assert (place.kind, place.addresses, place.service, place.db) == (
            "sentinel", (("a", 1), ("b", 26379)), "chat", 4
        )  # fmt: skip
        assert place.sentinel_login == ("AUTH", "default", "q")
        assert read_settings("redis+cluster://a:1,b:2").addresses == (("a", 1), ("b", 2))
        tls = read_settings("rediss://h?ssl_cert_reqs=none").tls
        assert tls is not None
        assert not tls.check_hostname
