"""A small, faithful server of the chatserver wire in streaming mode, with faults on order.

Keeps accounts, friends, groups and numbered conversations in memory; stores a message once per (sender, fp); gives at
login what it does not know to be delivered. What it does not do: passwords worth the name, compatible mode.

Faults: `cut()` ends connections; `lose_acks` messages are stored but their acknowledgement is a broken connection;
`lose_frames` messages break the connection before they are stored; after a cut everything given is given again;
`forget_deliveries()` does that after any end; `refuse_next` answers messages with errors first; `deaf` accepts and
says nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

TIME = "2024-05-06 07:08:09"

Frame = dict[str, Any]


@dataclass
class Account:
    id: int
    name: str
    password: str
    friends: set[int] = field(default_factory=set)
    groups: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    waiting: list[Frame] = field(default_factory=list)
    given: list[Frame] = field(default_factory=list)
    peer: Peer | None = None


@dataclass
class Group:
    id: int
    name: str
    description: str
    members: list[int]


class Peer:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.account: Account | None = None

    def say(self, msgid: int, **fields: Any) -> None:
        self.writer.write(json.dumps({"msgid": msgid, **fields}).encode() + b"\0")

    def cut(self) -> None:
        """As a crash does: at once, unsent bytes are lost. So nothing given is known to be delivered."""
        if self.account is not None:
            self.account.waiting = self.account.given + self.account.waiting
            self.account.given = []
        self.leave()
        self.writer.transport.abort()

    def leave(self) -> None:
        if self.account is not None and self.account.peer is self:
            self.account.peer = None
        self.account = None


class SmallServer:
    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.groups: dict[int, Group] = {}
        self.stored: list[Frame] = []
        self.received: list[Frame] = []
        self.logins = 0
        self.connects = 0
        self.lose_acks = 0
        self.lose_frames = 0
        self.refuse_next: list[Frame] = []
        self.deaf = False
        self.unheard = 0
        self.numbering = True
        self.port = 0
        self._by_fp: dict[tuple[int, str], Frame] = {}
        self._seq: dict[object, int] = {}
        self._peers: set[Peer] = set()
        self._server: asyncio.Server | None = None

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """The first time on a free port, later on the same one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        for peer in list(self._peers):
            peer.cut()

    def account(self, name: str, password: str = "pw") -> Account:
        account = Account(len(self.accounts) + 1, name, password)
        self.accounts[account.id] = account
        return account

    def befriend(self, a: Account, b: Account) -> None:
        a.friends.add(b.id)
        b.friends.add(a.id)

    def group(self, name: str, *members: Account) -> Group:
        group = Group(len(self.groups) + 1, name, "about " + name, [member.id for member in members])
        self.groups[group.id] = group
        for member in members:
            member.groups.append(group.id)
        return group

    def forget_deliveries(self, account: Account) -> None:
        account.waiting = account.given + account.waiting
        account.given = []

    def texts(self) -> list[str]:
        return [frame["msg"] for frame in self.stored]

    def message(self, sender: Account, to: Account, text: str) -> None:
        """As if `sender` had sent it from somewhere else."""
        self.store(sender, {"msgid": 6, "toid": to.id, "msg": text}, [to])

    # ------------------------------------------------------------ frames

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer)
        self._peers.add(peer)
        self.connects += 1
        buffer = b""
        try:
            while data := await reader.read(65536):
                *frames, buffer = (buffer + data).split(b"\0")
                for frame in frames:
                    if self.deaf:
                        self.unheard += 1
                    elif not writer.transport.is_closing():
                        self._take(peer, json.loads(frame))
        except ConnectionError:
            pass
        finally:
            peer.leave()
            self._peers.discard(peer)
            writer.close()

    def _take(self, peer: Peer, frame: Frame) -> None:
        self.received.append(frame)
        msgid = frame["msgid"]
        if msgid == 1:
            self._login(peer, frame)
        elif msgid == 4:
            self._register(peer, frame)
        elif peer.account is None:
            peer.say(12, errno=301, errmsg="not logged in", ref=msgid)
        elif frame["id"] != peer.account.id:
            peer.say(12, errno=1031, errmsg="the sender is not the user logged in", ref=msgid)
        elif msgid == 3:
            peer.leave()
        elif msgid in (6, 11):
            self._chat(peer, peer.account, frame)
        else:
            {7: self._request, 8: self._answer, 9: self._create, 10: self._join}[msgid](peer, peer.account, frame)

    def _login(self, peer: Peer, frame: Frame) -> None:
        self.logins += 1
        assert frame["framing"] == "nul"
        wanted = ("id", "name")
        found = [a for a in self.accounts.values() if any(frame.get(key) == getattr(a, key) for key in wanted)]
        if not found or found[0].password != frame["password"]:
            peer.say(2, errno=1, errmsg="unknown user or wrong password")
            return
        account = found[0]
        if account.peer is not None:
            peer.say(2, errno=2, errmsg="this account is already logged in")
            return
        account.peer, peer.account = peer, account
        asked = [self._request_frame(self.accounts[sender], account) for sender in account.requests]
        waiting = asked + [{"msgid": 11 if "groupid" in message else 6, **message} for message in account.waiting]
        account.given += account.waiting
        account.waiting = []
        lists = {
            "offlinemsg": [json.dumps(each) for each in waiting],
            "friends": [self._person(friend) for friend in sorted(account.friends)],
            "groups": [self._group(self.groups[group]) for group in account.groups],
        }
        peer.say(2, errno=0, id=account.id, name=account.name, **{key: value for key, value in lists.items() if value})

    def _person(self, user_id: int, **more: str) -> str:
        account = self.accounts[user_id]
        state = "online" if account.peer else "offline"
        return json.dumps({"id": account.id, "name": account.name, "state": state, **more})

    def _group(self, group: Group) -> str:
        roles = ["creator"] + ["normal"] * len(group.members)
        users = [self._person(member, role=role) for member, role in zip(group.members, roles, strict=False)]
        about = {"id": group.id, "groupname": group.name, "groupdesc": group.description, "users": users}
        return json.dumps(about)

    def _register(self, peer: Peer, frame: Frame) -> None:
        if any(account.name == frame["name"] for account in self.accounts.values()):
            peer.say(5, errno=1)
        else:
            peer.say(5, errno=0, id=self.account(frame["name"], frame["password"]).id)

    def _request_frame(self, sender: Account, to: Account) -> Frame:
        text = f"{sender.name} ({sender.id}) asks to be your friend"
        return {"msgid": 7, "msg": text, "from": sender.id, "toid": to.id, "name": sender.name}

    def _request(self, peer: Peer, sender: Account, frame: Frame) -> None:
        to = self.accounts.get(frame["friendid"])
        if to is None:
            peer.say(12, errno=1032, errmsg="no such user", ref=7)
            return
        to.requests.append(sender.id)
        if to.peer:
            to.peer.say(**self._request_frame(sender, to))

    def _answer(self, peer: Peer, account: Account, frame: Frame) -> None:
        to = self.accounts[frame["friendid"]]
        account.requests.remove(to.id)
        if frame["flag"]:
            self.befriend(account, to)
        verb = "accepted" if frame["flag"] else "refused"
        if to.peer:
            text = f"{account.name} ({account.id}) has {verb} your friend request"
            to.peer.say(8, msg=text, toid=to.id, name=account.name, flag=frame["flag"], **{"from": account.id})

    def _create(self, peer: Peer, account: Account, frame: Frame) -> None:
        group = self.group(frame["groupname"], account)
        group.description = frame["groupdesc"]
        peer.say(14, errno=0, groupid=group.id, groupname=group.name)

    def _join(self, peer: Peer, account: Account, frame: Frame) -> None:
        group = self.groups.get(frame["groupid"])
        if group is None:
            peer.say(12, errno=1034, errmsg="no such group", ref=10)
            return
        group.members.append(account.id)
        account.groups.append(group.id)
        peer.say(14, errno=0, groupid=group.id, groupname=group.name)

    # ------------------------------------------------------------ messages

    def _chat(self, peer: Peer, sender: Account, frame: Frame) -> None:
        if self.refuse_next:
            peer.say(12, ref=frame["msgid"], **self.refuse_next.pop(0))
            return
        if self.lose_frames:
            self.lose_frames -= 1
            peer.cut()
            return
        to = self._recipients(sender, frame)
        if to is None:
            peer.say(12, errno=1032, errmsg="no such user", ref=frame["msgid"])
            return
        stored = self._by_fp.get((sender.id, frame["fp"])) or self.store(sender, frame, to)
        if self.lose_acks:
            self.lose_acks -= 1
            peer.cut()
            return
        peer.say(13, fp=frame["fp"], seq=stored.get("seq", 0), time=TIME)

    def _recipients(self, sender: Account, frame: Frame) -> list[Account] | None:
        if frame["msgid"] == 11:
            group = self.groups.get(frame["groupid"])
            if group is None or sender.id not in group.members:
                return None
            return [self.accounts[member] for member in group.members if member != sender.id]
        found = [a for a in self.accounts.values() if a.id == frame.get("toid") or a.name == frame.get("toname")]
        return found or None

    def store(self, sender: Account, frame: Frame, to: list[Account]) -> Frame:
        stored: Frame = {"id": sender.id, "name": sender.name, "msg": frame["msg"], "time": TIME}
        conversation: object = frozenset((sender.id, to[0].id)) if frame["msgid"] == 6 else frame["groupid"]
        if frame["msgid"] == 11:
            stored["groupid"] = frame["groupid"]
        else:
            stored["toid"] = to[0].id
        if self.numbering:
            stored["seq"] = self._seq[conversation] = self._seq.get(conversation, 0) + 1
        self.stored.append(stored)
        if "fp" in frame:
            self._by_fp[sender.id, frame["fp"]] = stored
        for account in to:
            if account.peer:
                account.peer.say(frame["msgid"], **stored)
                account.given.append(stored)
            else:
                account.waiting.append(stored)
        return stored
