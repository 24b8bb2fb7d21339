"""Mints tokens for tests/foreign_tokens.rs: what PyJWT and cryptography make, good and odd, as one JSON document.

{"now": …, "iss": …, "jwks": {…}, "tokens": [{"name": …, "token": …, "expected": …, "algorithm": …}]}, where `expected` is
"accepted" or the name of a refusal, and `algorithm` what a good token was signed with.
"""

import base64
import hashlib
import hmac
import json
import os
import sys

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NOW = 1_700_000_000
ISS = "https://issuer.example"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {"rsa": RSA, "p256": P256, "p384": P384, "ed": ED}
SIGNERS = {
    **{name: "rsa" for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]},
    "ES256": "p256",
    "ES384": "p384",
    "EdDSA": "ed",
}
THIEF = ec.generate_private_key(ec.SECP256R1())

tokens = []


def add(name, expected, token, algorithm=None):
    tokens.append({"name": name, "expected": expected, "token": token, "algorithm": algorithm})


def claims(**more):
    """Of a good token; `name=None` leaves one out."""
    usual = {"iss": ISS, "aud": "api", "sub": "ada", "jti": "7", "iat": NOW, "exp": NOW + 600}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def mint(payload=None, algorithm="ES256", key=None, **headers):
    """By PyJWT, which writes `typ` unless it is None."""
    kid = SIGNERS.get(algorithm)
    return jwt.encode(payload or claims(), key or KEYS[kid], algorithm=algorithm, headers={"kid": kid, **headers})


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def raw(header, payload, sign=None):
    """A token of these texts as they are, signed by hand: PyJWT would not make it."""
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64((sign or es256)(message.encode()))}"


def es256(message, key=P256):
    return concat(*utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256()))))


def concat(r, s):
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def resigned(change):
    """A good ES256 token whose signature `change` makes of (r, s)."""
    message, signature = mint().rsplit(".", 1)
    signature = base64.urlsafe_b64decode(signature + "==")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    return f"{message}.{b64(change(r, s))}"


def jwk(kid, key):
    of = RSAAlgorithm if kid == "rsa" else OKPAlgorithm if kid == "ed" else ECAlgorithm
    return {**of.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "key_ops": ["verify"]}


def good():
    for algorithm, kid in SIGNERS.items():
        add(f"{algorithm} with kid", "accepted", mint(algorithm=algorithm), algorithm)
        nameless = jwt.encode(claims(), KEYS[kid], algorithm=algorithm)
        add(f"{algorithm} without kid", "accepted", nameless, algorithm)
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", None]:
        add(f"typ {typ}", "accepted", mint(typ=typ))
    add("several audiences", "accepted", mint(claims(aud=["other", "api"])))
    add("times with fractions", "accepted", mint(claims(iat=NOW - 0.5, exp=NOW + 0.5, nbf=NOW + 1.5)))
    add("within the leeway", "accepted", mint(claims(iat=NOW + 60, nbf=NOW + 60, exp=NOW - 59)))
    add("claims of every kind", "accepted", mint(claims(cnf={"jkt": "x"}, groups=["a", "b"], admin=True, n=1.5e300, é="\u0000")))
    add("the other s", "accepted", resigned(lambda r, s: concat(r, P256_ORDER - s)))


def algorithms():
    add("alg none", "algorithm", jwt.encode(claims(), None, algorithm="none"))
    for spelling in ["None", "NONE", "nOnE"]:
        add(f"alg {spelling}", "algorithm", raw(f'{{"alg":"{spelling}"}}', json.dumps(claims()), lambda _: b""))
    public = RSA.public_key()
    encoded = serialization.PublicFormat.SubjectPublicKeyInfo
    secrets = {
        "PEM": public.public_bytes(serialization.Encoding.PEM, encoded),
        "DER": public.public_bytes(serialization.Encoding.DER, encoded),
        "JWK": json.dumps(jwk("rsa", RSA)).encode(),
        "modulus": public.public_numbers().n.to_bytes(256, "big"),
        "nothing": b"",
    }
    for name, secret in secrets.items():
        for kid in ["", ',"kid":"rsa"']:
            hs256 = lambda message: hmac.new(secret, message, hashlib.sha256).digest()
            add(f"HS256 with the RSA key as {name}{kid}", "algorithm", raw(f'{{"alg":"HS256"{kid}}}', json.dumps(claims()), hs256))
    add("HS512", "algorithm", mint(algorithm="HS512", key="x" * 64, kid="p256"))
    add("ES512", "algorithm", mint(algorithm="ES512", key=ec.generate_private_key(ec.SECP521R1()), kid="p256"))
    add("ES256K", "algorithm", mint(algorithm="ES256K", key=ec.generate_private_key(ec.SECP256K1()), kid="p256"))
    for spelling in ["es256", "ES256 ", "ES-256", ""]:
        add(f"alg {spelling!r}", "algorithm", raw(f'{{"alg":"{spelling}","kid":"p256"}}', json.dumps(claims())))
    add("no alg", "algorithm", raw('{"kid":"p256"}', json.dumps(claims())))
    add("alg as a number", "member", raw('{"alg":256,"kid":"p256"}', json.dumps(claims())))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    signed = {"RS256": lambda m: RSA.sign(m, pss, hashes.SHA256()), "PS256": lambda m: RSA.sign(m, padding.PKCS1v15(), hashes.SHA256())}
    for name, sign in signed.items():
        add(f"{name} with the other padding", "signature", raw(f'{{"alg":"{name}","kid":"rsa"}}', json.dumps(claims()), sign))
    add("RS512 with SHA-256", "signature", raw('{"alg":"RS512","kid":"rsa"}', json.dumps(claims()), lambda m: RSA.sign(m, padding.PKCS1v15(), hashes.SHA256())))


