//! The table of keys against what each systemd knows.

use std::collections::{BTreeMap, BTreeSet};

use procroll::unit::keys::TABLE;
use procroll::unit::text::Section;

use crate::machine::Machine;

on_each_systemd!(every_key_that_is_about_a_unit_has_a_class);

fn every_key_that_is_about_a_unit_has_a_class(machine: &Machine) {
    let dump = machine.ok("/usr/lib/systemd/systemd --dump-configuration-items");
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut section = "";
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once('=') {
            known.entry(section).or_default().insert(key);
        }
    }
    let is_condition = |key: &&str| key.starts_with("Condition") || key.starts_with("Assert");
    let unit = known["Unit"].iter().copied().filter(|key| !is_condition(key)).map(|key| (Section::Unit, key));
    let service = known["Service"].difference(&known["Mount"]).map(|&key| (Section::Service, key));
    let unclassed: Vec<_> = unit
        .chain(service)
        .filter(|(section, key)| !TABLE.iter().any(|(_, of, keys, _)| of == section && keys.contains(key)))
        .collect();
    assert_eq!(unclassed, [], "keys that nobody has thought of");
}
