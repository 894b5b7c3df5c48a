"""The schema, loading, and the texts made from it."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import msgspec
import pytest

from chatd.config import diff as config_diff
from chatd.config import load as config_load
from chatd.config import render as config_render
from chatd.config import urls, validate
from chatd.config.options import options_of
from chatd.config.schema import SECTIONS, Config, ListenerOptions
from chatd.errors import ConfigError

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str) -> config_load.Loaded:
    file = tmp_path / "chatd.toml"
    file.write_text(text)
    return config_load.load(file)


def test_every_option_is_described():
    for kind in SECTIONS.values():
        for option in options_of(kind):
            assert option.description
            assert option.effect in ("live", "worker", "restart")


def test_generated_files_are_fresh():
    assert (ROOT / "etc/chatd.toml").read_text() == config_render.sample(), "make docs"
    assert (ROOT / "man/chatd.toml.5").read_text() == config_render.manual(), "make docs"


def test_the_sample_says_the_defaults(tmp_path):
    loaded = load(tmp_path, config_render.sample())
    plain = load(tmp_path, "")
    assert loaded.config == plain.config
    assert plain.config.server == Config().server


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("[server]\nworker = 1", "server.worker", 'did you mean "workers"?'),
        ("[servre]\nworkers = 1", "servre", 'did you mean "server"?'),
        ("[limits]\nzzz = 1", "limits.zzz", "unknown option (known: connections, "),
        (
            '[accounts]\npresence = "all"',
            "accounts.presence",
            'is replaced by people.may_see, which also holds for profiles: instead of "friends" write '
            'people.may_see = "contacts", instead of "all" write "everybody"; "friends" and "nobody" are allowed too',
        ),
        ("server = 3", "server", "must be written as [server]"),
        ('[listen]\nprotocol = "echo"', "listen", "must be written as [[listen]]"),
        ('[hook]\nname = "echo"', "hook", "must be written as [[hook]]"),
        ("[[hook]]\nfail = 'open'", "hook[0]", "name"),
        ("[[hook]]\nname = ' '", "hook[0].name", "empty"),
        ("[[hook]]\nname = 'a'\n[[hook]]\nname = 'a'", "hook[1].name", "also hook[0]"),
        ("[[hook]]\nname = 'a'\nfails = 'open'", "hook[0].fails", 'did you mean "fail"?'),
        ("[[hook]]\nname = 'a'\nfail = 'ajar'", "hook[0].fail", 'expected "" or "open" or "closed", got "ajar"'),
        ("[[hook]]\nname = 'a'\ntime_limit_ms = 0", "hook[0].time_limit_ms", "expected integer 1..60000, got 0"),
        ("[[hook]]\nname = 'a'\noptions = 3", "hook[0].options", "expected table, got 3"),
        ("[[hook]]\nname = 'a'\noptions.since = 2026-01-01", "hook[0].options.since", "dates"),
        ("[[hook]]\nname = 'a'\noptions.far = [{ x = inf }]", "hook[0].options.far", "infinities"),
        ("[server]\nworkers = 0", "server.workers", 'expected "auto" or integer 1..256, got 0'),
        ("[server]\nworkers = 257", "server.workers", "1..256, got 257"),
        ('[server]\nworkers = "two"', "server.workers", 'got "two"'),
        ("[server]\nworkers = true", "server.workers", "got true"),
        ('[limits]\nin_flight = "8"', "limits.in_flight", 'expected integer 8..65536, got "8"'),
        ('[log]\nlevel = "LOUD"', "log.level", '"DEBUG" or "NORMAL" or "WARNING" or "ERROR" or "FATAL", got "LOUD"'),
        ("listen = []", "listen", "at least one"),
        ('[penalties]\nallow = ["10.0.0.0/8", "10.1"]', "penalties.allow", "addresses or networks such as"),
        (
            '[[listen]]\nprotocol = "mobileimsdk"\naddress = "ws://h:1"\norigins = ["https://a", "https://a/"]',
            "listen[0].origins",
            '"https://a/" is not an origin',
        ),
        (
            '[[listen]]\nprotocol = "mobileimsdk"\naddress = "ws://h:1"\nwebsocket_path = "/chat"',
            "listen[0].websocket_path",
            "is for protocol http only",
        ),
        (
            '[[listen]]\nprotocol = "http"\naddress = "http://h:1"\nwebsocket_path = "websocket"',
            "listen[0].websocket_path",
            "is not a path",
        ),
        (
            '[[listen]]\nprotocol = "http"\naddress = "http://h:1"\nwebsocket_path = "/v1/websocket"',
            "listen[0].websocket_path",
            "belongs to the API",
        ),
        (
            '[[listen]]\nprotocol = "mobileimsdk"\naddress = "ws://h:1"\ngroup_prefix = "[{grup}]"',
            "listen[0].group_prefix",
            "has braces that are neither {group} nor {number}",
        ),
        (
            '[[listen]]\nprotocol = "mobileimsdk"\naddress = "ws://h:1"\ngroup_prefix = "a\\nb"',
            "listen[0].group_prefix",
            "control characters",
        ),
        (
            f'[[listen]]\nprotocol = "mobileimsdk"\naddress = "ws://h:1"\ngroup_prefix = "{"x" * 65}"',
            "listen[0].group_prefix",
            "has 65 characters, at most 64",
        ),
        (
            '[[listen]]\nprotocol = "chatserver"\naddress = "tcp://h:1"\ngroup_typeu = 3',
            "listen[0].group_typeu",
            "is for protocol mobileimsdk only",
        ),
        (
            '[[listen]]\nprotocol = "http"\naddress = "http://h:1"\nserves = ["admin"]',
            "listen[0].serves",
            "needs TLS here",
        ),
        (
            '[penalties]\nenabled = false\n[[listen]]\nprotocol = "http"\naddress = "http://127.0.0.1:1"\n'
            'serves = ["admin"]',
            "penalties.enabled",
            "must be true",
        ),
        ('[[listen]]\nprotocol = "echo"', "listen[0]", "address"),
        ('[[listen]]\nprotocol = "irc"\naddress = "tcp://h:1"', "listen[0].protocol", "irc"),
        ('[[listen]]\nprotocol = "echo"\naddress = "localhost"', "listen[0].address", "is not tcp://"),
        ('[[listen]]\nprotocol = "echo"\naddress = "tcp://h:99999"', "listen[0].address", "range"),
        ('[[listen]]\nprotocol = "echo"\naddress = "tcp://h"', "listen[0].address", "host and a port"),
        ('[[listen]]\nprotocol = "echo"\naddress = "tcp://h:1/x"', "listen[0].address", "after the port"),
        (
            '[[listen]]\nprotocol = "echo"\naddress = "tcp://h:1"\n'
            '[[listen]]\nprotocol = "chatserver"\naddress = "tcp://h:1"',
            "listen[1].address",
            "is also listen[0]",
        ),
        (
            '[store]\nurl = "oracle://u:secret@h/db"',
            "store.url",
            "oracle: is not supported by this version (supported: sqlite: mysql:)",
        ),
        ('[store]\nurl = "mysql://u:secret@h"', "store.url", "needs one database"),
        ('[store]\nurl = "mysql://u:sec/ret@h/db"', "store.url", "%2F"),
        ('[store]\nurl = "mysql://u:secret@h/db?ssl=1"', "store.url", "has no option ssl"),
        ('[store]\nurl = "chatd.db"', "store.url", "not supported by this version"),
        ('[store]\nurl = "sqlite:"', "store.url", "file name"),
        ('[bus]\nurl = "amqp://h"', "bus.url", "not supported by this version"),
        ('[bus]\nurl = "redis://:secret@h:port"', "bus.url", "HOST:PORT"),
        ('[bus]\nurl = "redis+sentinel://:secret@h"', "bus.url", "the name by which the sentinels know the server"),
        ('[bus]\nprefix = "a b"', "bus.prefix", "letters"),
        ('[store]\nurl = "env:NOT_SET_AT_ALL"', "store.url", "NOT_SET_AT_ALL"),
        ('[store]\nurl = "file:missing"', "store.url", "missing"),
        ('[accounts]\nlogin = "open"', "accounts.login", "insecure_open_login"),
        ('[server]\ngroup = "daemon"', "server.group", "server.user"),
        ("[server", "-", "TOML"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, text, key, what):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/chatd.toml: {key}: "), line
    assert what in line
    assert "\n" not in line
    assert "secret" not in line


def test_all_mistakes_are_told_at_once(tmp_path):
    text = (
        '[server]\nworker = 1\nuser = 5\ngroup = "g"\n[limits]\nin_flight = 1\n[[listen]]\naddress = "tcp://h"\n'
        '[[listen]]\nprotocol = "echo"\naddress = "tcp://h"\n[store]\nurl = "env:NOT_SET_AT_ALL"\n[bus]\nurl = "x"\n'
        'prefix = "a b"\n[nothing]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    keys = [line.removeprefix(f"{tmp_path}/chatd.toml: ").split(": ")[0] for line in caught.value.problems]
    assert keys == [
        "store.url", "server.worker", "server.user", "limits.in_flight", "listen[0]", "nothing",
        "bus.url", "bus.prefix",
    ]  # fmt: skip
    assert str(caught.value) == "\n".join(caught.value.problems)


def test_a_mistake_that_follows_from_another_is_not_told(tmp_path):
    """A group needs a user: there is one, only its value is wrong."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[server]\nuser = 5\ngroup = "daemon"')
    assert [line.split(": ")[1] for line in caught.value.problems] == ["server.user"]


