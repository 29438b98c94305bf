"""No test reaches a network, in this process or in one that it starts."""

import socket
import subprocess
import sys
import urllib.request

import pytest

ELSEWHERE = "192.0.2.1"  # reserved for documentation, no machine has it
CONNECT = f"import socket; socket.create_connection(('{ELSEWHERE}', 80), 1)"


def test_no_connection_leaves_this_machine():
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection((ELSEWHERE, 80), 1)


def test_no_packet_leaves_this_machine():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets,
        pytest.raises(OSError, match="tests have no network"),
    ):
        packets.sendto(b"", (ELSEWHERE, 53))


def test_no_name_is_looked_up():
    with pytest.raises(OSError, match="tests have no network"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_a_process_that_a_test_starts_has_no_network_either():
    run = subprocess.run([sys.executable, "-c", CONNECT], capture_output=True)
    assert b"tests have no network" in run.stderr


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 1).close()
