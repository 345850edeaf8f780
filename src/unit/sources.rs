//! A unit's files together: the fragment first, then its drop-ins, in the order systemd applies them.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Source;
use super::text::{Assignment, Section};

/// Whether this is one of systemd's words for a boolean that is false.
pub fn is_no(value: &str) -> bool {
    ["0", "n", "no", "f", "false", "off"].contains(&value.to_ascii_lowercase().as_str())
}

/// The files of one unit.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub Vec<Source>);

/// An assignment, and the file it stands in.
pub type Placed<'a> = (&'a Source, &'a Assignment);

impl Sources {
    /// The files at these paths, which say these bytes.
    #[cfg(test)]
    pub fn parse(files: &[(&str, &[u8])]) -> Result<Self, super::Unfit> {
        files.iter().map(|(path, bytes)| Source::parse(path, bytes)).collect::<Result<_, _>>().map(Self)
    }

    /// A number that is another one for another text, as a rule.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for source in &self.0 {
            source.path.hash(&mut hasher);
            source.assignments.iter().for_each(|one| (one.section, &one.key, &one.value).hash(&mut hasher));
        }
        hasher.finish()
    }

    fn all(&self, section: Section, key: &str) -> impl DoubleEndedIterator<Item = Placed<'_>> {
        let placed = self.0.iter().flat_map(|source| source.assignments.iter().map(move |one| (source, one)));
        placed.filter(move |(_, one)| one.section == section && one.key == key)
    }

    /// What a scalar is in the end: the last assignment, as written, if it isn't empty.
    pub fn get(&self, section: Section, key: &str) -> Option<Placed<'_>> {
        self.all(section, key).next_back().filter(|(_, one)| !one.value.is_empty())
    }

    /// What a list is in the end: all assignments since the last that empties it.
    pub fn list(&self, section: Section, key: &str) -> Vec<Placed<'_>> {
        let mut list = Vec::new();
        for placed in self.all(section, key) {
            if placed.1.value.is_empty() { list.clear() } else { list.push(placed) }
        }
        list
    }

    /// A scalar of `[Service]`.
    pub fn service(&self, key: &str) -> Option<&Assignment> {
        self.get(Section::Service, key).map(|(_, one)| one)
    }

    /// What to call a key of `[Service]` of this unit before people: also where its last assignment ends.
    pub fn naming(&self, key: &str, unit: impl std::fmt::Display) -> String {
        let last = self.all(Section::Service, key).next_back();
        let at = last.map_or(String::new(), |(source, one)| format!(" ({}:{})", source.path, one.line));
        format!("{key}= of {unit}{at}")
    }

    /// What a boolean of `[Service]` is in the end, `no` unless it is set.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.service(key).map_or(String::new(), |one| one.value.to_ascii_lowercase());
        ["1", "y", "yes", "t", "true", "on"].contains(&value.as_str())
    }

    /// Whether `RuntimeDirectory=` lives on when the main process is replaced.
    pub fn preserve_runtime_directory(&self) -> bool {
        let preserve = self.service("RuntimeDirectoryPreserve").map(|one| one.value.as_str());
        !self.sets_any(&["RuntimeDirectory"]) || matches!(preserve, Some("restart" | "yes"))
    }

    /// Whether any of these keys of `[Service]` is set.
    pub fn sets_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.service(key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_assignment_is_what_a_scalar_is() {
        let sources = Sources::parse(&[
            ("/a", b"[Service]\nUser=a\nGroup=g\n"),
            ("/b", b"[Service]\nUser=b\nGroup=\nDynamicUser=True\n"),
        ]);
        let sources = sources.expect("readable");
        assert_eq!(sources.service("User").map(|one| one.value.as_str()), Some("b"));
        assert_eq!(sources.service("Group"), None);
        assert!(sources.flag("DynamicUser") && !sources.flag("User"));
    }

    #[test]
    fn an_empty_assignment_empties_a_list() {
        let sources = Sources::parse(&[("/a", b"[Service]\nA=1\nA=2\n"), ("/b", b"[Service]\nA=\nA=3\nA=4\n")]);
        let sources = sources.expect("readable");
        let list = sources.list(Section::Service, "A");
        let list: Vec<_> =
            list.iter().map(|(source, one)| (source.path.as_str(), one.value.as_str(), one.line)).collect();
        assert_eq!(list, [("/b", "3", 3), ("/b", "4", 4)]);
    }
}
