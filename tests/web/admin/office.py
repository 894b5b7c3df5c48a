"""The operator's page in a real browser: a server that serves it, and operators who use it.

Owns: Office, a daemon with the page; Operator, one operator's page.
Elsewhere: the browser (tests.web.desk), codes of the second factor (tests.http.admin.operator).
Fails: as tests.web.desk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.harness.daemon import free_port
from tests.http.admin.operator import Codes
from tests.web.desk import Site, Stage, Visitor, secret_of


class Office(Site):
    """codes: of the second factors, by name of the administrator."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.ports["admin"] = free_port()
        address = f"http://127.0.0.1:{self.ports['admin']}"
        self.config["listen"].append({"protocol": "http", "serves": ["admin"], "address": address})
        self.write_config()
        self.codes: dict[str, Codes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['admin']}/"

    def administrators(self, **roles: str) -> None:
        """Make accounts with these names and roles."""
        self.people(*roles)
        for name, role in roles.items():
            code, out, err = self.ctl_said("admin", "add", name, "--role", role, "--json")
            assert code == 0, err
            self.codes[name] = Codes(json.loads(out)["secret"])


class Operator:
    """page: of the browser. codes: of the operator's second factor."""

    def __init__(self, visitor: Visitor, name: str, codes: Codes) -> None:
        self.page = visitor.page
        self.name = name
        self.codes = codes
        self.visitor = visitor

    async def log_in(self) -> None:
        await self.fill_in(secret_of(self.name), self.codes.next())
        await self.page.wait_for_selector(".operator")

    async def fill_in(self, password: str, code: str) -> None:
        await self.page.goto(f"{self.visitor.site.url}admin")
        await self.page.fill("input[name=name]", self.name)
        await self.page.fill("input[name=password]", password)
        await self.page.fill("input[name=code]", code)
        await self.page.click("button[type=submit]")

    async def goes_to(self, view: str) -> None:
        """view: as in the address."""
        await self.page.click(f"nav a[href='#{view}']")
        await self.page.wait_for_selector(f"nav a[href='#{view}'][aria-current=page]")

    async def gives_a_code(self) -> None:
        """The window that asks for one is filled in."""
        await self.page.fill("dialog input[name=code]", self.codes.next())
        await self.page.click("dialog form button[type=submit]")
        await self.page.wait_for_selector("dialog input[name=code]", state="detached")


async def operator(stage: Stage, name: str, **options: Any) -> Operator:
    """Who is logged in. options: as of Stage.visitor."""
    office = stage.site
    assert isinstance(office, Office)
    one = Operator(await stage.visitor(**options), name, office.codes[name])
    await one.log_in()
    return one
