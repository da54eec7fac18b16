"""Starting the server."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from moda.errors import ModaError, why
from moda.validation import check_choice, check_whole

ENDING = 9.0  # seconds that utterances have to end when the server goes


def run(
    portraits: list[Path],
    model: str,
    device: str,
    host: str,
    port: int,
    size: int,
    token: str | None,
    voice_command: str | None,
    voice_url: str | None,
    report: Callable[[str], None] = print,
) -> None:
    """Serve until a signal comes. Errors: ModaError for what was given, and without the extra [serve]."""
    try:
        import uvicorn

        from moda.serve.app import build
        from moda.serve.hosts import Hosts
        from moda.serve.hub import SIZES, Hub
    except ImportError as error:
        raise ModaError(
            f'the server needs more packages ({error}): pip install "moda-talkinghead[serve]"'
        ) from error
    from moda.pipeline import TalkingHead
    from moda.voice import Voice

    check_whole("port", port, 0, 65535)
    check_choice("size", size, SIZES)
    voice = Voice(voice_command, voice_url) if voice_command or voice_url else None
    if not loopback(host) and token is None:
        token = secrets.token_urlsafe(16)
    listening = bound(host, port)  # before the models are loaded
    port = listening.getsockname()[1]
    head = TalkingHead.from_pretrained(model, device)
    hosts = Hosts(head)
    hub = Hub(head, voice, token, size, hosts=hosts)
    for path in portraits:
        hub.add(path)
    logging.getLogger("moda.serve").setLevel(logging.INFO)
    if hub.portraits:
        first = next(iter(hub.portraits.values())).characters[size]
        hosts.ready(first)
        hub.measure(first)
        report(f"{hub.admission.room(hub.costs[size])} sessions of {size} pixels fit on this machine")
    address = f"http://{'[' + host + ']' if ':' in host else host}:{port}/"
    report(f"{address}{'?token=' + token if token else ''} (end with Ctrl-C)")
    config = uvicorn.Config(
        build(hub), host=host, port=port, log_level="warning", ws_max_size=1 << 20, ws_ping_interval=20,
        timeout_graceful_shutdown=8, server_header=False,
    )  # fmt: skip

    class Polite(uvicorn.Server):
        """The first signal lets utterances end, at most ENDING seconds; a second one does not wait."""

        def handle_exit(self, sig: int, frame) -> None:
            if hub.closing or not hub.sessions:
                super().handle_exit(sig, frame)
                return
            hub.closing = True

            def leave() -> None:
                until = time.monotonic() + ENDING
                while hub.sessions and time.monotonic() < until:
                    time.sleep(0.1)
                super(Polite, self).handle_exit(sig, frame)

            threading.Thread(target=leave, daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):  # the signal that ended it, passed on once it has ended
        Polite(config).run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket at the address. Errors: ModaError where there is none to be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        raise ModaError(f"cannot listen at {host}:{port}: {why(error)}") from error
    return made


def loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
