"""Mints real tokens: an issuer with an RS256, an ES256 and an EdDSA key, and the JWKS that verifies them.

Alone: prints one token.  mint.py --keys DIR --alg ES256 --claims '{"sub": "alice"}'
"""

import argparse
import base64
import hashlib
import json
import pathlib
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
LIFETIME_SECONDS = 3600

ALGORITHMS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class Issuer:
    """Keys by key id, each for one algorithm."""

    def __init__(self, keys=None):
        self.keys = keys or {}

    @classmethod
    def with_keys(cls, **algorithms):
        """`with_keys(main="RS256")`: a fresh key of that id for that algorithm."""
        return cls({kid: (algorithm, ALGORITHMS[algorithm]()) for kid, algorithm in algorithms.items()})

    @classmethod
    def load(cls, directory):
        """The keys kept in a directory, made the first time."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        keys = {}
        for algorithm, generate in ALGORITHMS.items():
            path = directory / f"{algorithm.lower()}.pem"
            if not path.exists():
                path.touch(mode=0o600)
                path.write_bytes(_pem(generate()))
            keys[algorithm.lower()] = (algorithm, serialization.load_pem_private_key(path.read_bytes(), None))
        return cls(keys)

    def mint(self, claims, kid):
        """A token with exactly these claims. Call twice with ES256: one signing input, two signatures."""
        algorithm, key = self.keys[kid]
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})

    def jwks(self):
        """The public keys as a JWK set (RFC 7517)."""
        return {"keys": [_jwk(kid, algorithm, key) for kid, (algorithm, key) in self.keys.items()]}

    def write_jwks(self, path):
        """Writes the JWK set where a service reads it."""
        pathlib.Path(path).write_text(json.dumps(self.jwks(), indent=1))


def claims(**more):
    """The claims of a usual token: an id of its own, valid now and for an hour. `name=None` leaves one out."""
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "sub": "user-" + uuid.uuid4().hex[:8],
        "jti": uuid.uuid4().hex,
        "iat": now - 10,
        "exp": now + LIFETIME_SECONDS,
    }
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def _jwk(kid, algorithm, key):
    of = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm, "EdDSA": jwt.algorithms.OKPAlgorithm}
    jwk = of[algorithm].to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, "kid": kid, "alg": algorithm, "use": "sig"}


def _pem(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def signing_input_sha256(token):
    """The `token_sha256` of a JWT, computed without the product."""
    digest = hashlib.sha256(token.rsplit(".", 1)[0].encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--keys", default=".keys", help="where the private keys are kept; made the first time")
    arguments.add_argument("--alg", choices=ALGORITHMS, default="ES256")
    arguments.add_argument("--claims", type=json.loads, default={}, help="JSON; null leaves a usual claim out")
    arguments.add_argument("--jwks", help="also writes the JWK set here")
    given = arguments.parse_args()
    issuer = Issuer.load(given.keys)
    if given.jwks:
        issuer.write_jwks(given.jwks)
    print(issuer.mint(claims(**given.claims), given.alg.lower()))


if __name__ == "__main__":
    main()