def keys():
    add("kid of nobody", "unknown_key", mint(kid="nobody"))
    add("kid of a key of another kind", "unknown_key", mint(kid="rsa"))
    for junk in ["../../../../dev/null", "/etc/passwd", "p256' OR '1'='1", "p256; DROP TABLE keys", "https://evil.example/k", "p256\u0000", "P256", "", "${jndi:ldap://x}"]:
        add(f"kid {junk!r}", "unknown_key", mint(kid=junk))
    add("kid of 2,000 bytes", "member", mint(kid="k" * 2000))
    for kid in ["7", "null", '["p256"]', '{"p256":1}']:
        add(f"kid {kid}", "member", raw(f'{{"alg":"ES256","kid":{kid}}}', json.dumps(claims())))
    brought = {
        "jwk": ECAlgorithm.to_jwk(THIEF.public_key(), as_dict=True),
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/certificate",
        "x5c": ["MIIB"],
    }
    for name, value in brought.items():
        add(f"{name} of a thief", "signature", mint(key=THIEF, **{name: value}))
        add(f"{name} of a thief, no kid", "signature", jwt.encode(claims(), THIEF, algorithm="ES256", headers={name: value}))
        add(f"{name} beside a known key", "accepted", mint(**{name: value}))


def signatures():
    add("another's key", "signature", mint(key=THIEF))
    odd = {
        "r = s = 0": lambda r, s: concat(0, 0),
        "r = 0": lambda r, s: concat(0, s),
        "s = 0": lambda r, s: concat(r, 0),
        "r = s = n": lambda r, s: concat(P256_ORDER, P256_ORDER),
        "r = s = 1": lambda r, s: concat(1, 1),
        "r and s swapped": lambda r, s: concat(s, r),
        "DER": lambda r, s: utils.encode_dss_signature(r, s),
        "a byte more": lambda r, s: concat(r, s) + b"\0",
        "a byte less": lambda r, s: concat(r, s)[:-1],
        "none": lambda r, s: b"",
    }
    for name, change in odd.items():
        add(f"ES256 signature: {name}", "signature", resigned(change))
    for algorithm in ["RS256", "PS256", "EdDSA", "ES384"]:
        message, signature = mint(algorithm=algorithm).rsplit(".", 1)
        length = len(base64.urlsafe_b64decode(signature + "=="))
        for name, bad in [("zeros", bytes(length)), ("ones", b"\xff" * length), ("cut", bytes(length - 1)), ("none", b"")]:
            add(f"{algorithm} signature: {name}", "signature", f"{message}.{b64(bad)}")
    message, payload, _ = mint().split(".")
    add("another's signature", "signature", f"{message}.{payload}.{mint(claims(sub='eve')).rsplit('.', 1)[1]}")
    add("another payload", "signature", f"{message}.{b64(json.dumps(claims(sub='eve')))}.{mint().rsplit('.', 1)[1]}")


