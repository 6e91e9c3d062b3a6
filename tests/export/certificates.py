# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""An authority, and certificates of a server and a client that it signed; made by openssl."""

import shutil
import ssl
import subprocess

import pytest


def make_certificates(folder):
    """Make ca, server, client and stranger (which another authority signed), as .pem and .key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    for name in ("ca", "other"):
        _openssl(folder, "req", "-x509", *_key(name), "-subj", f"/CN={name}", "-out", f"{name}.pem")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        _openssl(folder, "req", *_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem"),
            *("-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2"),
            *("-extfile", "names", "-out", f"{name}.pem"),
        )


def _key(name):
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return (*curve, "-nodes", "-keyout", f"{name}.key")


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def server_context(folder, *, wants_client):
    """TLS of a receiver."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context
