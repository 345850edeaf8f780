//! What one notification says: a datagram of the sd_notify(3) protocol, taken apart as systemd does it. Pure.

use std::time::Duration;

/// The longest notification that is read, in bytes: as systemd's own.
pub const LONGEST: usize = 4096;

/// What a notification says, of what matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`
    pub ready: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `MAINPID=`
    pub main_pid: Option<u32>,
    /// `STATUS=`; empty for none any more.
    pub status: Option<String>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub extend: Option<Duration>,
}

/// It is no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// More than [`LONGEST`] bytes, of which the rest is lost.
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// Text has none.
    #[error("it has a NUL in it")]
    Nul,
}

/// Reads all lines of a notification. Of two with the same name the first one counts, as for systemd; one that is
/// unknown, or whose value is none, is as if it were not there.
///
/// # Errors
/// [`BadMessage`]: nothing of it counts.
pub fn parse(bytes: &[u8]) -> Result<Message, BadMessage> {
    if bytes.len() > LONGEST {
        return Err(BadMessage::TooLong);
    }
    // Some send the end of a C string with it.
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err(BadMessage::Nul);
    }
    let value = |name: &str| {
        let mut lines = bytes.split(|byte| *byte == b'\n' || *byte == b'\r');
        lines.find_map(|line| line.strip_prefix(name.as_bytes())).and_then(|value| std::str::from_utf8(value).ok())
    };
    let says = |line: &[u8]| bytes.split(|byte| *byte == b'\n' || *byte == b'\r').any(|one| one == line);
    Ok(Message {
        ready: says(b"READY=1"),
        stopping: says(b"STOPPING=1"),
        main_pid: value("MAINPID=").and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0),
        status: value("STATUS=").map(str::to_owned),
        extend: value("EXTEND_TIMEOUT_USEC=").and_then(|usec| usec.parse().ok()).map(Duration::from_micros),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    const OF_MESSAGES: &[&str] = &[
        "READY=1",
        "READY=",
        "STOPPING=1",
        "MAINPID=",
        "STATUS=",
        "EXTEND_TIMEOUT_USEC=",
        "\n",
        "\n",
        "\r",
        "\0",
        "=",
        "1",
        "42",
        "-",
        " ",
        "ü",
        "X_READY=1",
        "BARRIER=1",
        "FDSTORE=1",
    ];

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            match parse(&bytes) {
                Ok(message) => prop_assert!(bytes.len() <= LONGEST && message.status.is_none_or(|text| !text.contains(['\n', '\0']))),
                Err(BadMessage::TooLong) => prop_assert!(bytes.len() > LONGEST),
                Err(BadMessage::Nul) => prop_assert!(bytes.contains(&0)),
            }
        }

        #[test]
        fn each_line_counts_wherever_it_stands(text in text_of(OF_MESSAGES)) {
            let lines: Vec<_> = text.split(['\n', '\r']).collect();
            match parse(text.as_bytes()) {
                Ok(message) => {
                    // A NUL at the very end belongs to no line.
                    let is = |wanted: &str| lines.iter().any(|line| *line == wanted || text.ends_with('\0') && line.strip_suffix('\0') == Some(wanted));
                    prop_assert_eq!(message.ready, is("READY=1"));
                    prop_assert_eq!(message.stopping, is("STOPPING=1"));
                    prop_assert_ne!(message.main_pid, Some(0));
                }
                Err(_) => prop_assert!(text.trim_end_matches('\0').len() < text.len() - 1 || text.trim_end_matches('\0').contains('\0')),
            }
        }
    }

    fn read(text: &str) -> Message {
        parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn every_field_of_a_datagram_is_read() {
        let message =
            read("STATUS=Gunicorn arbiter booted\nREADY=1\nMAINPID=7\nX_OWN=x\nEXTEND_TIMEOUT_USEC=5000000\n");
        let expected = Message {
            ready: true,
            stopping: false,
            main_pid: Some(7),
            status: Some("Gunicorn arbiter booted".to_owned()),
            extend: Some(Duration::from_secs(5)),
        };
        assert_eq!(message, expected);
        assert!(read("READY=1\0").ready && read("STOPPING=1").stopping);
    }

    #[test]
    fn what_only_looks_like_a_field_is_none() {
        for text in [
            "",
            "READY",
            "READY=0",
            "READY=11",
            "READY=1 ",
            "XREADY=1",
            "ready=1",
            "STATUS",
            "MAINPID=0",
            "MAINPID=-1",
            "MAINPID=x",
        ] {
            assert_eq!(read(text), Message::default(), "{text}");
        }
        assert_eq!(read("STATUS=one\nSTATUS=two").status, Some("one".to_owned()));
        assert_eq!(parse(b"STATUS=\xff\nREADY=1"), Ok(Message { ready: true, ..Message::default() }));
        assert_eq!(parse(b"READY=1\0\0"), Err(BadMessage::Nul));
        assert_eq!(parse(&[b'x'; 65536]), Err(BadMessage::TooLong));
    }
}
