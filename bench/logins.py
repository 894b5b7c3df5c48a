"""What a login costs, by password and by token of each algorithm: the figures of docs/benchmarks.md.

Owns: one chatd with one worker and the shipped cost of hashes; users who log in over TCP (mobileimsdk), AT_ONCE at a
time, each with an account of their own, and leave. Everything stays on loopback.
Run: .venv/bin/python bench/logins.py [LOGINS]
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

AT_ONCE = 8
BY_PASSWORD = 100
"""Logins by password: each takes as long as a hundred others."""
BIN = Path(sys.executable).parent
PASSWORD = "correct horse battery"
SECRET = "a secret of this run, longer than 32 bytes"

CONFIG = """\
[server]
workers = 1
state_dir = "state"
runtime_dir = "{run}"
log_dir = "log"
[log]
level = "WARNING"
[accounts]
login = ["token", "password"]
[limits]
commands_per_s = 0
[penalties]
allow = ["127.0.0.1"]
[[listen]]
protocol = "mobileimsdk"
address = "tcp://127.0.0.1:{port}"
"""
KEYS = {
    "HS256": None,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def made_keys() -> dict[str, str]:
    """By algorithm: the secret, or the private key in PEM."""
    found = {}
    for algorithm, make in KEYS.items():
        pem = make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() if make else SECRET
        found[algorithm] = pem
    return found


async def log_in(port: int, name: str, secret: str) -> None:
    """Raises RuntimeError when it is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps({"loginUserId": name, "loginToken": secret, "firstLoginTime": 0})
    packet = json.dumps({"type": 0, "from": name, "to": "0", "dataContent": content, "QoS": True, "typeu": -1}).encode()
    writer.write(len(packet).to_bytes(4, "big") + packet)
    answer = json.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")))
    writer.close()
    code = json.loads(answer["dataContent"])["code"]
    if code:
        raise RuntimeError(f"{name} is refused: {code}")


async def crowd(port: int, logins: list[tuple[str, str]]) -> None:
    waiting = iter(logins)

    async def one_after_the_other() -> None:
        for name, secret in waiting:
            await log_in(port, name, secret)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(what: str, port: int, worker: int, logins: list[tuple[str, str]]) -> None:
    before, began = cpu_s(worker), time.monotonic()
    asyncio.run(crowd(port, logins))
    took_s, spent_s = time.monotonic() - began, cpu_s(worker) - before
    per_login = spent_s / len(logins) * 1e6
    print(f"| {what} | {len(logins)} | {len(logins) / took_s:,.0f} | {per_login:,.0f} |", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    keys = made_keys()
    with tempfile.TemporaryDirectory(prefix="chatd-logins-") as root, tempfile.TemporaryDirectory(prefix="cl") as run:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        config = Path(root, "chatd.toml")
        tables = [
            f'[[token_key]]\nkid = "{name}"\nalgorithm = "{name}"\nsecret = {json.dumps(key)}\nmints = true\n'
            for name, key in keys.items()
        ]
        config.touch(mode=0o600)
        config.write_text(CONFIG.format(port=port, run=run) + "".join(tables))
        arguments = ["-c", str(config)]
        names = [f"guest {number}" for number in range(1000, 1000 + count)]
        lines = "".join(f"{name},{PASSWORD}\n" for name in names[:BY_PASSWORD])
        command = [BIN / "chatctl", *arguments, "user", "add", "--csv", "--file", "-"]
        subprocess.run(command, input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
        allow_root = ["--allow-root"] if os.geteuid() == 0 else []
        server = subprocess.Popen([BIN / "chatd", *arguments, *allow_root])
        try:
            while subprocess.run([BIN / "chatctl", *arguments, "check"], capture_output=True).returncode:
                time.sleep(0.2)
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            worker = int(children[0])
            print("| login | logins | per second | µs of CPU each |\n|---|--:|--:|--:|")
            claims = {"iat": time.time(), "exp": time.time() + 3600}
            for algorithm, key in keys.items():
                secrets = [
                    jwt.encode({"sub": name, **claims}, key, algorithm, headers={"kid": algorithm}) for name in names
                ]
                if algorithm == "HS256":
                    measure("HS256, which makes the account", port, worker, list(zip(names, secrets, strict=True)))
                measure(algorithm, port, worker, list(zip(names, secrets, strict=True)))
            passwords = [(name, PASSWORD) for name in names[:BY_PASSWORD]]
            measure("password, the first time", port, worker, passwords)
            measure("password, again within 10 minutes", port, worker, passwords)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


if __name__ == "__main__":
    main()