def test_a_secret_that_cannot_be_read_any_more_is_kept(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("redis://:hush@cache:6379\n")
    first = load(tmp_path, '[bus]\nurl = "file:secret"\ninsecure_unsigned = true')
    assert (first.kept_secrets, "hush" in repr(first.secrets)) == ((), False)
    read_text = Path.read_text

    def denied(path, *arguments, **options):
        if path.name in ("secret", "other"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    again = config_load.load(first.file, first.secrets)
    assert (again.config, again.kept_secrets) == (first.config, ("bus.url",))
    assert config_load.load(first.file, again.secrets).config == first.config
    with pytest.raises(ConfigError, match=r"bus\.url: cannot read .*secret: Permission denied"):
        config_load.load(first.file)
    (tmp_path / "chatd.toml").write_text('[bus]\nurl = "file:other"')
    with pytest.raises(ConfigError, match=r"bus\.url: cannot read .*other: Permission denied"):
        config_load.load(first.file, first.secrets)


def test_no_part_of_a_password_is_shown(tmp_path):
    for url, shown in (
        ("mysql://u:p@ss@h/db", "mysql://u:***@h/db"),
        ("redis://:a@b@h:1", "redis://:***@h:1"),
        ("redis://h:1?password=a@b", "redis://h:1?password=***"),
        ("tcp://[::1]:6000", "tcp://[::1]:6000"),
    ):
        assert config_render.mask(url) == shown
    config = load(tmp_path, HOOKS + '[store]\nurl = "mysql://u:hu@sh@h/db"').config
    masked = config_render.mask_config(config)
    assert "sh" not in masked.store.url
    assert masked.hook[0].options["deep"]["api_token"] == "***"
    assert masked.limits == config.limits
    assert masked.listen == config.listen


@pytest.mark.parametrize("transport", ["tcp", "udp", "ws"])
def test_a_transport_that_is_not_built_is_told(tmp_path, monkeypatch, transport):
    monkeypatch.setattr(validate, "TRANSPORTS", ("unix",))
    with pytest.raises(
        ConfigError, match=rf"listen\[0\].address: {transport}:// is not supported by this version \(supported: unix\)"
    ):
        load(tmp_path, f'[[listen]]\nprotocol = "mobileimsdk"\naddress = "{transport}://h:1"')


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config_load.load(tmp_path / "none.toml")


def test_without_a_file_the_defaults_hold(monkeypatch, tmp_path):
    monkeypatch.setattr(config_load, "DEFAULT_FILE", tmp_path / "none.toml")
    loaded = config_load.load(None)
    assert (loaded.file, loaded.name) == (None, "built-in defaults")
    assert loaded.config.store.url == "sqlite:/var/lib/chatd/chatd.db"


def test_paths_are_made_absolute(tmp_path):
    config = load(
        tmp_path,
        '[server]\nstate_dir = "s"\nruntime_dir = "../r"\nlog_dir = "-"\n[store]\nurl = "sqlite:a/b.db"\n'
        '[[listen]]\nprotocol = "echo"\naddress = "unix:e.sock"',
    ).config
    assert config.server.state_dir == f"{tmp_path}/s"
    assert config.server.runtime_dir == f"{tmp_path.parent}/r"
    assert config.server.log_dir == "-"
    assert config.store.url == f"sqlite:{tmp_path}/s/a/b.db"
    assert config.listen[0].address == f"unix:{tmp_path.parent}/r/e.sock"


def test_secrets_come_from_elsewhere_and_are_masked(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "STORES", ("sqlite", "mysql"))
    monkeypatch.setattr(validate, "BUSES", ("local", "redis"))
    monkeypatch.setenv("CHATD_TEST_STORE", "mysql://chat:pa:ss@db:3306/chat")
    (tmp_path / "bus.secret").write_text("redis://:hush@cache:6379\n")
    (tmp_path / "bus.key").write_text(f"{'k' * 32}\n")
    text = '[store]\nurl = "env:CHATD_TEST_STORE"\n[bus]\nurl = "file:bus.secret"\nkeys = ["file:bus.key", "{}"]'
    loaded = load(tmp_path, text.format("i" * 32))
    assert loaded.config.store.url == "mysql://chat:pa:ss@db:3306/chat"
    assert loaded.config.bus.url == "redis://:hush@cache:6379"
    text = config_render.effective(loaded)
    assert 'url = "mysql://chat:***@db:3306/chat"  # env:CHATD_TEST_STORE' in text
    assert 'url = "redis://:***@cache:6379"  # file:bus.secret' in text
    assert loaded.config.bus.keys == ("k" * 32, "i" * 32)
    assert 'keys = ["***", "***"]  # file:bus.key' in text
    assert "kkkk" not in text
    assert "iiii" not in text
    assert config_render.mask_config(loaded.config).bus.keys == ("***", "***")
    assert config_render.mask_option("bus.keys", loaded.config.bus.keys) == ["***", "***"]
    assert "hush" not in text
    assert config_render.mask("unix:/s?db=1&password=hush&x=1") == "unix:/s?db=1&password=***&x=1"


def test_the_effective_configuration_is_a_file(tmp_path):
    loaded = load(tmp_path, "[limits]\nin_flight = 16")
    text = config_render.effective(loaded)
    assert "in_flight = 16  # file" in text
    assert load(tmp_path, text).config == loaded.config


HOOKS = """
[[hook]]
name = "words"
entry_point = "translate"
options = { file = "w.txt", deep = { api_token = "hush", list = [1, 2.5, true, "x"] } }
[[hook]]
name = "echo"
"""


def test_plugins_are_read_in_order_and_their_secrets_masked(tmp_path):
    loaded = load(tmp_path, HOOKS)
    words, echo = loaded.config.hook
    assert (words.name, words.entry_point, words.fail, echo.name, echo.options) == (
        "words", "translate", "", "echo", {},
    )  # fmt: skip
    assert words.options["deep"] == {"api_token": "hush", "list": [1, 2.5, True, "x"]}
    text = config_render.effective(loaded)
    assert "hush" not in text
    assert config_render.mask("unix:/s?db=1&password=hush&x=1") == "unix:/s?db=1&password=***&x=1"
    again = load(tmp_path, text.replace("***", "hush")).config
    assert again == loaded.config
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(again)), Config) == again


