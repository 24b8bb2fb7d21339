"""A fleet with real tokens, in about half a minute. Every step is checked; the first that fails ends it with 1.

An authority, a relay, an agent on a Unix socket that denies when stale, and an example service that follows the agent.
The authority dies, comes back, and is at last replaced by a restored backup. Nobody is let in again by any of it.

  scripts/demo_fleet.py --bin target/fast/rescind --service target/fast/examples/service      (make demo-fleet builds both)
"""

import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from mint import Issuer, claims  # noqa: E402
from node import Agent, Server, Service, clean_environment, wait_until  # noqa: E402
from story import Story, check, main  # noqa: E402

MAX_STALENESS = 5
CATCH_UP_SECONDS = 30
SNAPSHOTS = "rescind_snapshots_received_total"


def ask(story, url, token, exits):
    """Checks a token at one node of the fleet."""
    story.tell(f"$ rescind check --token - --server {url}")
    command = [story.binary, "check", "--token", "-", "--server", url]
    ran = subprocess.run(command, input=token, capture_output=True, text=True, env=clean_environment(), timeout=20)
    story.tell(f"  {(ran.stdout + ran.stderr).strip()}")
    check(ran.returncode == exits, f"exit status {ran.returncode}, expected {exits}")


def staleness(story, agent):
    """What `rescind status` says of an agent's staleness."""
    command = [story.binary, "status", "--server", agent.url]
    ran = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=20)
    line = next(line for line in ran.stdout.splitlines() if line.strip().startswith("staleness "))
    story.tell(f"{agent.name}: {line.strip()}")
    return float(line.split()[-2])


def tell_story(binary, service_binary, directory):
    place = pathlib.Path(directory)
    issuer = Issuer.with_keys(rs="RS256", es="ES256", ed="EdDSA")
    jwks = place / "jwks.json"
    issuer.write_jwks(jwks)
    laptop = issuer.mint(claims(sub="alice", sid="laptop"), "rs")
    phone = issuer.mint(claims(sub="alice", sid="phone"), "es")
    bob = issuer.mint(claims(sub="bob"), "ed")

    server = Server(binary, directory)
    relay = Agent("relay", binary, server.url, directory)
    deny = ["--when-stale", "deny", "--max-staleness", f"{MAX_STALENESS}s"]
    agent = Agent("agent", binary, relay.url, directory, listen=f"unix:{place}/agent.sock", flags=deny)
    service = Service(service_binary, agent.url, jwks, directory)
    story = Story(binary, server)
    story.step("An authority, a relay, an agent on a Unix socket, and a service that follows the agent.")
    with server, relay, agent, service:
        for node in (server, relay, agent, service):
            story.tell(f"{node.name:8} {node.url}")
        wait_until(lambda: service.status_of(bob) == 200, "the service's replica is ready", CATCH_UP_SECONDS)

        story.step("A revocation is waited for: the whole fleet has it.")
        said = story.rescind("revoke", "--sid", "laptop", "--reason", "laptop stolen", "--wait", "5s")
        check("applied by 3 of 3 subscribers" in said, "three of three have it")
        story.expect(service, "alice, laptop", laptop, 401)
        story.expect(service, "alice, phone", phone, 200)
        story.rescind("status")

        story.step("A backup is taken while everything runs.")
        story.rescind("journal", "backup", str(place / "backup"))

        story.step("An agent accepts no writes, and says who does.")
        ran = subprocess.run(
            [binary, "revoke", "--sid", "x", "--server", relay.url], capture_output=True, text=True, env=clean_environment()
        )
        story.tell(ran.stderr.strip())
        check(ran.returncode == 2 and server.url in ran.stderr, "it names its upstream")

        story.step("The authority is killed with kill -9. Checks go on, and staleness grows in sight.")
        before = {node.name: node.metric(SNAPSHOTS) for node in (relay, agent)}
        server.kill()
        story.expect(service, "alice, laptop", laptop, 401)
        story.expect(service, "alice, phone", phone, 200)
        first = staleness(story, relay)
        time.sleep(1.5)
        check(staleness(story, relay) > first + 1, "it grows")

        story.step(f"The agent was told to deny beyond {MAX_STALENESS} s: then it no longer vouches for anybody.")
        denied = [binary, "check", "--token", "-", "--server", agent.url]

        def denies():
            ran = subprocess.run(denied, input=phone, capture_output=True, text=True, env=clean_environment(), timeout=20)
            return "STALE" in ran.stdout

        wait_until(denies, "the agent denies", 2 * MAX_STALENESS)
        ask(story, agent.url, phone, exits=2)
        ask(story, agent.url, laptop, exits=1)
        ask(story, relay.url, phone, exits=0)
        story.expect(service, "alice, phone", phone, 200)

        story.step("The relay restarts while the authority is dead: it knows from its disk what was revoked.")
        relay.kill()
        relay.start(ready=False)
        before[relay.name] = relay.metric(SNAPSHOTS)
        wait_until(lambda: relay.metric("rescind_live_entries") == 1, "the cache is loaded", CATCH_UP_SECONDS)
        ask(story, relay.url, laptop, exits=1)

        story.step("The authority starts again. All go on where they were, without a snapshot.")
        server.start()
        wait_until(lambda: not denies(), "the agent vouches again", CATCH_UP_SECONDS)
        ask(story, agent.url, phone, exits=0)
        for node in (relay, agent):
            received = node.metric(SNAPSHOTS) - before[node.name]
            story.tell(f"{node.name}: {received:.0f} snapshots received since")
            check(received == 0, f"{node.name} resumed")

        story.step("Bob is revoked too, after the backup was taken. Then the authority is lost for good.")
        wait_until(lambda: "3 of 3" in story.rescind("revoke", "--sub", "bob", "--wait", "5s"), "all have it", CATCH_UP_SECONDS)
        story.expect(service, "bob", bob, 401)
        server.kill()

        story.step("The backup is restored elsewhere, and takes the authority's place. Nobody is let in again.")
        restored = place / "restored"
        ran = subprocess.run(
            [binary, "journal", "restore", "--from", str(place / "backup"), "--data-dir", str(restored)],
            capture_output=True, text=True, env=clean_environment(), timeout=60,
        )
        story.tell((ran.stdout + ran.stderr).strip())
        check(ran.returncode == 0, "the backup is restored")
        server.data_dir = restored
        server.start()
        story.rescind("revoke", "--sub", "carol")
        wait_until(lambda: agent.metric("rescind_epoch_generation") == 2, "the agent follows the new epoch", 2 * CATCH_UP_SECONDS)
        wait_until(lambda: not denies(), "the agent vouches again", CATCH_UP_SECONDS)
        story.rescind("check", "--token", "-", stdin=bob)
        story.tell("the restored authority knows nothing of Bob; the fleet does:")
        ask(story, relay.url, bob, exits=1)
        ask(story, agent.url, bob, exits=1)
        story.expect(service, "bob", bob, 401)
        story.expect(service, "alice, laptop", laptop, 401)
        story.expect(service, "alice, phone", phone, 200)
    return story.steps


if __name__ == "__main__":
    main(__doc__, tell_story)
