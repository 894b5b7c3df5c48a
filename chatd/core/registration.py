"""Registration: accounts that clients make.

Owns: who may register (closed, invite, open), and the order of the checks: what is cheap to check is checked before a
password is hashed.
Elsewhere: how many accounts one source may register (core.login_guard), the rules for names (core.accounts) and
passwords (core.password_policy), the form of invite codes (invite_codes), counting their uses (the store).
Fails: Refused, Unavailable; then there is no new account, and no use of an invite code is counted.
"""

from __future__ import annotations

from chatd import invite_codes, wall_clock
from chatd.core import trail
from chatd.core.accounts import Accounts, check_new
from chatd.core.admission import Applicant
from chatd.core.login_guard import LoginGuard
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.privacy import check_private
from chatd.core.services import Services
from chatd.core.sessions.session import Peer
from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.protocol import Register
from chatd.security_log import SecurityEvent
from chatd.store.contract import Tables


class Registration:
    def __init__(self, services: Services, accounts: Accounts, plugins: PluginPipeline, guard: LoginGuard) -> None:
        self._guard = guard
        self._plugins = plugins
        self._store = services.store
        self._config = services.config
        self._accounts = accounts

    async def register(self, peer: Peer, command: Register) -> User:
        """The new user. peer: whose client registers.

        Raises:
            Refused: REGISTRATION_CLOSED, INVITE_NEEDED, NAME_NOT_ALLOWED, PASSWORD_NOT_ALLOWED, NAME_TAKEN, BUSY,
                TOO_MANY_ATTEMPTS, TLS_NEEDED, or what a plug-in says.
            Unavailable: from the store.
        """
        try:
            check_private(peer, self._config())
            user = await self._make(peer, command, self._guard.registrant(peer))
        except Refused as refused:
            reason = trail.reason_of(refused)
            trail.record(SecurityEvent.REGISTRATION_REFUSED, peer, reason=reason, name=command.name, user=0)
            raise
        trail.record(SecurityEvent.REGISTERED, peer, name=user.name, user=user.id)
        return user

    async def _make(self, peer: Peer, command: Register, applicant: Applicant) -> User:
        """applicant: for whom the password is hashed. Raises Refused, Unavailable."""
        config = self._config()
        if config.accounts.registration == "closed":
            raise Refused(ErrorCode.REGISTRATION_CLOSED)
        code_hash = ""
        if config.accounts.registration == "invite":
            code_hash = await self._check_invite(command.invite)
        name = check_new(command.name, command.secret, config)
        await self._plugins.before_register(peer, name)
        hashed = await self._accounts.hasher.hash(command.secret, applicant)
        now_ms = wall_clock.now_ms()

        def create(tables: Tables) -> User:
            invite_id = tables.invites.check(code_hash, now_ms) if code_hash else 0
            user = tables.accounts.create(name, hashed, now_ms)
            if invite_id:
                tables.invites.use(invite_id)
            return user

        return await self._store.write(create)

    async def _check_invite(self, typed: str) -> str:
        """The hash of a code that is valid now. Raises Refused INVITE_NEEDED; Unavailable."""
        symbols = invite_codes.read(typed)
        if not symbols:
            raise Refused(ErrorCode.INVITE_NEEDED)
        code_hash, now_ms = invite_codes.hashed(symbols), wall_clock.now_ms()
        if not await self._store.read(lambda tables: tables.invites.find(code_hash, now_ms)):
            raise Refused(ErrorCode.INVITE_NEEDED)
        return code_hash