def test_plugins_must_be_installed(tmp_path):
    validate.check_host(load(tmp_path, HOOKS).config, "file")
    with pytest.raises(ConfigError, match=r"file: hook\[0\]\.entry_point: no plug-in nobody .*echo, http, translate"):
        validate.check_host(load(tmp_path, '[[hook]]\nname = "nobody"').config, "file")


def test_changes_of_plugins_wait_for_new_workers(tmp_path):
    old = load(tmp_path, HOOKS).config
    new = load(tmp_path, HOOKS.replace('"w.txt"', '"v.txt"').replace('"echo"', '"other"')).config
    assert {change.key: change.effect for change in config_diff.changes(old, new)} == {
        "hook[words].options": "worker",
        "hook[echo]": "worker",
        "hook[other]": "worker",
    }
    assert config_diff.applicable(old, new).hook == new.hook
    assert config_diff.live(old, new).hook == old.hook
    turned = msgspec.structs.replace(old, hook=old.hook[::-1])
    assert [change.key for change in config_diff.changes(old, turned)] == ["hook"]


def test_the_host_must_fit(tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for text, key in (
        ('[server]\nuser = "no-such-user"', "server.user"),
        ('[server]\nuser = "root"\ngroup = "no-such-group"', "server.group"),
        (f"[limits]\nconnections = {hard}", "limits.connections"),
    ):
        loaded = load(tmp_path, text)
        with pytest.raises(ConfigError, match=key):
            validate.check_host(loaded.config, loaded.name)
    validate.check_host(load(tmp_path, "[limits]\nconnections = 100").config, "file")


def test_changes_name_their_effect(tmp_path):
    old = load(
        tmp_path,
        '[[listen]]\nprotocol = "chatserver"\naddress = "tcp://0.0.0.0:6000"\n'
        '[[listen]]\nprotocol = "mobileimsdk"\naddress = "tcp://0.0.0.0:8901"',
    ).config
    new = load(
        tmp_path,
        '[server]\nworkers = 3\n[store]\nurl = "sqlite:x"\n[accounts]\nhash_threads = 2\n'
        '[[listen]]\nprotocol = "chatserver"\naddress = "tcp://0.0.0.0:6000"\npace_ms = 9\nbacklog = 1\n'
        '[[listen]]\nprotocol = "echo"\naddress = "tcp://0.0.0.0:7"',
    ).config
    assert {change.key: change.effect for change in config_diff.changes(old, new)} == {
        "server.workers": "live",
        "store.url": "restart",
        "accounts.hash_threads": "worker",
        "listen[tcp://0.0.0.0:6000].pace_ms": "worker",
        "listen[tcp://0.0.0.0:6000].backlog": "restart",
        "listen[tcp://0.0.0.0:8901]": "restart",
        "listen[tcp://0.0.0.0:7]": "restart",
    }
    given = config_diff.applicable(old, new)
    assert given.server.workers == 3
    assert given.store == old.store
    assert given.accounts.hash_threads == 2
    assert given.listen == (msgspec.structs.replace(old.listen[0], pace_ms=9), old.listen[1])
    assert {change.effect for change in config_diff.changes(given, new)} == {"restart"}
    kept = config_diff.live(old, new)
    assert kept.accounts == old.accounts
    assert kept.listen == old.listen


def test_a_configuration_survives_the_order_socket(tmp_path):
    config = load(tmp_path, config_render.sample()).config
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(config)), Config) == config


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("tcp://127.0.0.1:0", ("tcp", "127.0.0.1", 0, "")),
        ("tcp://[::1]:6000", ("tcp", "::1", 6000, "")),
        ("ws://h:3000/websocket", ("ws", "h", 3000, "/websocket")),
        ("unix:/run/x", ("unix", "", 0, "/run/x")),
    ],
)
def test_addresses(text, parsed):
    assert urls.parse(text) == parsed


