//! Reports for a program: one document, whose field names stay.

use serde::Serialize;

use super::{Finding, Report, Verdict};

/// The document.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// In the order asked for.
    pub units: Vec<Entry<'a>>,
}

/// A unit in it.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    unit: &'a str,
    wrapper: bool,
    verdict: Verdict,
    findings: &'a [Finding],
    drop_in: Option<File<'a>>,
    written: bool,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    path: String,
    text: &'a str,
}

impl<'a> Entry<'a> {
    /// The report on a unit whose drop-ins lie in this folder, where the one it takes has been written, or not.
    pub fn new(report: &'a Report, folder: &str, written: bool) -> Self {
        let drop_in = report.drop_in.as_ref();
        Self {
            unit: &report.unit,
            wrapper: report.wrapper,
            verdict: report.verdict,
            findings: &report.findings,
            drop_in: drop_in.map(|one| File { path: format!("{folder}/{}", one.name), text: &one.text }),
            written,
        }
    }
}
