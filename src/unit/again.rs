//! A generation that is to run what another one ran, whatever the wrapper's unit says by now. Its files are those of the
//! other, which are kept; what names the other in them is this one's.

use std::num::NonZeroUsize;

use super::compose::{self, Command, DropIn, OWN_DROP_IN, Unfit, command_line, fits_a_line};
use super::text::{self, Assignment, Section};
use crate::roll::Pace;
use crate::settings::Span;
use crate::settings::template::{self, BadTemplate, Values};

/// What a generation's mark says so that another one can run the same: how it rolls, and the `command` before its templates
/// are filled in, if it has any.
///
/// # Errors
/// [`Unfit::TooLong`]
pub fn marks(pace: Pace, command: &[String]) -> Result<Vec<(&'static str, String)>, Unfit> {
    let settle = Span::Of(pace.settle).to_string();
    let mut marks = vec![("Settle", settle), ("MaxStopping", pace.most_leaving.to_string())];
    if command.iter().any(|word| template::fill_would_change(word))
        && let Ok(words) = serde_json::to_string(command)
    {
        fits_a_line(&Assignment::own(Section::Unit, "Command", words.as_str()))?;
        marks.push(("Command", words));
    }
    Ok(marks)
}

/// How the unit with this text as its [`OWN_DROP_IN`] rolls, if it says so.
pub fn pace(text: &str) -> Option<Pace> {
    let settle = match compose::marked(text, "Settle=")?.parse() {
        Ok(Span::Of(settle)) => settle,
        _ => return None,
    };
    let most_leaving: NonZeroUsize = compose::marked(text, "MaxStopping=")?.parse().ok()?;
    Some(Pace { settle, most_leaving: most_leaving.get() })
}

/// Whether the unit with this text as its [`OWN_DROP_IN`] runs what another one ran.
pub fn is_again(text: &str) -> bool {
    compose::marked(text, "Again=").is_some()
}

/// What is new about a generation that is to run what another one ran.
#[derive(Debug)]
pub struct New<'a> {
    /// Whose it is, for the mark.
    pub owner: &'a str,
    /// Its name.
    pub unit: &'a str,
    /// The other's.
    pub of: &'a str,
    /// The number of the reload job that it is started for; 0 for none.
    pub job: u32,
    /// What the templates in its command stand for.
    pub values: Values<'a>,
    /// File names of drop-ins that would apply to its name without being the wrapper's.
    pub foreign: &'a [String],
}

