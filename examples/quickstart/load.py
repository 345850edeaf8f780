#!/usr/bin/python3
"""load HOST:PORT CLIENTS: asks a web server, with a connection for each request, until standard input ends.

Then it prints how many requests were answered, refused, reset (or closed without an answer) and left unanswered.
"""

import collections
import socket
import sys
import threading

TIMEOUT = 30.0


def ask(address):
    """One request; the word for what became of it."""
    try:
        with socket.create_connection(address, TIMEOUT) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := connection.recv(65536):
                answer += part
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except OSError:
        return "unanswered"
    if not answer:
        return "reset"
    return "answered" if b" 200 " in answer[:20] else "unanswered"


def client(address, over, counts):
    while not over.is_set():
        counts[ask(address)] += 1


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    address = (host, int(port))
    over = threading.Event()
    tallies = [collections.Counter() for _ in range(int(sys.argv[2]))]
    clients = [threading.Thread(target=client, args=(address, over, tally)) for tally in tallies]
    for one in clients:
        one.start()
    print("asking", flush=True)
    sys.stdin.read()
    over.set()
    for one in clients:
        one.join()
    total = sum(tallies, collections.Counter())
    for name in ("answered", "refused", "reset", "unanswered"):
        print(name, total[name])


if __name__ == "__main__":
    main()
