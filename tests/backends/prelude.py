# What the services of these tests have in common. The first argument is the generation's number.
import os, signal, socket, sys, time

GENERATION = int(sys.argv[1])
NOTIFY = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def notify(*lines):
    NOTIFY.sendto("\n".join(lines).encode(), os.environ["NOTIFY_SOCKET"])


def say(*words):
    "In one piece, and whole also where a signal comes while another one is told of, which print() is not made for."
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def on(*numbers):
    "Says which of these signals come, and goes on."
    for number in numbers:
        signal.signal(number, lambda number, _: say(GENERATION, signal.Signals(number).name))


def serve():
    "Ends by SIGTERM."
    while True:
        signal.pause()


def daemon(run, prepare=lambda: None):
    "Runs it in a process that has left this one in every way it can; gives its id, once that is prepared."
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            prepare()
            os.write(writer, b"%d" % os.getpid())
            os.close(writer)
            run()
            os._exit(0)
        os._exit(0)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.wait()
    return pid


def wait_for_word(name):
    "Waits until the test writes to this pipe, and gives what it writes."
    path = os.path.join(os.environ["FOLDER"], name)
    with open(path) as pipe:
        return pipe.read()
