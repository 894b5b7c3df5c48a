"""What [[bridge]] accepts, and what an operator is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.config import bridges, load, render
from chatd.config.bridge_options import BridgeOptions, prefix_of
from chatd.errors import ConfigError

GOOD = 'name = "java"\nurl = "amqps://chatd:secret@mq.example/vhost"\n'


def loaded(tmp_path: Path, *sections: str) -> load.Loaded:
    file = tmp_path / "chatd.toml"
    file.write_text("".join(f"[[bridge]]\n{section}\n" for section in sections))
    return load.load(file)


def test_the_shortest_section_has_the_queues_of_the_java_server(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, GOOD).config.bridge
    assert (one.incoming, one.outgoing, prefix_of(one), one.users) == ("q_app2web", "q_web2app", "java:", ())


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ([GOOD.replace("java", "Java!")], "bridge[0].name: must be 1 to 32 lower-case letters"),
        ([GOOD, GOOD], "bridge[1].name: java is also bridge[0]"),
        ([GOOD.replace("amqps", "http")], "bridge[0].url: is not a URL such as amqps://"),
        ([GOOD.replace("chatd:secret@", "")], "bridge[0].url: needs a user and a password"),
        ([GOOD.replace("vhost", "vhost?no_verify_ssl=1")], "bridge[0].url: must not have a ?"),
        ([GOOD.replace("amqps", "amqp") + 'ca_file = "ca.pem"'], "bridge[0].ca_file: is for amqps:// only"),
        ([GOOD + 'prefix = "java"'], "bridge[0].prefix: must be 2 to 32"),
        ([GOOD + 'prefix = "#1:"'], "bridge[0].prefix: must be 2 to 32"),
        ([GOOD + 'own_prefix = "7"'], "bridge[0].own_prefix: must be 2 to 32"),
        (
            [GOOD, GOOD.replace("java", "old") + 'prefix = "JAVA:x-"'],
            "bridge[1].prefix: java:x- and java: of bridge[0]",
        ),
        ([GOOD + 'incoming = "a b"'], "bridge[0].incoming: must be 1 to 255"),
        ([GOOD + 'incoming = "q_web2app"'], "bridge[0].incoming: incoming, outgoing and dead_letters must be three"),
        ([GOOD + "unknown_here = true"], "bridge[0].unknown_here: needs users"),
        (
            [f'{one}unknown_here = true\nusers = ["*"]' for one in (GOOD, GOOD.replace("java", "old"))],
            "bridge[1].unknown_here: is also set in bridge[0]",
        ),
    ],
)
def test_a_mistake_is_named_without_the_password(tmp_path: Path, sections: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, *sections)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_url_is_a_secret(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqps://chatd:secret@mq.example/vhost\n")
    kept = loaded(tmp_path, 'name = "java"\nurl = "file:url"')
    assert kept.config.bridge[0].url == "amqps://chatd:secret@mq.example/vhost"
    assert not render.holds_secret(kept)
    assert render.holds_secret(loaded(tmp_path, GOOD))
    assert "chatd:secret" not in repr(render.mask_config(kept.config))


def test_a_bridge_without_tls_over_a_network_is_a_warning() -> None:
    def told(url: str) -> list[str]:
        return bridges.plain((BridgeOptions(name="java", url=url),))

    assert told("amqps://chatd:secret@192.0.2.7/") == []
    assert told("amqp://chatd:secret@127.0.0.1/") == told("amqp://chatd:secret@localhost/") == []
    (line,) = told("amqp://chatd:secret@192.0.2.7/")
    assert "amqp://192.0.2.7 has no TLS" in line
    assert "secret" not in line
