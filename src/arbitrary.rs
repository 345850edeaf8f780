//! Text for property tests: much like what a parser expects, and now and then like nothing.

use proptest::prelude::*;

/// Text put together of these pieces, with any other character between them once in a while.
pub fn text_of(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        9 => proptest::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A few words, each of such text.
pub fn words_of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        9 => proptest::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    let word = proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    proptest::collection::vec(word, 0..6)
}

/// What stands in unit files, and what is hard to read there.
pub const OF_UNITS: &[&str] = &[
    "[Unit]\n",
    "[Service]\n",
    "[Install]\n",
    "\n",
    "\n",
    "\r",
    "\0",
    "=",
    "=",
    " ",
    "\t",
    "#",
    ";",
    "\\",
    "\\\n",
    "\"",
    "'",
    "%",
    "%%",
    "%n",
    "%i",
    "%t",
    "$",
    "${A}",
    "a",
    "b c",
    "/srv",
    "ExecStart",
    "User",
    "PartOf",
    "Environment",
    "Restart",
    "\\x25",
    "\\n",
    "ü",
    "+",
    "-",
    "@",
    ":",
];
