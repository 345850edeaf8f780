//! The README's first command, as a newcomer runs it.
#![allow(clippy::expect_used)] // That is how a test fails.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_quickstart_rolls_under_load_and_loses_nothing() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/run");
    let output = Command::new(run).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the quickstart");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for part in [
        "$ systemctl reload quickstart\n",
        "The application says: hello from process",
        "And still the application says: goodbye from process",
        "● quickstart@12.service loaded failed failed",
        "last roll failed: quickstart@12.service failed (Result=exit-code, status=3) while settling.",
        "\nrefused 0\nreset 0\nunanswered 0\n",
        "Twelve generations, one of them broken, and no request lost.\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
