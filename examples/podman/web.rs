//! The program in the image: `web ADDRESS` answers HTTP, and `web health` asks the one in the same container how it is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

/// Where this container alone is asked. Its address is the old container's too, which would answer for it.
const HEALTH: &str = "/run/web.sock";

/// What it says to everybody is part of the image. Without it there is nothing to say, and it isn't healthy.
const GREETING: &str = "/greeting";

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("health") => health(),
        Some(address) => serve(address),
        None => Err(io::Error::other("it takes an argument: the address to serve on, or health")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str) -> io::Result<()> {
    // It is process 1 of its container, to which a signal that it doesn't handle does nothing.
    let terminate: SigSet = [Signal::SIGTERM].into_iter().collect();
    terminate.thread_block()?;
    let signals = SignalFd::with_flags(&terminate, SfdFlags::SFD_NONBLOCK)?;
    let health = UnixListener::bind(HEALTH)?;
    std::thread::spawn(move || health.incoming().flatten().for_each(|client| drop(answer(client))));
    // As soon as it listens it has all new clients. So it listens when it is well, and not before.
    while let Err(error) = greeting() {
        println!("doesn't serve yet: {error}");
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&second))?;
        if signals.read_signal()?.is_some() {
            return Ok(());
        }
    }
    let listener = shared(address)?;
    println!("serves on {address}");

    // It returns when every client has been answered.
    std::thread::scope(|scope| {
        let mut stops = false;
        loop {
            match listener.accept() {
                Ok((client, _)) => drop(scope.spawn(|| patient(client).and_then(answer))),
                // Nobody waits any more, and new ones have gone to the successor since that listens.
                Err(error) if error.kind() == ErrorKind::WouldBlock && stops => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&listener, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)], None)?;
                }
                // That client has gone.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
            stops = stops || signals.read_signal()?.is_some();
        }
        println!("stops");
        drop(listener);
        Ok(())
    })
}

/// Listens where others may listen as well: the old container and the new one.
fn shared(address: &str) -> io::Result<TcpListener> {
    let address: SocketAddrV4 = address
        .parse()
        .map_err(|_| io::Error::other(format!("{address} is no address. Write it like 127.0.0.1:8000")))?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 1024)?;
    steer(&socket)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Has the kernel give each new client to the second of those who listen, in the order in which they came: with two, to
/// the newer. Where there is one, that one has them all.
fn steer(socket: &OwnedFd) -> io::Result<()> {
    let mut code = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 1 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut code };
    // SAFETY: the kernel reads a sock_fprog of this size, and as many instructions as that says, and keeps neither.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    Errno::result(done)?;
    Ok(())
}

fn patient(client: TcpStream) -> io::Result<TcpStream> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Reads a request and answers it, whatever it is.
fn answer(mut client: impl Read + Write) -> io::Result<()> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") && request.len() < 65536 {
        match client.read(&mut part)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&part[..length]),
        }
    }
    let (status, text) = match greeting() {
        Ok(greeting) => ("200 OK", greeting),
        Err(error) => ("500 Internal Server Error", format!("{error}\n")),
    };
    write!(client, "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

fn greeting() -> io::Result<String> {
    std::fs::read_to_string(GREETING).map_err(|error| io::Error::new(error.kind(), format!("{GREETING}: {error}")))
}

/// The command of HEALTHCHECK.
fn health() -> io::Result<()> {
    let mut web = UnixStream::connect(HEALTH)?;
    web.set_read_timeout(Some(PATIENCE))?;
    web.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    web.read_to_string(&mut response)?;
    match response.starts_with("HTTP/1.0 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(response)),
    }
}
