#!/usr/bin/python3
"""web.py PORT [ADVICE...]: answers HTTP on an address that it shares with its successor by SO_REUSEPORT.

steer    have new clients go to the one that has come last
drain    when told to stop, let in whoever has come, and only then close the listener

With neither it loses some at each roll. A socket of systemd's is taken as it is, and needs neither.
"""

import ctypes
import http.server
import os
import signal
import socket
import socketserver
import struct
import sys
import threading

# Of linux/bpf_common.h and asm-generic/socket.h.
BPF_RET, BPF_K, SO_ATTACH_REUSEPORT_CBPF = 0x06, 0x00, 51


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ.get('GREETING', 'nothing')} from process {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 1024
    # One that stops answers those first that it has let in.
    daemon_threads = False
    timeout = 0
    empty = False

    def handle_timeout(self):
        self.empty = True

    def drain(self):
        while not self.empty:
            self.handle_request()


def steer(listener):
    """All listeners of an address are numbered from 0, in the order in which they came, and a program says which has the
    next client. This one says 1: the newer of two. Where there is no such number, the kernel chooses as ever.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RET | BPF_K, 0, 0, 1))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program)))


def listen(port, advice):
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # For a listener without SO_REUSEPORT that may follow: what is left of connections must not be in its way.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    # From here on it has its share of the clients, so it has to be ready for them.
    listener.listen(Server.request_queue_size)
    if "steer" in advice:
        steer(listener)
    return listener


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        notifications.sendall(text.encode())


def main():
    port, *advice = sys.argv[1:]
    # All threads have it blocked, and this one waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server = Server(None, Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listen(int(port), advice)
    server.server_name, server.server_port = server.socket.getsockname()[:2]
    threading.Thread(target=server.serve_forever, args=[0.05]).start()
    notify("READY=1")

    signal.sigwait([signal.SIGTERM])
    server.shutdown()
    if "drain" in advice:
        server.drain()
    # Closes the listener, then waits for the last answers.
    server.server_close()


if __name__ == "__main__":
    main()
