# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium driven over a pipe: opens a page, runs scripts, takes pictures.

The DevTools protocol on file descriptors 3 and 4, JSON messages ended by NUL,
so nothing but the standard library is needed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time

BLANK = "about:blank"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
]


class Browser:
    """One page of one browser; `with Browser(directory, url) as page: page.run("1 + 1")`."""

    def __init__(self, directory, url, *flags, size=(1400, 900)):
        self.directory, self.url, self.flags, self.size = directory, url, flags, size
        self.number = 0
        self.buffer = b""
        self.messages = []
        self.session = None

    def __enter__(self):
        their_read, self.write_end = os.pipe()
        self.read_end, their_write = os.pipe()
        # The browser wants descriptors 3 and 4; a shell puts them there.
        redirect = f'exec "$@" 3<&{their_read} 4>&{their_write}'
        size = f"--window-size={self.size[0]},{self.size[1]}"
        profile = f"--user-data-dir={self.directory}"
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", CHROMIUM, *FLAGS, size, profile, *self.flags],
            pass_fds=(their_read, their_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_read)
        os.close(their_write)
        target = self.call("Target.createTarget", url=BLANK)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        if self.url != BLANK:
            self.open(self.url)
        return self

    def __exit__(self, *_error):
        os.close(self.write_end)
        os.close(self.read_end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait_for("document.body && document.body.dataset.ready === '1'")

    def wait_for(self, script, seconds=30):
        deadline = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script}; the page said {self.errors()}")
            time.sleep(0.05)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.messages.append(answer)
        raise TimeoutError(method)

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            if not select.select([self.read_end], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self.read_end, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser is gone")
            self.buffer += chunk
        one, _nul, self.buffer = self.buffer.partition(b"\0")
        return json.loads(one)

    def run(self, script):
        """Evaluate an expression in the page; promises are waited for."""
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def errors(self):
        """What the page logged as an error, refused by its policy, or threw."""
        found = []
        for message in self.messages:
            entry = message.get("params", {}).get("entry", {})
            if message.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(message["params"]["exceptionDetails"])[:1500])
            elif entry.get("level") == "error":
                found.append(entry["text"])
        return found

    def key(self, key):
        for kind in ("keyDown", "keyUp"):
            extra = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **extra)

    def mouse(self, x, y, *, click=False, count=1):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for number in range(1, count + 1) if click else ():
            where = {"x": x, "y": y, "button": "left", "clickCount": number}
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, **where)

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
