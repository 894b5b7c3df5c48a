"""A real S3 server of the tests, on loopback: moto, which keeps its objects in memory."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request

from tests.harness.daemon import free_port

BUCKET = "chatd-files"
_START_S = 30.0


class S3Server:
    """settings: for files.s3_settings."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.files.s3_program", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.settings = (
            f"AWS_ENDPOINT_URL=http://127.0.0.1:{self.port}\nAWS_REGION=us-east-1\n"
            "AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n"
        )
        self._wait()
        make = urllib.request.Request(f"http://127.0.0.1:{self.port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(make, timeout=10):
            pass

    def _wait(self) -> None:
        until = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, "the S3 server did not start"
                assert time.monotonic() < until, "the S3 server does not listen"
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
