#!/usr/bin/env python3
"""Recomputes every golden vector in fingerprint.json and exits non-zero on any difference.

Written from docs/design/fingerprint.md alone, with the standard library alone, so that it shares no code and no mistake
with the Rust implementation. With --rewrite it fills in the expected values instead, which is how vectors are added:
write the inputs, run it, and let the Rust test confirm.
"""

import json
import pathlib
import re
import sys
from decimal import Decimal

VECTORS = pathlib.Path(__file__).with_name("fingerprint.json")
MASK = 2**64 - 1
NAME_BYTES_MAX = 128
VALUE_BYTES_MAX = 1024
DEPTH_MAX = 32


# SipHash-2-4 with 128 bits of output (Aumasson and Bernstein).


def siphash_2_4_128(key, message):
    """The 16 bytes of output: two words, little-endian."""
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ 0xEE,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    whole = len(message) - len(message) % 8
    words = [int.from_bytes(message[i : i + 8], "little") for i in range(0, whole, 8)]
    words.append(int.from_bytes(message[whole:], "little") | (len(message) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(v, 4)
    second = v[0] ^ v[1] ^ v[2] ^ v[3]
    return first.to_bytes(8, "little") + second.to_bytes(8, "little")


def rounds(v, count):
    for _ in range(count):
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)


def rotate(word, bits):
    return (word << bits | word >> (64 - bits)) & MASK


def check_siphash_itself():
    """The first and last vectors of the reference implementation: messages 00 01 02 … under the key 00 … 0f."""
    key = bytes(range(16))
    assert siphash_2_4_128(key, b"").hex() == "a3817f04ba25a8e66df67214c7550293"
    assert siphash_2_4_128(key, bytes(range(63))).hex() == "5150d1772f50834a503e069a973fbd7c"


# The encoding of a selector.


def encode(tested, pairs):
    pairs = sorted((name.encode(), value.encode()) for name, value in pairs)
    if tested == "auth_time":
        pairs.append((b"@auth_time", b""))
    encoded = b"rescind/fp/1\0" + bytes([len(pairs)])
    for name, value in pairs:
        encoded += len(name).to_bytes(2, "little") + name + len(value).to_bytes(2, "little") + value
    return encoded


# Canonical numbers.


def canonical_number(text):
    """The decimal digits of an integral number within ±(2^53 − 1), else None."""
    mantissa, _, exponent = text.lower().partition("e")
    if not mantissa.strip("-0."):
        return "0"
    if exponent and abs(int(exponent)) > 10_000:
        return None
    value = Decimal(mantissa).as_tuple()
    shift = value.exponent + int(exponent or 0)
    digits = "".join(map(str, value.digits))
    if shift >= 0:
        digits += "0" * shift
    elif set(digits[shift:]) <= {"0"}:
        digits = digits[:shift]
    else:
        return None
    integer = int(digits or "0")
    if integer >= 2**53:
        return None
    return f"-{integer}" if value.sign else str(integer)


# The candidates of a token.


class Number(str):
    """A JSON number as it is written."""


class Refused(Exception):
    pass


def parse(text):
    def unique(members):
        if len({name for name, _ in members}) < len(members):
            raise Refused("duplicate name")
        return dict(members)

    def no_constant(name):
        raise Refused(name)

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_int=Number, parse_float=Number, parse_constant=no_constant
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    if not isinstance(value, dict):
        raise Refused("not an object")
    check_tree(value, 1)
    return value


def check_tree(value, depth):
    if isinstance(value, (dict, list)) and depth > DEPTH_MAX:
        raise Refused("too deep")
    if isinstance(value, dict):
        for name, member in value.items():
            check_tree(name, depth)
            check_tree(member, depth + 1)
    elif isinstance(value, list):
        for element in value:
            check_tree(element, depth + 1)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refused("lone surrogate") from error


def candidates(payload, header, name):
    """What the claim `name` is in a token: [text, is an array's element] each."""
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX or name == "token_sha256":
        return []
    root = payload
    if name.startswith("header."):
        root, name = header, name.removeprefix("header.")
    if root is None or not name:
        return []
    values = [root[name]] if name in root else []
    if "." in name:
        values += follow(root, name.split("."))
    return sorted(candidate for value in values for candidate in scalars(value))


def follow(value, steps):
    for step in steps:
        if not isinstance(value, dict) or step not in value:
            return []
        value = value[step]
    return [value]


def scalars(value):
    elements = value if isinstance(value, list) else [value]
    texts = ([text(element), isinstance(value, list)] for element in elements)
    return [candidate for candidate in texts if candidate[0]]


def text(value):
    """The canonical text of a scalar, else None. A number is a str too, so it comes first."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return canonical_number(value)
    if isinstance(value, str) and 1 <= len(value.encode()) <= VALUE_BYTES_MAX:
        return value
    return None


# The vectors.


def fingerprint_outputs(vector):
    encoded = encode(vector["tested"], vector["pairs"])
    fingerprint = siphash_2_4_128(bytes.fromhex(vector["key"]), encoded)
    return {"encoded": encoded.hex(), "fingerprint": fingerprint.hex()}


def number_outputs(vector):
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", vector["number"])
    return {"canonical": canonical_number(vector["number"])}


def candidate_outputs(vector):
    try:
        payload = parse(vector["payload"])
        header = None if vector["header"] is None else parse(vector["header"])
    except Refused:
        return {"candidates": None}
    return {"candidates": candidates(payload, header, vector["claim"])}


OUTPUTS = {"fingerprints": fingerprint_outputs, "numbers": number_outputs, "candidates": candidate_outputs}


def main():
    check_siphash_itself()
    vectors = json.loads(VECTORS.read_text())
    if "--rewrite" in sys.argv[1:]:
        for kind, outputs in OUTPUTS.items():
            for vector in vectors[kind]:
                vector.update(outputs(vector))
        VECTORS.write_text(json.dumps(vectors, indent=1) + "\n")
        return 0
    checked, differences = 0, 0
    for kind, outputs in OUTPUTS.items():
        for vector in vectors[kind]:
            for field, expected in outputs(vector).items():
                checked += 1
                if vector[field] != expected:
                    differences += 1
                    print(f"{kind}: {vector['name']}: {field} is {vector[field]!r}, not {expected!r}", file=sys.stderr)
    print(f"{checked} values checked, {differences} differ")
    return 1 if differences or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
