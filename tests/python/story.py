"""Tells a story step by step, and checks each step: what the demos share."""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from node import clean_environment


class Story:
    """Tells steps, checks them, and counts."""

    def __init__(self, binary, server):
        self.binary, self.server = binary, server
        self.steps = 0

    def step(self, text):
        self.steps += 1
        print(f"\n{self.steps}. {text}", flush=True)

    def tell(self, text):
        print(f"     {text}", flush=True)

    def rescind(self, *arguments, stdin="", exits=0):
        """Runs the command line as a user would type it, and shows what it says."""
        shown = " ".join(f"'{each}'" if " " in each else each for each in arguments)
        self.tell(f"$ rescind {shown}")
        command = [self.binary, *arguments, "--server", self.server.url]
        ran = subprocess.run(command, input=stdin, capture_output=True, text=True, env=clean_environment(), timeout=20)
        for line in (ran.stdout + ran.stderr).splitlines():
            self.tell(f"  {line}")
        check(ran.returncode == exits, f"exit status {ran.returncode}, expected {exits}")
        return ran.stdout

    def expect(self, service, who, token, status):
        """Asks the service."""
        got = service.status_of(token)
        self.tell(f"GET {service.url}  as {who}  ->  {got}")
        check(got == status, f"expected {status}")


def check(holds, message):
    if not holds:
        raise AssertionError(message)


def main(doc, tell_story):
    """Runs `tell_story(binary, service_binary, directory)`; the first step that is not as it should be ends it with 1."""
    arguments = argparse.ArgumentParser(description=doc.splitlines()[0])
    arguments.add_argument("--bin", required=True, help="the rescind binary")
    arguments.add_argument("--service", required=True, help="the example service")
    given = arguments.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rescind-demo-") as directory:
        try:
            steps = tell_story(given.bin, given.service, directory)
        except (AssertionError, RuntimeError, TimeoutError, OSError, subprocess.SubprocessError) as error:
            print(f"\nFAILED: {error}", file=sys.stderr)
            for log in sorted(pathlib.Path(directory).glob("*.log")):
                print(f"--- the end of {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
            sys.exit(1)
    print(f"\nAll {steps} steps are as they should be, in {time.monotonic() - begun:.1f} s.")
