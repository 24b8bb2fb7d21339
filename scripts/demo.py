"""The whole story with real tokens, in under a minute. Every step is checked; the first that fails ends it with 1.

A server, and in another process an example service that verifies tokens with a JWK set and checks them in its own
replica. The service never asks the server about a token.

  scripts/demo.py --bin target/fast/rescind --service target/fast/examples/service      (make demo builds both first)
"""

import pathlib
import re
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from mint import Issuer, claims  # noqa: E402
from node import Server, Service, wait_until  # noqa: E402
from story import Story, check, main  # noqa: E402

SPREAD_SECONDS = 5


def tell_story(binary, service_binary, directory):
    issuer = Issuer.with_keys(rs="RS256", es="ES256", ed="EdDSA")
    jwks = pathlib.Path(directory) / "jwks.json"
    issuer.write_jwks(jwks)
    alice = issuer.mint(claims(sub="alice", sid="laptop"), "rs")
    phone = issuer.mint(claims(sub="alice", sid="phone"), "es")
    bob = issuer.mint(claims(sub="bob", jti=None), "ed")

    server = Server(binary, directory)
    story = Story(binary, server)
    story.step("A server starts, and a service that holds a replica of it.")
    with server, Service(service_binary, server.url, jwks, directory) as service:
        story.tell(f"server   {server.url}   data in {server.data_dir}")
        story.tell(f"service  {service.url}")
        wait_until(lambda: service.status_of(bob) == 200, "the service's replica is ready")

        story.step("Three real JWTs (RS256, ES256, EdDSA) are accepted.")
        story.tell(f"alice on her laptop: {alice[:40]}...")
        for who, token in (("alice, laptop", alice), ("alice, phone", phone), ("bob", bob)):
            story.expect(service, who, token, 200)

        story.step("Alice's laptop is stolen: its session is revoked.")
        begun = time.monotonic()
        said = story.rescind("revoke", "--sid", "laptop", "--reason", "laptop stolen")
        acknowledged = time.monotonic()
        wait_until(lambda: service.status_of(alice) == 401, "the other process refuses", SPREAD_SECONDS)
        refused = time.monotonic()
        story.expect(service, "alice, laptop", alice, 401)
        story.tell(f"refused in the other process {1000 * (refused - acknowledged):.1f} ms after the command had ended,")
        story.tell(f"{1000 * (refused - begun):.1f} ms after it was typed (polled, one HTTP request included)")
        revocation = re.search(r"\b[0-9a-f]{8}-\d+-\d+\b", said)
        check(revocation, "the answer names the revocation's id")

        story.step("Nobody else is.")
        story.expect(service, "alice, phone", phone, 200)
        story.expect(service, "bob", bob, 200)
        story.rescind("check", "--token", "-", "--explain", stdin=alice, exits=1)
        story.rescind("check", "--token", "-", stdin=phone)

        story.step("A token without an id is revoked by itself.")
        story.rescind("revoke", "--token", "-", stdin=bob)
        wait_until(lambda: service.status_of(bob) == 401, "the other process refuses", SPREAD_SECONDS)
        story.expect(service, "bob", bob, 401)

        story.step("The server is killed with kill -9. The service decides on its own.")
        server.kill()
        story.expect(service, "alice, laptop", alice, 401)
        story.expect(service, "alice, phone", phone, 200)

        story.step("The server starts again. Nothing that it acknowledged is lost.")
        begun = time.monotonic()
        server.start()
        story.tell(f"ready after {1000 * (time.monotonic() - begun):.0f} ms")
        story.rescind("check", "--token", "-", stdin=alice, exits=1)
        story.rescind("check", "--token", "-", stdin=bob, exits=1)
        story.expect(service, "alice, laptop", alice, 401)

        story.step("The laptop turns up: the revocation is taken back.")
        story.rescind("reinstate", "--id", revocation.group(), "--reason", "laptop found")
        wait_until(lambda: service.status_of(alice) == 200, "the other process accepts", 4 * SPREAD_SECONDS)
        story.expect(service, "alice, laptop", alice, 200)
        story.expect(service, "bob", bob, 401)
        story.rescind("list")
    return story.steps


if __name__ == "__main__":
    main(__doc__, tell_story)
