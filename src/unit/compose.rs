//! Puts a generation's drop-ins together.

use crate::settings::WrapperName;

use super::keys::{self, Class};
use super::quote;
use super::sources::Sources;
use super::specifier::{Specifiers, Unresolved};
use super::text::{self, Assignment, Section, Unreadable};

/// The file that holds procroll's own lines. It comes after the wrapper's.
pub const OWN_DROP_IN: &str = "90-procroll.conf";

/// One file of the wrapper's unit, as read from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub sources: Sources,
    /// Its socket units that are active.
    pub sockets: Vec<String>,
    /// The slice it is in.
    pub slice: String,
    /// The user that systemd has named after it, for `DynamicUser=`.
    pub dynamic_user: Option<String>,
}

impl Wrapper {
    /// How the specifiers that name the unit resolve.
    pub fn specifiers(&self) -> Specifiers<'_> {
        let fragment = self.sources.0.first().map_or("", |source| source.path.as_str());
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
    /// A stop of the wrapper is to reach the generation by itself.
    pub tied: bool,
    /// Its name.
    pub unit: &'a str,
    /// The number of the reload job that it is started for; 0 for none.
    pub job: u32,
    /// What else its mark says, each in one line.
    pub marks: &'a [(&'static str, String)],
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropIn {
    /// The file's name. systemd reads all drop-ins of a unit sorted by it.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl DropIn {
    /// One that says nothing, and is read in place of others of this name.
    pub(super) fn hiding(name: &str) -> Self {
        let text = "# Hides a file of this name that is not the wrapper's.\n".to_owned();
        Self { name: name.to_owned(), text }
    }
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
        if wrapper.sources.flag("DynamicUser") && !wrapper.sources.preserve_runtime_directory() {
            return Err(Unfit::RuntimeDirectory);
        }
        for (number, source) in wrapper.sources.0.iter().enumerate() {
            let carried = carry(source, wrapper)?;
            let text = format!("# From {}\n{}", printable(&source.path), text::render(&carried));
            drop_ins.push(DropIn { name: format!("10-{number:05}.conf"), text });
        }
    }
    let own = own_lines(recipe)?;
    own.iter().try_for_each(fits_a_line)?;
    let mark = mark(recipe);
    drop_ins.push(DropIn { name: OWN_DROP_IN.to_owned(), text: format!("{mark}{}", text::render(&own)) });
    for name in recipe.foreign {
        if drop_ins.iter().all(|drop_in| drop_in.name != *name) {
            drop_ins.push(DropIn::hiding(name));
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
pub(super) fn fits_a_line(one: &Assignment) -> Result<(), Unfit> {
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
    if recipe.wrapper.is_some() {
        lines.push(unit("IgnoreOnIsolate", "yes"));
    }
    if let Some(wrapper) = recipe.wrapper.filter(|_| recipe.tied) {
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
        // What systemd has made from the wrapper's name, it would make from the generation's anew.
        if wrapper.name.instance().is_some() {
            lines.push(service("Slice", &wrapper.slice));
        }
        let is_set = |keys: &[&str]| recipe.settings.iter().any(|one| keys.contains(&one.key.as_str()));
        if let Some(user) = wrapper.dynamic_user.as_ref().filter(|_| !is_set(&["DynamicUser", "User"])) {
            lines.push(service("User", user));
        }
    }
    lines.extend(recipe.settings.iter().filter(|one| one.section == Section::Service).cloned());
    Ok(lines)
}

pub(super) fn command_line(command: &Command) -> Result<String, Unfit> {
    let words = command.words.iter().enumerate().map(|(number, argument)| {
        quote::word(argument).map_err(|error| Unfit::Argument { number, argument: argument.clone(), error })
    });
    let words = words.collect::<Result<Vec<_>, _>>()?.join(" ");
    Ok(if command.expand_variables { words } else { format!(":{words}") })
}

/// Says whose generation a unit is. systemd ignores sections that begin with `X-`.
fn mark(recipe: &Recipe<'_>) -> String {
    let mut mark = format!("[X-Procroll]\nOwner={}\nUnit={}\n", recipe.owner, recipe.unit);
    if recipe.job != 0 {
        mark += &format!("Job={}\n", recipe.job);
    }
    if let Some(wrapper) = recipe.wrapper {
        mark += &format!("Digest={:016x}\n", wrapper.sources.digest());
    }
    recipe.marks.iter().fold(mark, |mark, (key, value)| mark + &format!("{key}={value}\n"))
}

/// The reload job that the unit with this text as its [`OWN_DROP_IN`] was started for.
pub fn job(text: &str) -> Option<u32> {
    marked(text, "Job=")?.parse().ok()
}

/// The [digest](super::Sources::digest) of what the unit with this text as its [`OWN_DROP_IN`] was made from.
pub fn digest(text: &str) -> Option<u64> {
    u64::from_str_radix(marked(text, "Digest=")?, 16).ok()
}

pub(super) fn marked<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().take_while(|line| *line != "[Unit]").find_map(|line| line.strip_prefix(key))
}

/// Whose generation the `unit` is that has this text as its [`OWN_DROP_IN`], if procroll wrote it for that unit. Somebody may
/// have copied the file.
pub fn owner<'a>(text: &'a str, unit: &str) -> Option<&'a str> {
    let mut lines = text.strip_prefix("[X-Procroll]\nOwner=")?.lines();
    lines.next().filter(|_| lines.next().and_then(|line| line.strip_prefix("Unit=")) == Some(unit))
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
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{OF_UNITS, text_of, words_of};
    use crate::check::command::CommandLine;
    use crate::unit::keys::TABLE;

    fn any_key() -> impl Strategy<Value = String> {
        let known: Vec<_> = TABLE.iter().flat_map(|row| row.keys).collect();
        let known = proptest::sample::select(known).prop_map(|key| (*key).to_owned());
        prop_oneof![3 => known, 1 => proptest::sample::select(vec!["User", "A", "execstart"]).prop_map(str::to_owned)]
    }

    proptest! {
        /// However a file is written, a generation gets what is its own, in its order, and nothing else of it.
        #[test]
        fn only_what_may_be_carried_is(
            lines in proptest::collection::vec((any_key(), text_of(&[" ", "=", "\\", "\\\n", "#", "a", "\r", "[Service]"])), 0..12),
            before in text_of(OF_UNITS),
        ) {
            let lines: String = lines.iter().map(|(key, value)| format!("{key} ={value}\n")).collect();
            for section in ["Unit", "Service"] {
                let text = format!("{before}\n\n\n[{section}]\n{lines}");
                let Ok(source) = Source::parse("/a", text.as_bytes()) else { continue };
                let wrapper = Wrapper { sources: Sources(vec![source]), ..wrapper(&[]) };
                let Ok(carried) = carry(&wrapper.sources.0[0], &wrapper) else { continue };
                let written = text::parse(text::render(&carried).as_bytes()).expect("readable");
                prop_assert!(written.iter().all(|one| keys::class(one.section, &one.key).0 == Class::Carried));
                let kept = wrapper.sources.0[0].assignments.iter().filter(|one| keys::class(one.section, &one.key).0 == Class::Carried);
                let names = |of: &Assignment| (of.section, of.key.clone());
                prop_assert_eq!(written.iter().map(names).collect::<Vec<_>>(), kept.map(names).collect::<Vec<_>>());
            }
        }

        /// No argument, and no value, becomes a line of its own: not for systemd, nor for who looks for the mark.
        #[test]
        fn what_is_passed_on_stays_where_it_is_put(
            words in words_of(OF_UNITS),
            value in text_of(OF_UNITS),
            expand_variables in any::<bool>(),
        ) {
            let words: Vec<_> = ["/bin/web".to_owned()].into_iter().chain(words).collect();
            let Ok(value) = quote::value(&value) else { return Ok(()) };
            let value = value.trim_matches(text::WHITESPACE);
            let settings = [Assignment::own(Section::Service, "Environment", value)];
            let command = Command { words: words.clone(), expand_variables };
            let recipe = Recipe {
                wrapper: None, owner: "web.service", tied: true, unit: "web@3.service", job: 0, marks: &[], service_type: "notify",
                command: &command, settings: &settings, foreign: &[],
            };
            let Ok(drop_ins) = compose(&recipe) else { return Ok(()) };
            let text = &drop_ins[0].text;
            prop_assert_eq!(owner(text, "web@3.service"), Some("web.service"));
            prop_assert_eq!(owner(text, "web@4.service"), None);
            prop_assert_eq!(sockets(text).next(), None);
            let lines = text::parse(text.as_bytes()).expect("readable");
            let keys: Vec<_> = lines.iter().map(|one| one.key.as_str()).collect();
            let expected = ["CollectMode", "StartLimitIntervalSec", "Type", "RemainAfterExit", "ExecStart", "ExecStart", "Environment"];
            prop_assert_eq!(keys, expected);
            prop_assert_eq!(&lines[6].value, value);
            let read = CommandLine::parse(&lines[5].value).expect("a command").words;
            prop_assert_eq!(read.iter().map(|word| word.replace("%%", "%")).collect::<Vec<_>>(), words);
        }

        #[test]
        fn any_text_has_one_owner_at_its_beginning_or_none(text in text_of(&["[X-Procroll]\n", "Owner=", "web", "\n", "\r", "Unit=", "Sockets=", " a.socket"])) {
            if let Some(owner) = owner(&text, "web") {
                let expected = format!("[X-Procroll]\nOwner={owner}\nUnit=web");
                prop_assert!(text.starts_with(&expected) && !owner.contains('\n'));
            }
            prop_assert!(sockets(&text).all(|socket| !socket.contains(char::is_whitespace)));
        }
    }

    fn wrapper(sources: &[(&str, &str)]) -> Wrapper {
        Wrapper {
            name: "web.service".parse().expect("a name"),
            sources: Sources(
                sources.iter().map(|(path, text)| Source::parse(path, text.as_bytes()).expect("readable")).collect(),
            ),
            sockets: vec!["web.socket".to_owned()],
            slice: "system-web.slice".to_owned(),
            dynamic_user: None,
        }
    }

    fn composed(wrapper: Option<&Wrapper>, words: &[&str], settings: &[Assignment], foreign: &[&str]) -> Vec<DropIn> {
        let command =
            Command { words: words.iter().map(|&word| word.to_owned()).collect(), expand_variables: wrapper.is_some() };
        let foreign: Vec<_> = foreign.iter().map(|&name| name.to_owned()).collect();
        compose(&Recipe {
            wrapper,
            owner: "web",
            tied: true,
            unit: "web@3.service",
            job: 7,
            marks: &[],
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
            files[2].text.replace(&format!("{:016x}", wrapper.sources.digest()), "0"),
            "[X-Procroll]\nOwner=web\nUnit=web@3.service\nJob=7\nDigest=0\n[Unit]\nCollectMode=inactive\nStartLimitIntervalSec=0\n\
             IgnoreOnIsolate=yes\nStopPropagatedFrom=web.service\n[Service]\nType=notify\nRemainAfterExit=yes\nExecStart=\n\
             ExecStart=\"/bin/web\" \"$PORT\"\nSockets=web.socket\nRuntimeDirectoryPreserve=yes\n"
        );
        assert_eq!(owner(&files[2].text, "web@3.service"), Some("web"));
        assert_eq!(owner(&files[2].text, "web@4.service"), None, "a copy is nobody's");
        assert_eq!((job(&files[2].text), digest(&files[2].text)), (Some(7), Some(wrapper.sources.digest())));
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
    fn what_systemd_makes_of_an_instances_name_holds_for_its_generations() {
        let unit = [("/app@.service", "[Service]\nDynamicUser=yes\n")];
        let blue = Wrapper {
            name: "app@blue.service".parse().expect("a name"),
            slice: "system-app.slice".to_owned(),
            dynamic_user: Some("app".to_owned()),
            ..wrapper(&unit)
        };
        let own = |settings: &[Assignment]| {
            let files = composed(Some(&blue), &["/bin/web"], settings, &[]);
            files.into_iter().find(|file| file.name == OWN_DROP_IN).map(|file| file.text).unwrap_or_default()
        };
        assert!(own(&[]).ends_with("Slice=system-app.slice\nUser=app\n"), "{}", own(&[]));
        let settings = ["Slice=x.slice", "DynamicUser=no"].map(|line| {
            let (key, value) = line.split_once('=').expect("a line");
            Assignment::own(Section::Service, key, value)
        });
        let text = own(&settings);
        assert!(text.ends_with("Slice=system-app.slice\nSlice=x.slice\nDynamicUser=no\n"), "{text}");
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
    fn a_value_that_cannot_be_carried_names_its_line() {
        let wrapper = wrapper(&[("/a b", "[Service]\n\nEnvironment=A=%y\n")]);
        let command = Command { words: vec!["/bin/web".to_owned()], expand_variables: true };
        let recipe = Recipe {
            wrapper: Some(&wrapper),
            owner: "web",
            tied: true,
            unit: "web@1.service",
            job: 0,
            marks: &[],
            service_type: "notify",
            command: &command,
            settings: &[],
            foreign: &[],
        };
        let error = compose(&recipe).expect_err("a path with a space").to_string();
        assert!(error.starts_with("/a b:3: Environment= can't be carried over: %y stands for"), "{error}");
    }
}
