//! Puts a generation's drop-ins together.

use crate::roll::Generation;
use crate::settings::WrapperName;

use super::keys::{self, Class};
use super::quote;
use super::specifier::{Specifiers, Unresolved};
use super::text::{self, Assignment, Section, Unreadable};

/// The file that holds procroll's own lines. It comes after the wrapper's.
pub const OWN_DROP_IN: &str = "90-procroll.conf";

/// One file of the wrapper's unit, as read from disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is, for messages.
    pub path: String,
    /// What it says.
    pub assignments: Vec<Assignment>,
}

impl Source {
    /// Reads the bytes of the file at `path`.
    ///
    /// # Errors
    /// [`Unfit::Unreadable`] where systemd would stop reading as well.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, Unfit> {
        let assignments = text::parse(bytes).map_err(|error| Unfit::Unreadable { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), assignments })
    }
}

/// The wrapper's unit: its fragment first, then its drop-ins, in the order systemd applies them.
#[derive(Clone, Debug)]
pub struct Wrapper {
    /// Its name.
    pub name: WrapperName,
    /// Fragment and drop-ins.
    pub sources: Vec<Source>,
    /// Its socket units that are active.
    pub sockets: Vec<String>,
}

impl Wrapper {
    /// What a scalar of `[Service]` is in the end: the last assignment, as written, if it isn't empty.
    pub fn service_value(&self, key: &str) -> Option<&Assignment> {
        self.sources
            .iter()
            .flat_map(|source| &source.assignments)
            .rfind(|one| one.section == Section::Service && one.key == key)
            .filter(|one| !one.value.is_empty())
    }

    /// What to call a key of `[Service]` before people: of which unit it is, and where its last assignment ends.
    pub fn naming(&self, key: &str) -> String {
        let mut assignments =
            self.sources.iter().flat_map(|source| source.assignments.iter().map(move |one| (source, one)));
        let last = assignments.rfind(|(_, one)| one.section == Section::Service && one.key == key);
        let at = last.map_or(String::new(), |(source, one)| format!(" ({}:{})", source.path, one.line));
        format!("{key}= of {}{at}", self.name)
    }

    /// What a boolean of `[Service]` is in the end, `no` unless it is set.
    pub fn service_flag(&self, key: &str) -> bool {
        let value = self.service_value(key).map_or(String::new(), |one| one.value.to_ascii_lowercase());
        ["1", "y", "yes", "t", "true", "on"].contains(&value.as_str())
    }

    /// Whether `RuntimeDirectory=` lives on when the wrapper's process is replaced.
    pub fn preserves_runtime_directory(&self) -> bool {
        let preserve = self.service_value("RuntimeDirectoryPreserve").map(|one| one.value.as_str());
        !self.sets_any(&["RuntimeDirectory"]) || matches!(preserve, Some("restart" | "yes"))
    }

    /// Whether any of these keys of `[Service]` is set.
    pub fn sets_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.service_value(key).is_some())
    }

    /// How the specifiers that name the unit resolve.
    pub fn specifiers(&self) -> Specifiers<'_> {
        let fragment = self.sources.first().map_or("", |source| source.path.as_str());
        Specifiers { name: &self.name, fragment }
    }
}

/// What a generation executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, templates already filled in.
    pub words: Vec<String>,
    /// Whether systemd is to expand `$VAR` in them, with the generation's own environment.
    pub expand_variables: bool,
}

/// All that goes into a generation's unit.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// The unit it is made from; none for a command from a terminal.
    pub wrapper: Option<&'a Wrapper>,
    /// Whose it is, for the mark: the wrapper's name, or `pid N` for a procroll at a terminal.
    pub owner: &'a str,
    /// Its number.
    pub generation: Generation,
    /// `Type=`
    pub service_type: &'a str,
    /// `ExecStart=`
    pub command: &'a Command,
    /// What the command line adds, in its order; it wins over the wrapper's.
    pub settings: &'a [Assignment],
    /// File names of drop-ins that would apply to the generation's name without being the wrapper's.
    pub foreign: &'a [String],
}

/// One file beside the generation's unit.
#[derive(Debug, PartialEq, Eq)]
pub struct DropIn {
    /// The file's name. systemd reads all drop-ins of a unit sorted by it.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// The wrapper's unit can't become a generation's.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file that systemd wouldn't read to its end either.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: Unreadable,
    },
    /// A value that would mean something else on a generation.
    #[error("{path}:{line}: {key}= can't be carried over: {error}")]
    Unresolved {
        /// The file.
        path: String,
        /// The line the assignment ends on.
        line: usize,
        /// The key.
        key: String,
        /// Why.
        error: Unresolved,
    },
    /// A directory that the wrapper and its generations would have in different places.
    #[error(
        "RuntimeDirectory= with DynamicUser=yes needs RuntimeDirectoryPreserve=restart, else systemd looks for the \
         directory in two places"
    )]
    RuntimeDirectory,
    /// An argument that no unit file can hold.
    #[error("argument {number} of the command ({argument:?}) can't be passed on: {error}")]
    Argument {
        /// Which, counted from 0, the program itself.
        number: usize,
        /// What it is.
        argument: String,
        /// Why.
        error: quote::BadCharacter,
    },
    /// More than systemd reads.
    #[error("{key}= is longer than 1 MiB, the most systemd reads of a line")]
    TooLong {
        /// The key.
        key: String,
    },
}

