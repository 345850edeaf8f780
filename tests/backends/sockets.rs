//! A service that shares its port with its successor (SO_REUSEPORT), under load.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::Running;
use crate::ways::{PLAIN, Start};

/// A network in which nobody else has the port.
const OWN_NETWORK: Start =
    Start { before: &["unshare", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"], ..PLAIN };

/// It steers and drains, as `examples/reuseport/README.md` has it: no client waits on a listener that closes.
const SERVER: &str = "\
import ctypes, struct
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(('127.0.0.1', 8080))
listener.listen(512)
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 1))
listener.setsockopt(socket.SOL_SOCKET, 51, struct.pack('HP', 1, ctypes.addressof(program)))
listener.settimeout(0.01)
going = []
signal.signal(signal.SIGTERM, lambda *_: going.append(True))
notify('READY=1')
while True:
    if going: listener.settimeout(0)
    try:
        client, _ = listener.accept()
    except (TimeoutError, BlockingIOError):
        if going: break
        continue
    client.settimeout(30)
    client.recv(100)
    client.sendall(b'%d' % GENERATION)
    client.close()
";

const LOAD: &str = "\
import socket, sys
answers, failures = {}, []
while True:
    try:
        with socket.create_connection(('127.0.0.1', 8080), 30) as server:
            server.sendall(b'GET')
            answer = server.recv(10)
            if not answer: raise OSError('no answer')
    except OSError as error:
        failures.append(str(error))
        continue
    finally:
        if len(failures) > 9: break
    if not answers: print('answered', flush=True)
    answers[answer] = answers.get(answer, 0) + 1
    if answer == b'11': break
print(sum(answers.values()), len(answers), failures, flush=True)
";

#[test]
fn nobody_notices_ten_rolls_of_a_port_that_is_shared() {
    let mut running = Running::start("reuseport", OWN_NETWORK, &["--settle=50ms", "--max-stopping=1"], SERVER);
    running.serves(1);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut command = Command::new("nsenter");
            command.args(["--target", &running.pid().to_string(), "--net", "--", "python3", "-c", LOAD]);
            let mut client = command.stdout(Stdio::piped()).spawn().expect("a client");
            let mut said = BufReader::new(client.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
            assert_eq!(said.next().as_deref(), Some("answered"));
            (client, said)
        })
        .collect();
    for generation in 2..12 {
        running.roll(generation);
    }
    for (mut client, mut said) in clients {
        let text = said.next().expect("what became of it");
        assert!(client.wait().expect("it ends").success());
        let mut words = text.split(' ');
        let (answers, generations) = (words.next(), words.next());
        assert!(answers.and_then(|answers| answers.parse::<u32>().ok()).is_some_and(|answers| answers > 100), "{text}");
        assert!(generations.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count >= 2), "{text}");
        assert!(text.ends_with(" []"), "{text}");
    }
    running.stop();
}
