"""Real processes on free ports: a server, agents, and the example service that only holds a replica. Ended with their
owner."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import security

START_SECONDS = 20
POLL_SECONDS = 0.005
# Below the range that the kernel picks from for outgoing connections: a client that keeps calling a dead server on its
# own machine must never connect to itself.
PORTS = range(20_000, 32_000)


def free_port():
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found")


def wait_until(condition, what, seconds=START_SECONDS):
    """Polls `condition` until it holds and returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)


def http_status(url, bearer=None):
    """The status of a GET; `None` when nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


class Process:
    """A child process whose output goes to a file; use it in a `with`."""

    def __init__(self, name, log_dir):
        self.log = pathlib.Path(log_dir) / f"{name}.log"
        self.name = name
        self.child = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def spawn(self, command):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment())

    def kill(self):
        """kill -9."""
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        if self.child:
            self.child.wait()

    def answers(self, url, expected):
        """Whether a GET has this status yet; raises when the process has ended."""
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}:\n{self.log.read_text()[-4000:]}")
        return http_status(url) == expected


class Server(Process):
    """`rescind serve`."""

    def __init__(self, binary, directory):
        super().__init__("server", directory)
        self.binary = binary
        self.data_dir = pathlib.Path(directory) / "data"
        self.listen = f"127.0.0.1:{free_port()}"
        self.ops = f"127.0.0.1:{free_port()}"
        self.url = f"{security.SCHEME}://{self.listen}"

    def start(self):
        """Starts it, or starts it again with the same data and ports; returns once it is ready."""
        flags = ["--listen", self.listen, "--ops-listen", self.ops, "--data-dir", self.data_dir]
        flags += security.server_flags()
        self.spawn([self.binary, "serve", *flags])
        wait_until(lambda: self.answers(f"http://{self.ops}/readyz", 200), "the server is ready")


class Agent(Process):
    """`rescind agent`, on TCP or on a Unix socket."""

    def __init__(self, name, binary, upstream, directory, listen=None, flags=()):
        super().__init__(name, directory)
        self.listen = listen or f"127.0.0.1:{free_port()}"
        self.ops = f"127.0.0.1:{free_port()}"
        self.url = self.listen if self.listen.startswith("unix:") else f"{security.SCHEME}://{self.listen}"
        self.cache_dir = pathlib.Path(directory) / f"{name}-cache"
        self.command = [binary, "agent", "--upstream", upstream, "--name", name, "--cache-dir", self.cache_dir]
        self.command += ["--listen", self.listen, "--ops-listen", self.ops, *flags]
        self.command += security.server_flags()

    def start(self, ready=True):
        """Starts it; with `ready`, returns once it has caught up, else once it runs."""
        self.spawn(self.command)
        url = f"http://{self.ops}/{'readyz' if ready else 'livez'}"
        wait_until(lambda: self.answers(url, 200), f"{self.name} is there")

    def metric(self, name):
        """A number of its metrics."""
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


class Service(Process):
    """The example service: verifies tokens with a JWK set, checks them in its own replica."""

    def __init__(self, binary, upstream, jwks, directory):
        super().__init__("service", directory)
        self.listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}/"
        self.command = [binary, "--server", upstream, "--jwks", jwks, "--listen", self.listen]

    def start(self):
        """Starts it; returns once it answers, which may be before its replica is ready."""
        self.spawn(self.command)
        wait_until(lambda: self.answers(self.url, 401), "the service answers")

    def status_of(self, token):
        """The status that a request with this token gets."""
        return http_status(self.url, bearer=token)


def clean_environment():
    """The environment without what would steer the product, but with what lets it in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESCIND_")}
    return kept | security.environment()
