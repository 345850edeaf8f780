//! A sample of every key, as unit files beside this one.
//!
//! Each file is the settings of one unit, which go well together. A unit with those in `anywhere` starts in any machine;
//! those in `elsewhere` need what a machine may not have (an image, a module of the kernel, a secret). `not-carried.conf`
//! has the keys that a generation doesn't get of its wrapper.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use procroll::unit::text::{self, Assignment, Section};

use crate::machine::Machine;

/// The keys that a systemd knows.
pub struct Known {
    /// Those of `[Unit]` and `[Service]`.
    pub keys: Vec<(Section, String)>,
    /// Those of `[Mount]`.
    pub of_mounts: BTreeSet<String>,
}

impl Known {
    /// Asks this systemd.
    pub fn ask(machine: &Machine) -> Self {
        let dump = machine.ok("$(realpath /sbin/init) --dump-configuration-items");
        let mut known = Self { keys: Vec::new(), of_mounts: BTreeSet::new() };
        let mut section = "";
        for line in dump.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            } else if let Some((key, _)) = line.split_once('=') {
                match section {
                    "Unit" => known.keys.push((Section::Unit, key.to_owned())),
                    "Service" => known.keys.push((Section::Service, key.to_owned())),
                    "Mount" => _ = known.of_mounts.insert(key.to_owned()),
                    _ => (),
                }
            }
        }
        known
    }

    /// Whether it knows this key.
    pub fn has(&self, section: Section, key: &str) -> bool {
        self.keys.iter().any(|known| *known == (section, key.to_owned()))
    }
}

/// The settings of one unit.
pub struct Sample {
    /// What its file is called.
    pub name: String,
    /// Whether a unit with them starts in any machine.
    pub starts: bool,
    /// What this systemd knows of them.
    pub settings: Vec<Assignment>,
}

/// The samples of what is carried, as far as this systemd knows it.
pub fn carried(known: &Known) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (name, starts) in [("anywhere", true), ("elsewhere", false)] {
        for entry in fs::read_dir(folder().join(name)).expect("the samples") {
            samples.push(Sample::read(&entry.expect("a file").path(), starts, known));
        }
    }
    samples.retain(|sample| !sample.settings.is_empty());
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    samples
}

/// Settings that are not carried, as far as this systemd knows them.
pub fn not_carried(known: &Known) -> Vec<Assignment> {
    Sample::read(&folder().join("not-carried.conf"), false, known).settings
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/samples")
}

impl Sample {
    fn read(path: &Path, starts: bool, known: &Known) -> Self {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let mut settings = text::parse(&fs::read(path).expect("a sample")).expect("a unit file");
        settings.retain(|one| known.has(one.section, &one.key));
        Self { name, starts, settings }
    }
}

/// What the samples speak of.
pub fn prepare(machine: &Machine) {
    machine.write("/etc/sample.env", "FROM_FILE=\"x y\"\n# comment\nEMPTY=\nUNSET=no\n");
    machine.write("/etc/pam.d/sample", "account required pam_permit.so\nsession required pam_permit.so\n");
    machine.write("/etc/systemd/oomd/rules.d/sample.oomrule", "[Rule]\n");
    machine.ok("mkdir --parents /srv/root /var/opt");
}