/// Composes a generation's drop-ins, in the order systemd reads them.
///
/// Drop-ins of all folders are sorted together by file name, so each of the wrapper's files gets a name that keeps
/// its place, and each foreign one is hidden behind a file of its own name that says nothing: the folder beside the
/// unit comes first. (A comment and not a link to `/dev/null`, since systemd removes with the unit what it has read.)
///
/// # Errors
/// [`Unfit`], with the file and the line where there is one.
pub fn compose(recipe: &Recipe<'_>) -> Result<Vec<DropIn>, Unfit> {
    let mut drop_ins = Vec::new();
    if let Some(wrapper) = recipe.wrapper {
        if wrapper.service_flag("DynamicUser") && !wrapper.preserves_runtime_directory() {
            return Err(Unfit::RuntimeDirectory);
        }
        for (number, source) in wrapper.sources.iter().enumerate() {
            let carried = carry(source, wrapper)?;
            let text = format!("# From {}\n{}", printable(&source.path), text::render(&carried));
            drop_ins.push(DropIn { name: format!("10-{number:05}.conf"), text });
        }
    }
    let own = own_lines(recipe)?;
    own.iter().try_for_each(fits_a_line)?;
    let mark = mark(recipe.owner, recipe.generation);
    drop_ins.push(DropIn { name: OWN_DROP_IN.to_owned(), text: format!("{mark}{}", text::render(&own)) });
    for name in recipe.foreign {
        if drop_ins.iter().all(|drop_in| drop_in.name != *name) {
            drop_ins.push(DropIn {
                name: name.clone(),
                text: "# Hides a file of this name that is not the wrapper's.\n".to_owned(),
            });
        }
    }
    drop_ins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(drop_ins)
}

fn carry(source: &Source, wrapper: &Wrapper) -> Result<Vec<Assignment>, Unfit> {
    let specifiers = wrapper.specifiers();
    let carried = source.assignments.iter().filter(|one| keys::class(one.section, &one.key).0 == Class::Carried);
    carried
        .map(|one| {
            let value = specifiers.resolve(one).map_err(|error| Unfit::Unresolved {
                path: source.path.clone(),
                line: one.line,
                key: one.key.clone(),
                error,
            })?;
            let carried = Assignment { value, ..one.clone() };
            fits_a_line(&carried).map(|()| carried)
        })
        .collect()
}

/// What systemd would not read to its end must not be written.
fn fits_a_line(one: &Assignment) -> Result<(), Unfit> {
    let line = text::render(std::slice::from_ref(one)).lines().map(str::len).max();
    if line.is_some_and(|length| length >= text::LONGEST_LINE) {
        return Err(Unfit::TooLong { key: one.key.clone() });
    }
    Ok(())
}

/// procroll's own lines, sorted by section; those from the command line come last and win.
fn own_lines(recipe: &Recipe<'_>) -> Result<Vec<Assignment>, Unfit> {
    let unit = |key: &str, value: &str| Assignment::own(Section::Unit, key, value);
    let service = |key: &str, value: &str| Assignment::own(Section::Service, key, value);
    let mut lines = vec![unit("CollectMode", "inactive"), unit("StartLimitIntervalSec", "0")];
    if let Some(wrapper) = recipe.wrapper {
        // With RestartMode=direct a crash of procroll doesn't reach the generation; a stop of the wrapper does.
        lines.push(unit("StopPropagatedFrom", &wrapper.name.to_string()));
    }
    lines.extend(recipe.settings.iter().filter(|one| one.section == Section::Unit).cloned());
    lines.extend([
        service("Type", recipe.service_type),
        service("RemainAfterExit", "yes"),
        service("ExecStart", ""),
        service("ExecStart", &command_line(recipe.command)?),
    ]);
    if let Some(wrapper) = recipe.wrapper {
        if !wrapper.sockets.is_empty() {
            lines.push(service("Sockets", &wrapper.sockets.join(" ")));
        }
        lines.push(service("RuntimeDirectoryPreserve", "yes"));
    }
    lines.extend(recipe.settings.iter().filter(|one| one.section == Section::Service).cloned());
    Ok(lines)
}

fn command_line(command: &Command) -> Result<String, Unfit> {
    let words = command.words.iter().enumerate().map(|(number, argument)| {
        quote::word(argument).map_err(|error| Unfit::Argument { number, argument: argument.clone(), error })
    });
    let words = words.collect::<Result<Vec<_>, _>>()?.join(" ");
    Ok(if command.expand_variables { words } else { format!(":{words}") })
}

/// Says whose generation a unit is. systemd ignores sections that begin with `X-`.
fn mark(owner: &str, generation: Generation) -> String {
    format!("[X-Procroll]\nOwner={owner}\nGeneration={generation}\n")
}

/// Whose generation it is that has this text as its [`OWN_DROP_IN`], if procroll wrote it.
pub fn owner(text: &str) -> Option<&str> {
    text.strip_prefix("[X-Procroll]\nOwner=")?.lines().next()
}