def test_the_place_of_a_broken_file(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text('[server\nruntime_dir = "there"\n')
    assert config_load.runtime_dir_of(file) == f"{tmp_path}/there"
    file.write_text("[server\n")
    assert config_load.runtime_dir_of(file) == "/run/chatd"


def test_workers_of_this_machine():
    assert config_load.workers_of(Config()) >= 1
    assert ListenerOptions(protocol="echo", address="tcp://h:1").backlog == 4096


@pytest.mark.parametrize(("written", "meant"), [("true", "open"), ("false", "closed")])
def test_registration_is_still_understood_as_it_was_written_before(tmp_path, written, meant):
    loaded = load(tmp_path, f"[accounts]\nregistration = {written}")
    assert loaded.config.accounts.registration == meant
    assert loaded.deprecated == (f'accounts.registration: {written} is deprecated, write "{meant}" (or "invite")',)
    today = load(tmp_path, f'[accounts]\nregistration = "{meant}"')
    assert (today.config, today.deprecated) == (loaded.config, ())


@pytest.mark.parametrize("written", ["1", '"true"', '"yes"', "[true]"])
def test_registration_takes_nothing_else(tmp_path, written):
    with pytest.raises(ConfigError, match=r"accounts\.registration"):
        load(tmp_path, f"[accounts]\nregistration = {written}")
