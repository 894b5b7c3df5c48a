"""What there is to know about a command beyond its one line: shown by `chatctl COMMAND --help` and chatctl(8).

Owns: the text of each command, by its name, and putting them into the parsers.
Elsewhere: the commands, their one line and their options (chatctl.__main__), the page (docs/manual_pages.py).
Fails: KeyError for a text about a command that does not exist.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from chatd.arguments import HelpText

_TEXTS = """\
status
    Works even if every worker is stuck. Exit code: 0 running, 1 dead with a pid file left behind, 3 not running, 4
    unknown.
workers
    Exit code as for `status`.
check
    Prints one line with every reason why the server is not well; docs/runbook.md says what to do about each.
top
    Rates are per second, made from counters: a worker that was replaced counts from nothing. Keys: s and S sort by the
    next column and the one before, r reverses, p pauses, + and - change the interval, ? explains the columns, q quits.
clients
    The list is fetched in pages that do not disturb the workers; a session that begins or ends meanwhile may be
    missing. Exit code 75 if a worker or a host did not answer; it is named.
trace
    With `--on`, each step of the user's messages is a record in the log for a time, at most 24 hours: accepted, stored,
    published, arrived, given, acknowledged. Texts are never recorded. Without it, the logs of this host, rotated and
    compressed ones too, are searched for a message (CONVERSATION.SEQ, or its fp) or a user. Exit code 1 if they say
    nothing of it.
doctor
    Run it as root, who sees most. Each finding says what it means and what to do. Exit code: 0 all is well, 1 warnings,
    2 errors.
log-level
    A worker that is replaced begins with the level of the configuration again.
reload
    If the configuration has mistakes, each is printed as a line `file: key: what`, the exit code is 78, the old
    configuration stays in effect, and the log and `status` show the failed reload.
config
    `diff` names the command that applies each change: a reload, new workers, or a restart.
reopen
    After another program, such as logrotate, has moved them.
stop
    It ends within timeouts.drain_s; with `--fast`, within 5 seconds.
restart-workers
    Each new worker accepts before the old one leaves, so never fewer than are wanted accept. Options that take effect
    in new workers are then in effect. One that cannot start is tried once more; then the exit code is 75, the output
    says which workers were not replaced, and they serve on.
drain
    New connections are refused at once, so that load balancers see it. Returns when the last worker has left, within
    timeouts.drain_s. The master stays, and keeps the addresses. `--host` says that this host is meant, as always.
undrain
    Returns when every worker is ready, with exit code 75 if that takes longer than a minute or an address cannot be
    listened on.
scale
    Waits until they are ready. It holds until a restart, or until server.workers is changed and reloaded. The limit is
    eight workers per core; with `--force` it is 256.
broadcast
    Tells every session on every host of the cluster, each in the terms of its client, and prints how many were told.
    It is not stored: users who are offline never see it. At most six texts within a minute. Exit code: 1 if there is no
    such user or group, 75 if a host did not answer.
ban
    Connections from there end, and new ones are closed when they are accepted, before TLS and without an answer. The
    users whose sessions end are told the reason. Bans are kept in the store, whether the server is running or not.
    chatctl asks for confirmation before it bans this host, an address in penalties.allow, or your own address. Exit
    code: 1 if nothing was changed, 75 if a host did not answer; it applies the ban when it can read the store.
unban
    Exit code 1 if it is not banned.
backup
    The file shows the store at one moment, and has everything that was acknowledged before the command began. It
    appears under its name only when it is complete, checked and on the disk; its mode is 0600. A MySQL store becomes an
    SQLite file, too. It is written by the user of the server. Exit code 73 if it cannot be written.
restore
    The file is copied beside the store, checked, and migrated if it is of an older version; then the names are
    exchanged, both at once. The old store is kept as chatd.db.replaced-TIME. A MySQL store must be empty. Exit code: 75
    if the server is running, 78 if the file is not sound.
verify
    Reads all pages, and checks the rules about the rows: conversations without gaps, cursors in range, members,
    senders and friends that exist, indexes that agree. Exit code 1 if the store is not sound.
vacuum
    A few megabytes stay for new messages. A MySQL store is rewritten by OPTIMIZE TABLE, with or without `--full`.
files verify
    Works whether the server runs or not. Without `--fast` all content is read. Exit code: 1 if content is missing or
    damaged, 78 if no place for files is configured.
files clean
    Content that is newer than an hour stays, and what running uploads need. Says how much it is and asks before it
    deletes; without a terminal it needs `--yes`.
kick
    Ends every session on every host of the cluster, and prints how many there were. Exit code: 1 if the user does
    not exist, 75 if a host did not answer. Such hosts are named, and are asked again for 10 minutes, so that a host
    that was cut off ends the sessions when it returns. Sessions that began after the command are not ended.
user
    Works directly on the store, whether the server is running or not; the store is named on standard error, and
    only `add` creates one. Passwords are read from the terminal or the first line of standard input. Exit code 1 if
    a change is refused.
user add
    A line of a file is a name and a password, separated by spaces; with `--csv`, by a comma. Empty lines and lines
    that begin with # are ignored. A line that fails is reported with its number, and the others are added. Exit
    code 1 if any failed.
user passwd
    The sessions end within a second, whether the server can be asked or not.
user lock
    The sessions end within a second, whether the server can be asked or not. Only somebody who knows the password
    is told that the account is locked.
