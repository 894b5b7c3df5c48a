"""Which options of logins are accepted together, and what is shown of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from chatd.config import diff, render
from chatd.config import load as config_load
from chatd.config.schema import Config
from chatd.config.strict import problems
from chatd.errors import ConfigError
from chatd.strict_modes import StrictModes
from chatd.tokens.check import check
from tests.tokens.keys import SECRET, pair

KEY = f'[[token_key]]\nalgorithm = "HS256"\nsecret = "{SECRET}"\n'
TOKEN = '[accounts]\nlogin = "token"\n'


def load(folder: Path, text: str) -> config_load.Loaded:
    file = folder / "chatd.toml"
    file.write_text(text)
    file.chmod(0o600)
    return config_load.load(file)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ("password",)),
        ('[accounts]\nlogin = "password"', ("password",)),
        (TOKEN + KEY, ("token",)),
        ('[accounts]\nlogin = ["password", "token"]\n' + KEY, ("password", "token")),
        (
            '[accounts]\nlogin = ["http"]\n[login_http]\nurl = "http://app:8000/x"\nallow_private = ["10.0.0.0/8"]',
            ("http",),
        ),
    ],
)
def test_one_kind_or_several(tmp_path: Path, text: str, kinds: tuple[str, ...]) -> None:
    loaded = load(tmp_path, text)
    assert loaded.config.accounts.kinds == kinds
    assert load(tmp_path, render.sections(loaded.config)).config.accounts.kinds == kinds


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("[accounts]\nlogin = []", "accounts.login", "at least once"),
        ('[accounts]\nlogin = ["password", "password"]', "accounts.login", "none twice"),
        (
            '[accounts]\nlogin = ["password", "open"]\ninsecure_open_login = true',
            "accounts.login",
            'got ["password", "open"]',
        ),
        ('[accounts]\nlogin = "jwt"', "accounts.login", '"password" or "token" or "http" or "open"'),
        (TOKEN, "accounts.login", "[[token_key]]"),
        ('[accounts]\nlogin = "http"', "accounts.login", "login_http.url"),
        (TOKEN.replace("\n", '\nregistration = "open"\n', 1) + KEY, "accounts.registration", 'must be "closed"'),
        ('[login_http]\nurl = "http://app.example/"', "login_http.url", "https://"),
        ('[login_http]\nurl = "https://u:p@app.example/"', "login_http.url", "user or a password"),
        ('[login_http]\nallow_private = ["10"]\n', "login_http.allow_private", "such as"),
        (KEY + 'public_key = "x"\n', "token_key[0]", "exactly one"),
        ('[[token_key]]\nalgorithm = "HS256"', "token_key[0]", "exactly one"),
        (KEY.replace('"HS256"', '""'), "token_key[0].algorithm", "is missing"),
        ('[[token_key]]\nalgorithm = "HS256"\npublic_key = "x"', "token_key[0].public_key", "needs a secret"),
        ('[[token_key]]\nalgorithm = "RS256"\npublic_key = "x"\nmints = true', "token_key[0].mints", "cannot sign"),
        ('[[token_key]]\njwks = "http://app.example/j"', "token_key[0].jwks", "https://"),
        ('[[token_key]]\njwks = "x.json"\nmints = true', "token_key[0]", "none that signs"),
        (f'{KEY}kid = "a"\n{KEY}kid = "a"\n', "token_key[1].kid", "is also token_key[0]"),
        ('[[token_key]]\nalgorithm = "HS256"\nsecret = "env:NO_SUCH"', "token_key[0].secret", "no variable NO_SUCH"),
        ('[[token_key]]\nalgorithm = "none"\nsecret = "x"', "token_key[0].algorithm", '"HS256"'),
    ],
)
def test_what_cannot_work(tmp_path: Path, text: str, key: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    line = next(line for line in caught.value.problems if line.startswith(f"{tmp_path}/chatd.toml: {key}: "))
    assert what in line
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "option", "text", "what"),
    [
        ("HS256", "secret", "short", "has 5 bytes"),
        ("HS256", "secret", pair("RS256").public, "text of a key pair"),
        ("RS256", "public_key", pair("ES256").public, "needs an RSA key"),
        ("ES256", "public_key", pair("EdDSA").public, "P-256"),
        ("EdDSA", "public_key", "garbage", "no public key in PEM"),
        ("EdDSA", "secret", pair("EdDSA").public, "no private key"),
    ],
    ids=itertools.count(),
)
def test_keys_that_cannot_be_used_end_the_start(
    tmp_path: Path, algorithm: str, option: str, text: str, what: str
) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    loaded = load(tmp_path, f'[[token_key]]\nalgorithm = "{algorithm}"\n{option} = "file:key"\n')
    with pytest.raises(ConfigError, match=rf"token_key\[0\]\.{option}: .*{what}"):
        check(loaded.config, loaded.name)


def test_secrets_are_hidden_and_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: dict[str, bool] = {}
    monkeypatch.setattr(
        StrictModes, "file", lambda self, path, *, secret=False: checked.update({Path(path).name: secret})
    )
    for name, text in (("token.secret", SECRET), ("http.secret", SECRET[::-1]), ("public.pem", pair("RS256").public)):
        (tmp_path / name).write_text(text)
    loaded = load(
        tmp_path,
        '[[token_key]]\nalgorithm = "HS256"\nsecret = "file:token.secret"\n'
        '[[token_key]]\nalgorithm = "RS256"\npublic_key = "file:public.pem"\n'
        '[[token_key]]\njwks = "keys/jwks.json"\n[login_http]\nsecret = "file:http.secret"\n',
    )
    assert loaded.config.token_key[0].secret == SECRET
    assert loaded.config.token_key[2].jwks == str(tmp_path / "keys" / "jwks.json")
    check(loaded.config, loaded.name)
    shown = [render.effective(loaded), str(render.mask_config(loaded.config))]
    changed = diff.changes(Config(), loaded.config) + diff.changes(loaded.config, Config())
    shown += [str(render.mask_option(change.key, change.new)) for change in changed]
    assert not any(secret in text for text in shown for secret in (SECRET, SECRET[::-1]))
    assert problems(loaded) == ()
    expected = {"token.secret": True, "http.secret": True, "public.pem": False, "jwks.json": False}
    assert {name: checked[name] for name in expected} == expected
    assert not render.holds_secret(loaded)
    assert render.holds_secret(load(tmp_path, KEY))
    assert render.holds_secret(load(tmp_path, '[login_http]\nsecret = "x"\n'))


def test_a_changed_secret_is_a_live_change_and_is_not_shown(tmp_path: Path) -> None:
    old = load(tmp_path, KEY).config
    new = load(tmp_path, KEY.replace(SECRET, SECRET[::-1])).config
    (change,) = diff.changes(old, new)
    assert (change.key, change.effect) == ("token_key[0].secret", "live")
    assert render.mask_option(change.key, change.new) == render.HIDDEN
    assert diff.live(old, new).token_key == new.token_key
    assert diff.live(old, load(tmp_path, TOKEN + KEY).config).accounts.kinds == ("password",), "for new workers only"
