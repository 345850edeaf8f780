//! The table of keys against what each systemd knows.

use procroll::unit::keys::{Class, TABLE, class};
use procroll::unit::text::Section;

use crate::machine::Machine;
use crate::samples::{self, Known};

on_each_systemd!(
    every_key_that_is_about_a_unit_has_a_class,
    every_key_that_the_readme_says_in_short_has_a_class,
    every_key_has_a_sample,
);

fn every_key_that_is_about_a_unit_has_a_class(machine: &Machine) {
    let known = Known::ask(machine);
    let is_condition = |key: &str| key.starts_with("Condition") || key.starts_with("Assert");
    let unclassed: Vec<_> = known
        .keys
        .iter()
        .filter(|(section, key)| match section {
            Section::Unit => !is_condition(key),
            Section::Service => !known.of_mounts.contains(key),
            Section::Scope => false,
        })
        .filter(|(section, key)| !TABLE.iter().any(|row| row.section == *section && row.keys.contains(&key.as_str())))
        .collect();
    assert!(unclassed.is_empty(), "keys that nobody has thought of: {unclassed:?}");
}

fn every_key_that_the_readme_says_in_short_has_a_class(machine: &Machine) {
    // `Restart…=` stands there for keys that begin so; one of another class has to be named beside it.
    let known = Known::ask(machine);
    let said_in_short = |section: Section, key: &str| {
        let rows = TABLE.iter().filter(|row| row.section == section && row.class != Class::Carried);
        rows.flat_map(|row| row.keys.iter().map(move |other| (row, other))).any(|(row, other)| {
            key.starts_with(other)
                && row.keys.iter().any(|longer| longer.len() > other.len() && longer.starts_with(other))
        })
    };
    let classed =
        |section: Section, key: &str| TABLE.iter().any(|row| row.section == section && row.keys.contains(&key));
    let lost: Vec<_> =
        known.keys.iter().filter(|(section, key)| said_in_short(*section, key) && !classed(*section, key)).collect();
    assert!(lost.is_empty(), "keys that the README's table has wrong: {lost:?}");
}

fn every_key_has_a_sample(machine: &Machine) {
    let known = Known::ask(machine);
    let carried: Vec<_> = samples::carried(&known).into_iter().flat_map(|sample| sample.settings).collect();
    let not_carried = samples::not_carried(&known);
    let without: Vec<_> = known
        .keys
        .iter()
        .filter(|(section, key)| {
            let samples = if class(*section, key).0 == Class::Carried { &carried } else { &not_carried };
            !samples.iter().any(|one| one.section == *section && one.key == *key)
        })
        .collect();
    assert!(without.is_empty(), "keys without a sample in tests/systemd/samples: {without:?}");
}
