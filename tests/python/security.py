"""How the Python parts of the tests get in at servers that speak TLS and ask everybody who he is. The test that runs them
says so in `SECURED_*`; without these everything is plain."""

import os
import pathlib

CONFIG = os.environ.get("SECURED_CONFIG")
CA = os.environ.get("SECURED_CA")
CREDENTIAL_FILE = os.environ.get("SECURED_CREDENTIAL_FILE")
CERTIFICATE = os.environ.get("SECURED_CERTIFICATE")
KEY = os.environ.get("SECURED_KEY")
IS_ON = CONFIG is not None
SCHEME = "https" if IS_ON else "http"


def read(path):
    """A file, as gRPC wants it."""
    return pathlib.Path(path).read_bytes()


def server_flags():
    """What secures a server."""
    return ["--config", CONFIG] if IS_ON else []


def curl_flags():
    """What curl shows."""
    return ["--cacert", CA, "--oauth2-bearer", read(CREDENTIAL_FILE).decode().strip()] if IS_ON else []


def environment():
    """What the command line, agents and the example service find in their environment."""
    if not IS_ON:
        return {}
    shown = {"CA_FILE": CA, "CREDENTIAL_FILE": CREDENTIAL_FILE}
    return {prefix + name: path for prefix in ("RESCIND_", "RESCIND_UPSTREAM_") for name, path in shown.items()}
