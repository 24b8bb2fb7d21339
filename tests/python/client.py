"""A gRPC client in another language: generated from `proto/` when it is imported, with nothing of the product's code."""

import atexit
import importlib
import pathlib
import shutil
import sys
import tempfile

import grpc
from grpc_tools import protoc

import security

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
DEADLINE_SECONDS = 10


def _generate():
    out = tempfile.mkdtemp(prefix="rescind-grpc-")
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    files = [str(path.relative_to(PROTO)) for path in sorted(PROTO.glob("rescind/v1/*.proto"))]
    code = protoc.main(["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", *files])
    if code != 0:
        raise RuntimeError(f"proto/ cannot be compiled: exit {code}")
    sys.path.insert(0, out)
    importlib.invalidate_caches()


_generate()
from rescind.v1 import (  # noqa: E402
    admin_pb2,
    admin_pb2_grpc,
    check_pb2,
    check_pb2_grpc,
    revocation_pb2,
    revocation_pb2_grpc,
)


class Client:
    """One server, by `host:port`."""

    def __init__(self, address):
        channel = self._open(address)
        self._revocations = revocation_pb2_grpc.RevocationServiceStub(channel)
        self._checks = check_pb2_grpc.CheckServiceStub(channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(channel)

    @staticmethod
    def _open(address):
        if not security.IS_ON:
            return grpc.insecure_channel(address)
        ca, key, certificate = (security.read(path) for path in (security.CA, security.KEY, security.CERTIFICATE))
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))

    def revoke(self, spec):
        """Revokes what `spec` says: the fields of the JSON twin, times in unix seconds. Returns the id."""
        revocation = revocation_pb2.Revocation(reason=spec.get("reason", ""))
        if "token" in spec:
            revocation.token = spec["token"]
        else:
            revocation.selector.CopyFrom(selector(spec["selector"]))
        if "cutoff" in spec:
            revocation.cutoff_seconds = spec["cutoff"]
        revocation.cutoff_on = tested(spec.get("cutoff_on"))
        revocation.exceptions.extend(selector(each) for each in spec.get("exceptions", ()))
        request = revocation_pb2.RevokeRequest(revocations=[revocation])
        return self._revocations.Revoke(request, timeout=DEADLINE_SECONDS).outcomes[0].id

    def reinstate(self, id):
        """Takes a revocation back. Returns the ids undone."""
        request = revocation_pb2.ReinstateRequest(reinstatements=[revocation_pb2.Reinstatement(id=id)])
        return list(self._revocations.Reinstate(request, timeout=DEADLINE_SECONDS).outcomes[0].undone_ids)

    def check(self, token):
        """`"not_revoked"`, `"revoked"`, or `"unknown"`; an outcome that is not set is unknown."""
        request = check_pb2.CheckTokenRequest(token=check_pb2.PresentedToken(token=token))
        verdict = self._checks.CheckToken(request, timeout=DEADLINE_SECONDS).verdict
        return verdict.WhichOneof("outcome") or "unknown"

    def status(self):
        """How the server is."""
        return self._admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=DEADLINE_SECONDS)


def selector(claims):
    pairs = [revocation_pb2.Claim(name=name, value=value) for name, value in claims.items()]
    return revocation_pb2.Selector(claims=pairs)


def tested(name):
    names = {None: "UNSPECIFIED", "iat": "IAT", "auth_time": "AUTH_TIME"}
    return revocation_pb2.TestedClaim.Value("TESTED_CLAIM_" + names[name])
