"""Four ways to ask, one answer: gRPC, JSON, the command line, and a service that only holds a replica.

For each scenario the expected verdicts are written down in scenarios.py. It is asked before the revocation, after it,
and after it was reinstated; the writes go through gRPC, JSON and the command line in turn. Exits with 1 and a list when
any answer differs from what is expected.

  agree.py --bin target/debug/rescind --service target/debug/examples/service
"""

import argparse
import concurrent.futures
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import client
import security
from mint import claims
from node import Server, Service, clean_environment, wait_until
from scenarios import Table

CATCH_UP_SECONDS = 10
# Runs of curl and of the command line at once: more would only wait for a core.
ASKERS = 4


class Json:
    """The JSON twins, by curl."""

    def __init__(self, url):
        self.url = url

    def post(self, path, body):
        """(status, answer)."""
        command = ["curl", "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"]
        command += ["--header", "Content-Type: application/json", "--data-binary", "@-", *security.curl_flags(), self.url + path]
        ran = subprocess.run(command, input=json.dumps(body).encode(), capture_output=True, check=True)
        answer, status = ran.stdout.rsplit(b"\n", 1)
        return int(status), json.loads(answer)

    def check(self, token):
        status, answer = self.post("/v1/check", {"token": token})
        return answer["verdict"] if status == 200 else f"HTTP {status} {answer}"

    def revoke(self, spec):
        spec = dict(spec)
        if "cutoff" in spec:
            spec["cutoff"] = rfc3339(spec["cutoff"])
        status, answer = self.post("/v1/revocations", {"revocations": [spec]})
        assert status == 200, answer
        return answer["outcomes"][0]["id"]

    def reinstate(self, id):
        status, answer = self.post("/v1/revocations:reinstate", {"reinstatements": [{"id": id}]})
        assert status == 200, answer
        return answer["outcomes"][0]["undone_ids"]


class CommandLine:
    """The `rescind` binary. Its exit status is the answer."""

    VERDICTS = {0: "not_revoked", 1: "revoked", 2: "unknown"}

    def __init__(self, binary, url):
        self.binary, self.url = binary, url

    def run(self, *arguments, stdin=""):
        command = [self.binary, *arguments, "--server", self.url]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=clean_environment(), timeout=60)

    def answer(self, *arguments, stdin=""):
        ran = self.run(*arguments, "--json", stdin=stdin)
        assert ran.returncode == 0, f"{arguments}: exit {ran.returncode}: {ran.stderr}"
        return json.loads(ran.stdout)

    def check(self, token):
        ran = self.run("check", "--token", "-", stdin=token)
        return self.VERDICTS.get(ran.returncode, f"exit {ran.returncode}: {ran.stderr}")

    def revoke(self, spec):
        arguments = ["--token", "-"] if "token" in spec else []
        for name, value in spec.get("selector", {}).items():
            arguments += ["--claim", f"{name}={value}"]
        if "cutoff" in spec:
            arguments += ["--cutoff", str(spec["cutoff"])]
        if "cutoff_on" in spec:
            arguments += ["--cutoff-on", spec["cutoff_on"]]
        for exception in spec.get("exceptions", ()):
            arguments += ["--except", ",".join(f"{name}={value}" for name, value in exception.items())]
        return self.answer("revoke", *arguments, stdin=spec.get("token", ""))["outcomes"][0]["id"]

    def reinstate(self, id):
        return self.answer("reinstate", "--id", id)["outcomes"][0]["undone_ids"]


class Replica:
    """The example service. It is asked once it has come as far as the last write."""

    VERDICTS = {200: "not_revoked", 401: "revoked"}

    def __init__(self, service, writer, mint):
        self.service, self.writer, self.mint = service, writer, mint

    def check(self, token):
        status = self.service.status_of(token)
        return self.VERDICTS.get(status, f"HTTP {status}")

    def catch_up(self):
        """Revokes a token of its own: as changes arrive in order, whoever refuses it has all that was written before."""
        token = self.mint()
        self.writer.revoke({"token": token})
        wait_until(lambda: self.service.status_of(token) == 401, "the service has caught up", CATCH_UP_SECONDS)


class Agreement:
    """Asks everybody and keeps what differs."""

    def __init__(self, askers):
        self.askers = askers
        self.pool = concurrent.futures.ThreadPoolExecutor(ASKERS)
        self.asked = 0
        self.differences = []

    def expect(self, when, tokens):
        """`tokens`: (why, token, whether it is refused)."""
        questions = [(name, asker, *each) for each in tokens for name, asker in self.askers.items()]
        answers = self.pool.map(lambda question: question[1].check(question[3]), questions)
        for (name, _, why, _, refused), answer in zip(questions, answers, strict=True):
            self.asked += 1
            expected = "revoked" if refused else "not_revoked"
            if answer != expected:
                self.differences.append(f"{when}: {why}: {name} says {answer}, expected {expected}")


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(binary, service_binary, directory):
    """Returns the finished agreement."""
    table = Table()
    jwks = pathlib.Path(directory) / "jwks.json"
    table.issuer.write_jwks(jwks)
    mint = lambda: table.issuer.mint(claims(), "ed")
    with Server(binary, directory) as server, Service(service_binary, server.url, jwks, directory) as service:
        grpc, curl, cli = client.Client(server.listen), Json(server.url), CommandLine(binary, server.url)
        replica = Replica(service, grpc, mint)
        wait_until(lambda: service.status_of(mint()) == 200, "the service has its first snapshot")
        agreement = Agreement({"gRPC": grpc, "JSON": curl, "the command line": cli, "the service": replica})
        writers = [grpc, curl, cli]
        for turn, scenario in enumerate(table.scenarios()):
            tokens = scenario.tokens()
            nothing_refused = [(why, token, False) for why, token, _ in tokens]
            agreement.expect(f"{scenario.name}, before", nothing_refused)
            id = writers[turn % 3].revoke(scenario.revocation)
            replica.catch_up()
            agreement.expect(f"{scenario.name}, revoked", tokens)
            undone = writers[(turn + 1) % 3].reinstate(id)
            if undone != [id]:
                agreement.differences.append(f"{scenario.name}: reinstating {id} undid {undone}")
            replica.catch_up()
            agreement.expect(f"{scenario.name}, reinstated", nothing_refused)
            print(f"{scenario.name}: {len(scenario.refused)} refused, {len(scenario.accepted)} accepted", flush=True)
        return agreement


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bin", required=True, help="the rescind binary")
    arguments.add_argument("--service", required=True, help="the example service")
    given = arguments.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rescind-agree-") as directory:
        agreement = run(given.bin, given.service, directory)
    for difference in agreement.differences:
        print(f"DIFFERS  {difference}", file=sys.stderr)
    print(f"{agreement.asked} answers, {len(agreement.differences)} differ, {time.monotonic() - begun:.1f} s")
    sys.exit(1 if agreement.differences else 0)


if __name__ == "__main__":
    main()