/// The socket units that such a generation was given.
pub fn sockets(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("Sockets=")).flat_map(str::split_whitespace)
}

fn printable(path: &str) -> String {
    path.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapper(sources: &[(&str, &str)]) -> Wrapper {
        Wrapper {
            name: "web.service".parse().expect("a name"),
            sources: sources
                .iter()
                .map(|(path, text)| Source::parse(path, text.as_bytes()).expect("readable"))
                .collect(),
            sockets: vec!["web.socket".to_owned()],
        }
    }

    fn composed(wrapper: Option<&Wrapper>, words: &[&str], settings: &[Assignment], foreign: &[&str]) -> Vec<DropIn> {
        let command =
            Command { words: words.iter().map(|&word| word.to_owned()).collect(), expand_variables: wrapper.is_some() };
        let foreign: Vec<_> = foreign.iter().map(|&name| name.to_owned()).collect();
        compose(&Recipe {
            wrapper,
            owner: "web",
            generation: Generation::new(3),
            service_type: "notify",
            command: &command,
            settings,
            foreign: &foreign,
        })
        .expect("fit")
    }

    #[test]
    fn a_generation_is_the_wrappers_text_with_procrolls_lines_on_top() {
        let wrapper = wrapper(&[
            (
                "/etc/systemd/system/web.service",
                "[Unit]\nDescription=Web %n\nPartOf=app.target\nAfter=db.service\n[Service]\nType=notify-reload\nUser=app\nRestart=always\nExecStart=+procroll --systemd-run -- /bin/web\n[Install]\nWantedBy=x\n",
            ),
            ("/etc/systemd/system/web.service.d/x.conf", "[Service]\nLimitNOFILE=77\n"),
        ]);
        let files = composed(Some(&wrapper), &["/bin/web", "$PORT"], &[], &[]);
        assert_eq!(
            files[0].text,
            "# From /etc/systemd/system/web.service\n[Unit]\nDescription=Web web.service\nAfter=db.service\n[Service]\nUser=app\n"
        );
        assert_eq!(files[1].text, "# From /etc/systemd/system/web.service.d/x.conf\n[Service]\nLimitNOFILE=77\n");
        assert_eq!(
            files[2].text,
            "[X-Procroll]\nOwner=web\nGeneration=3\n[Unit]\nCollectMode=inactive\nStartLimitIntervalSec=0\n\
             StopPropagatedFrom=web.service\n[Service]\nType=notify\nRemainAfterExit=yes\nExecStart=\n\
             ExecStart=\"/bin/web\" \"$PORT\"\nSockets=web.socket\nRuntimeDirectoryPreserve=yes\n"
        );
        assert_eq!(owner(&files[2].text), Some("web"));
        assert_eq!(sockets(&files[2].text).collect::<Vec<_>>(), ["web.socket"]);
    }

    #[test]
    fn settings_of_the_command_line_come_last_in_their_section() {
        let settings =
            [Assignment::own(Section::Service, "User", "other"), Assignment::own(Section::Unit, "Description", "mine")];
        let files = composed(None, &["/bin/web"], &settings, &[]);
        let text = &files[0].text;
        assert!(text.ends_with("User=other\n"), "{text}");
        assert!(text.contains("Description=mine\n[Service]\n"), "{text}");
        assert!(text.contains("ExecStart=:\"/bin/web\"\n"), "{text}");
    }

    #[test]
    fn files_keep_the_wrappers_order_and_foreign_ones_are_hidden() {
        let wrapper = wrapper(&[("/a", "[Service]\nA=1\n"), ("/b", "[Service]\nB=2\n")]);
        let files = composed(Some(&wrapper), &["/bin/web"], &[], &["05-early.conf", "zz.conf", OWN_DROP_IN]);
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["05-early.conf", "10-00000.conf", "10-00001.conf", OWN_DROP_IN, "zz.conf"]);
        assert!(files[0].text.starts_with('#') && files[4].text.starts_with('#'));
    }

    #[test]
    fn the_last_assignment_is_what_a_scalar_is() {
        let wrapper = wrapper(&[("/a", "[Service]\nUser=a\nGroup=g\n"), ("/b", "[Service]\nUser=b\nGroup=\n")]);
        assert_eq!(wrapper.service_value("User").map(|one| one.value.as_str()), Some("b"));
        assert_eq!(wrapper.service_value("Group"), None);
    }

    #[test]
    fn a_value_that_cannot_be_carried_names_its_line() {
        let wrapper = wrapper(&[("/a b", "[Service]\n\nEnvironment=A=%y\n")]);
        let command = Command { words: vec!["/bin/web".to_owned()], expand_variables: true };
        let recipe = Recipe {
            wrapper: Some(&wrapper),
            owner: "web",
            generation: Generation::new(1),
            service_type: "notify",
            command: &command,
            settings: &[],
            foreign: &[],
        };
        let error = compose(&recipe).expect_err("a path with a space").to_string();
        assert!(error.starts_with("/a b:3: Environment= can't be carried over: %y stands for"), "{error}");
    }
}