user del
    The sessions end within a second, whether the server can be asked or not.
user show
    Shows id, name, creation, when last seen, since when and why it is locked, its sessions, the numbers of friends and
    groups, how many messages wait, from how many networks the user logged in lately, and failures and penalties.
user sessions
    Shows wire, since when, the client's address, host and worker. Exit code 75 if some workers did not answer.
token
    Signed with the first [[token_key]] that has mints = true; run it as a user who may read that key. With the token,
    where the password would be, the user logs in until it expires, and the account is made if accounts.new_at_login
    says so. The security trail records who made it. Exit code 1 if no key may sign, or the time is longer than
    tokens.max_lifetime_s.
invite add
    With the code, accounts can be registered if accounts.registration is "invite".
key
    Works directly on the store, whether the server is running or not. Workers of every host use a change within a
    second. docs/api.md says what an application does with a key.
key add
    The key is printed once; whoever has it can do what its scopes allow, so keep it like a password. Exit code 1 if a
    valid key has the name.
key rotate
    Exit code 1 if no valid key has the name.
key revoke
    Exit code 1 if no valid key has the name.
admin
    Works directly on the store, whether the server is running or not. docs/admin.md explains the operator's page.
admin add
    The second factor is shown once, as a picture for an app and as the address in it; whoever has it and the password
    can do what the role allows. With `--json`, there is no picture. Exit code 1 if the account is one already, or has
    no password.
admin reset
    Exit code 1 if the account is no administrator.
admin revoke
    Exit code 1 if the account is no administrator.
webhook
    Works directly on the store, whether the server is running or not; a running one goes on from the change within a
    second. docs/webhooks.md explains the states.
webhook list
    WAITING counts events that the receiver has not taken; gaps in the numbers of messages are counted too.
webhook test
    Uses the URL, the secrets and the limits of the configuration. Exit code 1 if the receiver does not take the event.
webhook enable
    Exit code 1 if the store knows no such webhook.
webhook replay
    What is sent again has another webhook-id, so receivers that drop repetitions take it; each event has its own id as
    before. Messages that retention has deleted are not sent. Exit code 1 if the store knows no such webhook.
webhook forget
    Exit code 1 if the webhook is configured here, or the store does not know it.
bridge
    Works directly on the store, whether the server is running or not. docs/bridges.md explains the states.
bridge list
    WAITING counts messages for users of the other side that RabbitMQ does not have yet; SENT those that it has.
bridge test
    Uses the URL and the queues of the configuration; a queue that is missing is made. Exit code 1 if the bridge would
    not work.
bridge forget
    What was said is kept, and so are the accounts of the users of the other side; messages to them are refused. If the
    bridge is configured again, they can be written to again. Exit code 1 if the bridge is configured here, or the
    store does not know it.
push key
    Needs neither a server nor the configuration. The file is made with mode 600, and never replaced; its owner must be
    the user who starts chatd. Give the same file to every host of a cluster. Exit code 73 if it cannot be made.
push show
    NOTIFIER is the worker that notifies, "-" if none does.
invite revoke
    Exit code 1 if there is no such invite, or it was revoked before.
migrate
    Prints the plan first. An SQLite store is backed up, next to the database or to the given file, and the copy is
    verified. For MySQL, make the backup yourself, and confirm with `--no-backup` that you have one. Exit code: 75
    if a server or another process uses the store, 78 if the store, or the running server, is newer than this
    command.
copy-store
    sqlite:FILE is relative to server.state_dir. Use env:NAME or file:PATH for a password, because everybody on the
    host can see it in an argument. After an interruption, the same command continues; until the copy is complete,
    no server uses the destination. At the end both stores are read again and compared. Exit code: 73 if the
    destination is not empty, 75 if a store is in use or the two differ at the end.
import-chatserver
    Stop the old server first: while its database has other connections, or a server given by `--old-server` answers,
    nothing is imported. Ids are kept, passwords are hashed. The character set is guessed, sample names are shown, and
    in doubt nothing is imported until `--charset` says which one is right. Rows that cannot be imported are written to
    a file, by default import-chatserver.rejected.jsonl in server.state_dir. After an interruption, the same command
    continues; repeated after an import it does nothing. `--undo` takes an import back while nobody has sent, added or
    changed anything since (logging in and receiving do not count). Exit code: 64 if the character set is not certain,
    75 if the old server seems to run, 73 if the store is not empty or must not be undone.
"""
"""Each text below its command, or command and verb. Words between backquotes are typed as they are."""


def _by_command(texts: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in texts.splitlines():
        if line.startswith(" "):
            found[name].append(line.strip())
        else:
            name = line
            found[name] = []
    return {name: " ".join(lines) for name, lines in found.items()}


TEXTS: Mapping[str, str] = _by_command(_TEXTS)


def add_texts(parser: argparse.ArgumentParser) -> None:
    """Show the text of each command below its options. Raises KeyError."""
    parsers = dict(subcommands(parser))
    for one in parsers.values():
        one.formatter_class = HelpText
    for name, text in TEXTS.items():
        one = parsers[name]
        one.epilog = f"{text}\n\n{one.epilog}" if one.epilog else text


def subcommands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, and every verb of a command, in the order of the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield f"{before}{name}", one
                yield from subcommands(one, f"{before}{name} ")
