"""A certificate for the TLS servers, made anew for each: nobody checks it, and no key lies in the repository."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from pathlib import Path


def server_context() -> ssl.SSLContext:
    """The defaults of the running Python, with an ECDSA key on P-256, as most of the web's servers have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        context.load_cert_chain(certificate, key)
    return context