def forms():
    header, payload, signature = mint(typ=None).split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last symbol of 64 bytes has four bits of its own: a lenient reader takes its neighbours for the same.
    neighbour = alphabet[alphabet.index(signature[-1]) + 1]
    for name, token in {
        "base64url that is not canonical": f"{header}.{payload}.{signature[:-1]}{neighbour}",
        "padding": f"{header}.{payload}.{signature}==",
        "plain base64": f"{header}.{payload}.{signature[:-4]}+/AA",
        "a line end": f"{header}.{payload}.{signature}\n",
        "a space within": f"{header}.{payload[:8]} {payload[8:]}.{signature}",
        "an empty payload": f"{header}..{signature}",
        "an empty header": f".{payload}.{signature}",
        "nothing but dots": "..",
        "nothing": "",
        "1 MiB of header": mint(x="x" * (1 << 20)),
        "1 MiB of payload": mint(claims(x="x" * (1 << 20))),
        "1 MiB of signature": f"{header}.{payload}.{'A' * (1 << 20)}",
    }.items():
        add(name, "malformed", token)
    for name, token in {"opaque": "opaque", "two parts": f"{header}.{payload}", "six parts": f"{mint()}.{mint()}"}.items():
        add(name, "not_signed", token)
    wrapped = b64(os.urandom(12)), b64(AESGCM(os.urandom(32)).encrypt(os.urandom(12), mint().encode(), None))
    add("encrypted", "not_signed", f"{b64(json.dumps({'alg': 'dir', 'enc': 'A256GCM'}))}..{wrapped[0]}.{wrapped[1]}.{b64(bytes(16))}")
    signed = lambda payload, **headers: jwt.api_jws.encode(payload, P256, algorithm="ES256", headers={"kid": "p256", **headers})
    add("a token in a token", "malformed", signed(mint().encode(), cty="JWT"))
    add("claims that say they are a token", "nested", mint(cty="JWT"))
    detached = jwt.api_jws.encode(json.dumps(claims()).encode(), P256, algorithm="ES256", headers={"kid": "p256"}, is_payload_detached=True)
    add("b64: false, detached", "malformed", detached)
    add("b64: false", "extended", raw('{"alg":"ES256","kid":"p256","b64":false}', json.dumps(claims())))
    for crit in ['["exp"]', "[]", "null", '["b64"],"b64":true', '["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true']:
        add(f"crit {crit}", "extended", raw(f'{{"alg":"ES256","kid":"p256","crit":{crit}}}', json.dumps(claims())))
    text = json.dumps(claims())
    for name, payload in {
        "sub twice": text[:-1] + ', "sub": "eve"}',
        "sub twice, escaped": text[:-1] + ', "s\\u0075b": "eve"}',
        "iss twice": text[:-1] + f', "iss": "{ISS}"}}',
        "twice below": text[:-1] + ', "cnf": {"jkt": "a", "jkt": "b"}}',
        "an array": "[1]",
        "a text": '"x"',
        "not JSON": "{iss: 1}",
        "NaN": text[:-1] + ', "x": NaN}',
        "a byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "not UTF-8": text.encode().replace(b"ada", b"\xff\xfe"),
        "a lone surrogate": text.replace("ada", "\\ud800"),
        "a thousand levels": text[:-1] + ', "x": ' + "[" * 1000 + "]" * 1000 + "}",
    }.items():
        add(f"payload: {name}", "malformed", signed(payload if isinstance(payload, bytes) else payload.encode()))
    add("alg twice", "malformed", raw('{"alg":"ES256","alg":"none","kid":"p256"}', text))


def members():
    for typ in ["logout+jwt", "dpop+jwt", "JWE", "", "secevent+jwt"]:
        add(f"typ {typ!r}", "type", raw(f'{{"alg":"ES256","kid":"p256","typ":"{typ}"}}', json.dumps(claims())))
    add("typ as a number", "member", raw('{"alg":"ES256","kid":"p256","typ":7}', json.dumps(claims())))
    for name, expected, more in [
        ("expired", "expired", {"exp": NOW - 61}),
        ("expired at the edge of the leeway", "expired", {"exp": NOW - 60}),
        ("no exp", "expired", {"exp": None}),
        ("exp before 1970", "expired", {"exp": -1}),
        ("iat to come", "not_yet", {"iat": NOW + 61}),
        ("nbf to come", "not_yet", {"nbf": NOW + 61}),
        ("iat in milliseconds", "not_yet", {"iat": NOW * 1000}),
        ("another audience", "audience", {"aud": "other"}),
        ("no audience", "audience", {"aud": None}),
        ("an empty list of audiences", "audience", {"aud": []}),
        ("an audience that only begins so", "audience", {"aud": "api.evil.example"}),
        ("an audience in capitals", "audience", {"aud": "API"}),
        ("another issuer", "issuer", {"iss": "https://evil.example"}),
        ("an issuer with a slash", "issuer", {"iss": ISS + "/"}),
        ("no issuer", "issuer", {"iss": None}),
        ("an empty issuer", "issuer", {"iss": ""}),
    ]:
        add(name, expected, mint(claims(**more)))
    for name, value in [("exp", '"9999999999"'), ("exp", "true"), ("exp", "null"), ("nbf", "[1]"), ("iat", '"now"'), ("iss", f'["{ISS}"]'), ("aud", '{"api":1}'), ("aud", "7"), ("aud", '["api",7]'), ("sub", "7"), ("jti", "[]")]:
        payload = json.dumps(claims(**{name: None}))[:-1] + f', "{name}": {value}}}'
        add(f"{name} as {value}", "member", raw('{"alg":"ES256","kid":"p256"}', payload))


def main():
    for make in [good, algorithms, keys, signatures, forms, members]:
        make()
    jwks = {"keys": [jwk(kid, key) for kid, key in KEYS.items()]}
    json.dump({"now": NOW, "iss": ISS, "jwks": jwks, "tokens": tokens}, sys.stdout)


if __name__ == "__main__":
    main()
