"""No network: Python imports this by itself where its folder is on PYTHONPATH.

So no test, nor any process that a test starts, reaches another machine.
"""

import ipaddress
import sys

LOOKUPS = {
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
}
TRANSFERS = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def refuse(event: str, arguments: tuple) -> None:
    """Raise OSError where a socket is about to leave this machine."""
    if event in LOOKUPS and not is_local(arguments[0]):
        raise OSError(f"tests have no network: {arguments[0]}")
    if event in TRANSFERS and not is_local_address(arguments[1]):
        raise OSError(f"tests have no network: {arguments[1]}")


def is_local_address(address: object) -> bool:
    """Whether what a socket connects to is here; all but (host, port) is."""
    return not isinstance(address, tuple) or is_local(address[0])


def is_local(host: object) -> bool:
    """Whether a name or number of a host is that of this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


sys.addaudithook(refuse)
