"""Logins with tokens that expire: the client gets a new one for each login, and an old one leaves nobody waiting."""

from __future__ import annotations

from collections.abc import Callable

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.harness.daemon import Daemon
from tests.harness.deadline import run

SECRET = "a secret of this test, and of nobody else"


def test_a_new_token_is_asked_for_when_one_expires(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(accounts={"login": ["password", "token"], "end_at_expiry": True}, tokens={"leeway_s": 0})
    daemon.config["token_key"] = [{"algorithm": "HS256", "secret": SECRET}]
    daemon.write_config()
    people = People(daemon.start())

    async def story() -> None:
        ann, bob, cy = [await people.user(name) for name in ("ann", "bob", "cy")]
        async with places.node() as place:
            await place.run(
                """
                const { createHmac } = process.getBuiltinModule("node:crypto");
                let issued = 0;
                const sign = (name, lasts) => {
                  issued += 1;
                  const now = Math.floor(Date.now() / 1000);
                  const claims = { sub: name, iat: now, exp: now + lasts, jti: String(issued) };
                  const parts = [{ alg: "HS256", typ: "JWT" }, claims]
                    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
                  return `${parts}.${createHmac("sha256", SECRET).update(parts).digest("base64url")}`;
                };
                let asked = 0;
                const token = async () => {
                  asked += 1;
                  if (asked === 2) throw new Error("the issuer is down for a moment");
                  if (asked === 3) return sign(ann, -60); // it has expired on its way
                  return sign(ann, 2);
                };
                const fixed = await login(server, cy, { token: sign(cy, 2) });
                const a = await login(server, ann, { token }), b = await login(server, bob);
                let sent = 0;
                while (asked < 4) {
                  await b.send(ann, String(sent++));
                  await new Promise((resolve) => setTimeout(resolve, 20));
                }
                equal(await texts(a, sent), Array.from({ length: sent }, (_, at) => String(at)));
                await until("it is there again", () => a.state === State.LIVE);
                const ended = await fixed.receive().catch((error) => [error.constructor.name, error.why]);
                equal(ended, ["Kicked", "expired"]);
                equal(await refused(make(server, cy, { token: sign(cy, -60) }).open()),
                  ["LoginRefused", Code.TOKEN_EXPIRED, false]);
                equal(await refused(make(server, cy, { token: () => sign(cy, -60) }).open()),
                  ["LoginRefused", Code.TOKEN_EXPIRED, false]);
                """,
                server=server(people), ann=ann, bob=bob, cy=cy, SECRET=SECRET,
            )  # fmt: skip

    run(story())
