"""The database of the old C++ chat server: as it was made, and what its clients and the years left in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.harness.mariadb import MariaDB

SCHEMA = (
    "CREATE TABLE user (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50) NOT NULL UNIQUE,"
    " password VARCHAR(50) NOT NULL, state ENUM('online','offline') DEFAULT 'offline') {charset}",
    "CREATE TABLE friend (userid INT NOT NULL, friendid INT NOT NULL, PRIMARY KEY (userid, friendid)) {charset}",
    "CREATE TABLE allgroup (id INT PRIMARY KEY AUTO_INCREMENT, groupname VARCHAR(50) NOT NULL UNIQUE,"
    " groupdesc VARCHAR(200) DEFAULT '') {charset}",
    "CREATE TABLE groupuser (groupid INT NOT NULL, userid INT NOT NULL,"
    " grouprole ENUM('creator','normal') DEFAULT 'normal', PRIMARY KEY (groupid, userid)) {charset}",
    "CREATE TABLE offlinemessage (userid INT NOT NULL, message VARCHAR(500) NOT NULL) {charset}",
)
LOOSE = (
    "CREATE TABLE User (id INT, name VARCHAR(90), password VARCHAR(50), state VARCHAR(9)) {charset}",
    "CREATE TABLE Friend (userid INT, friendid INT) {charset}",
    "CREATE TABLE AllGroup (id INT, groupname VARCHAR(90), groupdesc VARCHAR(200)) {charset}",
    "CREATE TABLE GroupUser (groupid INT, userid INT, grouprole VARCHAR(9)) {charset}",
    "CREATE TABLE OfflineMessage (userid INT, message VARCHAR(500)) {charset}",
)
"""A copy somebody made by hand: no keys, other capitals."""
TIME = "2021-03-04 05:06:07"
Rows = Iterable[tuple[Any, ...]]


class OldDatabase:
    """charset: of the tables. names: what the old server said in SET NAMES."""

    def __init__(
        self, server: MariaDB, schema: tuple[str, ...] = SCHEMA, charset: str = "utf8mb3", names: str = "utf8mb4"
    ) -> None:
        self.name = server.database()
        self.url = server.url(self.name)
        self._db = server.connect(self.name)
        self._db.query("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        for statement in schema:
            self._db.query(statement.format(charset=f"DEFAULT CHARSET={charset}"))
        self._db.query(f"SET NAMES {names}")
        self.tables = [statement.split()[2] for statement in schema]
        self.server = server

    def fill(self, table: str, rows: Rows) -> None:
        """Texts travel as UTF-8 bytes, whatever SET NAMES has said: so did the old clients' texts."""
        (name,) = (one for one in self.tables if one.lower() == table)
        with self._db.cursor() as cursor:
            for row in rows:
                values = [one.encode() if isinstance(one, str) else one for one in row]
                cursor.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", values)

    def users(self, rows: Rows) -> None:
        self.fill("user", [(*row, "offline") for row in rows])

    def close(self) -> None:
        self._db.close()


def one_chat(sender: int, to: int, text: str, time: str = TIME) -> str:
    return json.dumps({"msgid": 6, "id": sender, "name": "n", "toid": to, "msg": text, "time": time})


def group_chat(sender: int, group: int, text: str, time: str = TIME) -> str:
    return json.dumps({"msgid": 11, "id": sender, "name": "n", "groupid": group, "msg": text, "time": time})


def friend_request(sender: int, to: int) -> str:
    return json.dumps({"msgid": 7, "msg": "be my friend", "from": sender, "toid": to})


def ordinary(server: MariaDB, charset: str = "utf8mb3", names: str = "utf8mb4") -> OldDatabase:
    """Small and sound."""
    old = OldDatabase(server, charset=charset, names=names)
    old.users([(13, "zhang san", "123456"), (15, "李四", "666666"), (19, "liu shuo", "密码 ü"), (21, "gao yang", "x")])
    old.fill("friend", [(13, 15), (15, 19), (19, 15)])
    old.fill("allgroup", [(1, "C++ chat project", "a 聊天 project"), (4, "tennis", "")])
    members = [(1, 13, "creator"), (1, 15, "normal"), (1, 19, "normal"), (4, 21, "creator")]
    old.fill("groupuser", members)
    first, second = group_chat(13, 1, "first"), group_chat(13, 1, "second")
    old.fill(
        "offlinemessage",
        [
            (15, one_chat(13, 15, "你好 李四")), (15, first), (15, friend_request(21, 15)), (15, second), (19, second),
            (15, one_chat(19, 15, "hi")), (13, one_chat(15, 13, "back", "2021-03-05 00:00:00")),
        ],
    )  # fmt: skip
    return old