/// The other's files can't become another's.
#[derive(Debug, thiserror::Error)]
pub enum NotAgain {
    /// They are not what procroll has written.
    #[error("there is no {OWN_DROP_IN} of procroll's among what is kept of {0}")]
    NotOurs(String),
    /// Its templates can't be filled in.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// The command can't be written.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// The files of the `new` one, of what the other's say.
///
/// # Errors
/// [`NotAgain`]
pub fn again(kept: &[DropIn], new: &New<'_>) -> Result<Vec<DropIn>, NotAgain> {
    let not_ours = || NotAgain::NotOurs(new.of.to_owned());
    let mut files = kept.to_vec();
    let own = files.iter_mut().find(|file| file.name == OWN_DROP_IN).ok_or_else(not_ours)?;
    if compose::owner(&own.text, new.of) != Some(new.owner) {
        return Err(not_ours());
    }
    let (mark, lines) = own.text.split_once("\n[Unit]\n").ok_or_else(not_ours)?;
    let lines = format!("[Unit]\n{lines}");
    let lines = match compose::marked(mark, "Command=").and_then(|words| serde_json::from_str(words).ok()) {
        Some(words) => with_command(&lines, words, &new.values)?,
        None => lines,
    };
    own.text = format!("{}{lines}", self::mark(mark, new));
    for name in new.foreign {
        if files.iter().all(|file| file.name != *name) {
            files.push(DropIn::hiding(name));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The lines with this command, filled in, in place of the one there is.
fn with_command(lines: &str, words: Vec<String>, values: &Values<'_>) -> Result<String, NotAgain> {
    let mut lines = text::parse(lines.as_bytes()).unwrap_or_default();
    let words = words.iter().map(|word| template::fill(word, values)).collect::<Result<Vec<_>, _>>()?;
    for line in lines.iter_mut().filter(|line| line.key == "ExecStart" && !line.value.is_empty()) {
        let command = Command { words: words.clone(), expand_variables: !line.value.starts_with(':') };
        line.value = command_line(&command)?;
        fits_a_line(line)?;
    }
    Ok(text::render(&lines))
}

/// The other's mark, but for what it is about.
fn mark(other: &str, new: &New<'_>) -> String {
    let mut mark = format!("[X-Procroll]\nOwner={}\nUnit={}\nAgain={}\n", new.owner, new.unit, new.of);
    if new.job != 0 {
        mark += &format!("Job={}\n", new.job);
    }
    let own = ["[X-Procroll]", "Owner=", "Unit=", "Again=", "Job="];
    let kept = other.lines().filter(|line| !own.iter().any(|start| line.starts_with(start)));
    kept.fold(mark, |mark, line| mark + line + "\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{OF_UNITS, text_of, words_of};
    use crate::roll::Generation;
    use crate::unit::{Recipe, compose};

    const OF_MARKS: &[&str] = &[
        "Settle=",
        "MaxStopping=",
        "Job=",
        "Owner=",
        "[Unit]",
        "\n",
        "\n",
        "0",
        "1",
        "9",
        "-",
        "ms",
        "min",
        "infinity",
        " ",
    ];

    const PACE: Pace = Pace { settle: Duration::from_millis(1500), most_leaving: 3 };

    fn values(number: u32, unit: &str) -> Values<'_> {
        Values { pid: 7, generation: Generation::new(number), notify_socket: "/run/notify", unit }
    }

    /// What is kept of a generation with this command.
    fn kept(words: &[&str], expand_variables: bool) -> Vec<DropIn> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let filled = words.iter().map(|word| template::fill(word, &values(1, "web@1.service")).expect("filled"));
        let command = Command { words: filled.collect(), expand_variables };
        compose(&Recipe {
            wrapper: None,
            owner: "web.service",
            tied: true,
            unit: "web@1.service",
            job: 5,
            marks: &marks(PACE, &words).expect("short"),
            service_type: "notify",
            command: &command,
            settings: &[Assignment::own(Section::Service, "User", "app")],
            foreign: &["zz.conf".to_owned()],
        })
        .expect("fit")
    }

    fn new<'a>(unit: &'a str, foreign: &'a [String]) -> New<'a> {
        New { owner: "web.service", unit, of: "web@1.service", job: 9, values: values(3, unit), foreign }
    }

    fn own(files: &[DropIn]) -> &str {
        files.iter().find(|file| file.name == OWN_DROP_IN).map(|file| file.text.as_str()).expect("procroll's own")
    }

    #[test]
    fn all_is_as_it_was_but_for_the_mark() {
        let kept = kept(&["/bin/web", "a b", "$X"], false);
        let files = again(&kept, &new("web@3.service", &["aa.conf".to_owned(), "zz.conf".to_owned()])).expect("again");
        let text = own(&files);
        let lines = |text: &str| text.split_once("[Unit]").expect("lines").1.to_owned();
        assert_eq!(lines(text), lines(own(&kept)));
        assert_eq!(compose::owner(text, "web@3.service"), Some("web.service"));
        assert_eq!((compose::job(text), pace(text), is_again(text)), (Some(9), Some(PACE), true));
        assert!(!is_again(own(&kept)));
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [OWN_DROP_IN, "aa.conf", "zz.conf"]);
    }

    #[test]
    fn it_can_be_done_again_and_again() {
        let kept = kept(&["/bin/web"], true);
        let third = again(&kept, &new("web@3.service", &[])).expect("again");
        let new = New { of: "web@3.service", job: 0, ..new("web@5.service", &[]) };
        let fifth = again(&third, &new).expect("again");
        assert!(
            own(&fifth)
                .starts_with("[X-Procroll]\nOwner=web.service\nUnit=web@5.service\nAgain=web@3.service\nSettle=")
        );
        assert!(matches!(again(&kept, &new), Err(NotAgain::NotOurs(_))));
    }

    #[test]
    fn templates_mean_the_new_one() {
        for expand_variables in [true, false] {
            let kept =
                kept(&["/bin/web", "--name=web-{{.Generation}}", "{{.Unit}} {{\"{{\"}} 5% \"\n"], expand_variables);
            let files = again(&kept, &new("web@3.service", &[])).expect("again");
            let text = own(&kept);
            let expected = text.split_once("[Unit]").expect("lines").1.replace("web-1", "web-3").replace("@1", "@3");
            assert_eq!(own(&files).split_once("[Unit]").expect("lines").1, expected);
        }
    }

    #[test]
    fn an_older_procroll_has_not_said_how_it_rolls() {
        assert_eq!(pace("[X-Procroll]\nOwner=a\nUnit=b\n[Unit]\nSettle=1s\n"), None);
    }

    proptest! {
        /// With none that may stop no roll would ever begin.
        #[test]
        fn a_mark_says_how_to_roll_or_nothing(mark in text_of(OF_MARKS)) {
            let text = format!("[X-Procroll]\n{mark}");
            prop_assert!(pace(&text).is_none_or(|pace| pace.most_leaving > 0));
            let _ = compose::job(&text);
        }

        /// Whatever has become of the files, there is one mark in what comes of them, and it is the new one's.
        #[test]
        fn any_files_become_the_new_ones_or_are_refused(before in text_of(OF_UNITS), after in text_of(OF_UNITS)) {
            let text = format!("[X-Procroll]\nOwner=web.service\nUnit=web@1.service\n{before}\n[Unit]\n{after}");
            let files = [DropIn { name: OWN_DROP_IN.to_owned(), text }];
            if let Ok(files) = again(&files, &new("web@3.service", &[])) {
                prop_assert_eq!(compose::owner(own(&files), "web@3.service"), Some("web.service"));
                prop_assert_eq!((compose::job(own(&files)), is_again(own(&files))), (Some(9), true));
            }
        }

        #[test]
        fn what_it_ran_is_run_whatever_the_words(words in words_of(OF_UNITS), expand_variables in any::<bool>()) {
            // No argument can hold one.
            let words: Vec<_> = words.iter().map(|word| word.replace('\0', "")).collect();
            let words: Vec<_> = ["/bin/web"].into_iter().chain(words.iter().map(String::as_str)).collect();
            let kept = kept(&words, expand_variables);
            let files = again(&kept, &new("web@3.service", &[])).expect("again");
            let lines = |files: &[DropIn]| own(files).split_once("\n[Unit]\n").expect("lines").1.to_owned();
            prop_assert_eq!(lines(&files), lines(&kept));
        }
    }
}
