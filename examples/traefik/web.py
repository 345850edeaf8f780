#!/usr/bin/python3
"""web.py FIRST LAST: answers HTTP behind a proxy, on the first free port of these on the loopback.

The proxy asks each port for /health, and nobody else does. So the answers tell what it knows: this says that it is ready
when the proxy has found it, and closes its port when the proxy has heard that it stops.
"""

import http.server
import os
import signal
import socket
import socketserver
import sys
import threading

# What the proxy has heard twice it has acted on once.
HEARD = 2
# How long it waits for a proxy that doesn't ask any more.
PATIENCE = 10.0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            stops = self.server.stops
            self.answer(503 if stops else 200, "stops\n" if stops else "ready\n")
            self.server.tell("stops" if stops else "ready")
        else:
            self.answer(200, f"{os.environ.get('GREETING', 'nothing')} from port {self.server.server_port}\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    # One that stops answers those first that it has let in.
    daemon_threads = False
    stops = False

    def __init__(self, port):
        self.told = {"ready": 0, "stops": 0}
        self.change = threading.Condition()
        super().__init__(("127.0.0.1", port), Handler)

    def tell(self, what):
        with self.change:
            self.told[what] += 1
            self.change.notify_all()

    def heard(self, what, patience=None):
        """Waits until the proxy has heard this."""
        with self.change:
            return self.change.wait_for(lambda: self.told[what] >= HEARD, patience)


def listen(ports):
    """Not a port by the generation's number: of those that failed some number may be missing, and a port is used again
    when its old one has gone.
    """
    for port in ports:
        try:
            return Server(port)
        except OSError as error:
            print(f"port {port}: {error.strerror}", flush=True)
    sys.exit("no port is free. Give more of them, to the proxy too")


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        notifications.sendall(text.encode())


def say_ready(server):
    server.heard("ready")
    notify(f"READY=1\nSTATUS=Serves on port {server.server_port}")


def main():
    first, last = map(int, sys.argv[1:])
    # All threads have it blocked, and this one waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server = listen(range(first, last + 1))
    threading.Thread(target=server.serve_forever, args=[0.05]).start()
    threading.Thread(target=say_ready, args=[server], daemon=True).start()

    signal.sigwait([signal.SIGTERM])
    server.stops = True
    if not server.heard("stops", PATIENCE):
        print("the proxy does not ask", flush=True)
    server.shutdown()
    # Closes the port, then waits for the last answers.
    server.server_close()


if __name__ == "__main__":
    main()
