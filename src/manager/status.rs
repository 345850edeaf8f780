//! What is told to people: STATUS= and the lines of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::roll::{Again, Death, Failed, Failure, Generation, Stage, View};
use crate::settings::{SignalName, span};

/// The state in one line: who serves, after what `gap`, what goes on, what they have `said` of themselves, and how the last
/// roll `failed` if it did.
pub fn status(
    view: &View<'_>,
    failed: Option<&str>,
    gap: Option<Duration>,
    name: impl Fn(Generation) -> String,
    pids: &BTreeMap<Generation, u32>,
    said: &BTreeMap<Generation, String>,
) -> String {
    let named = |generation: Generation| match pids.get(&generation) {
        Some(pid) => format!("{} (main PID {pid})", name(generation)),
        None => name(generation),
    };
    let says = |generation: Generation| match said.get(&generation) {
        Some(said) if !said.is_empty() => format!(": {said}"),
        _ => String::new(),
    };
    let all = |generations: &mut dyn Iterator<Item = Generation>| generations.map(&name).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if view.stopping {
        let leaving = all(&mut view.leaving.iter().copied());
        return if leaving.is_empty() { "Stopping".to_owned() } else { format!("Stopping {leaving}") };
    }
    if let Some(serving) = view.serving {
        parts.push(format!("{} serves{}{}", named(serving), self::gap(gap), says(serving)));
    }
    if let Some((candidate, stage)) = view.candidate {
        let stage = match stage {
            Stage::Prepared => "waits for all others to stop",
            Stage::Starting => "starts",
            Stage::Settling => "settles",
        };
        let again = view.stopped.filter(|_| view.again).map(|of| format!(", to run what {} did", name(of)));
        parts.push(format!("{} {stage}{}{}", named(candidate), again.unwrap_or_default(), says(candidate)));
    }
    if !view.leaving.is_empty() {
        parts.push(format!("{} stops", all(&mut view.leaving.iter().copied())));
    }
    if view.waiting {
        parts.push("the next roll waits for one of them to end".to_owned());
    }
    if let Some(failed) = failed {
        parts.push(format!("last roll failed: {failed}"));
    }
    one_line(&parts.join("; "))
}

/// How long nobody served before somebody did, if that was so.
pub fn gap(gap: Option<Duration>) -> String {
    gap.map(|gap| format!(", after a gap of {}", span::human(gap))).unwrap_or_default()
}

/// Who took the place of the one that failed in a handover.
pub fn runs_again(again: Again, name: impl Fn(Generation) -> String) -> String {
    format!("{} runs what {} did", name(again.generation), name(again.of))
}

/// Why the roll to `unit` failed, and what to type to see more.
pub fn failure(unit: &str, failed: &Failed, hint: &str) -> String {
    let stage = match failed.stage {
        Stage::Prepared => "waiting",
        Stage::Starting => "starting",
        Stage::Settling => "settling",
    };
    match &failed.failure {
        // The reason says what to type.
        Failure::Refused(refusal) => format!("{unit} was not started: {}", refusal.reason),
        Failure::Died(death) => {
            let advice = match (failed.stage, death) {
                (Stage::Starting, Death::Failed(result)) if result == "timeout" => {
                    " (a program that never says READY=1 needs --service-type=exec)"
                }
                _ => "",
            };
            format!("{unit} {} while {stage}{advice}. {hint}", ended(death))
        }
    }
}

/// How a generation ended, with systemd's word for it.
pub fn ended(death: &Death) -> String {
    match death {
        Death::Exited(0) => "exited (Result=success, status=0)".to_owned(),
        Death::Exited(status) => format!("failed (Result=exit-code, status={status})"),
        Death::Killed(signal) => format!("was killed (Result=signal, status={})", SignalName::of(*signal)),
        Death::Failed(result) => format!("failed (Result={result})"),
        Death::Stopped => {
            "was stopped (by itself with STOPPING=1, by somebody, or with a unit that it depends on)".to_owned()
        }
    }
}

/// The longest STATUS= that is sent, in bytes. PID 1 ignores a notification of more than 4096 bytes as a whole, and the
/// answer to a reload may stand in the same one.
const LONGEST: usize = 2048;

/// Text for a notification. That is lines: one that came in through some error's text would be another message to
/// systemd.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if line.len() + char.len_utf8() > LONGEST - '…'.len_utf8() {
            line.push('…');
            break;
        }
        line.push(char);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_becomes_a_line_that_is_not_too_long(text in text_of(&["READY=1", "\n", "\0", "ü", "…", "x"]), times in 1usize..200) {
            let text = text.repeat(times);
            let line = one_line(&text);
            prop_assert!(line.len() <= LONGEST && !line.contains(char::is_control));
            let whole = line.chars().eq(text.chars().map(|char| if char.is_control() { ' ' } else { char }));
            prop_assert!(whole || line.ends_with('…') && line.len() > LONGEST - 8);
        }
    }
    use crate::exit::ExitStatus;
    use crate::roll::Refusal;

    fn name(generation: Generation) -> String {
        format!("web@{generation}.service")
    }

    fn generation(number: u32) -> Generation {
        Generation::new(number)
    }

    #[test]
    fn the_status_names_who_serves_and_what_goes_on() {
        let leaving = BTreeSet::from([generation(2)]);
        let view = View {
            serving: Some(generation(3)),
            candidate: Some((generation(4), Stage::Settling)),
            leaving: &leaving,
            stopped: None,
            again: false,
            failed: None,
            waiting: false,
            stopping: false,
        };
        let pids = BTreeMap::from([(generation(3), 77)]);
        assert_eq!(
            status(&view, None, None, name, &pids, &BTreeMap::new()),
            "web@3.service (main PID 77) serves; web@4.service settles; web@2.service stops"
        );
        let said = BTreeMap::from([(generation(3), "9 requests".to_owned()), (generation(2), "1 left".to_owned())]);
        assert_eq!(
            status(&view, None, None, name, &pids, &said),
            "web@3.service (main PID 77) serves: 9 requests; web@4.service settles; web@2.service stops"
        );
        let view = View { stopping: true, ..view };
        assert_eq!(status(&view, None, None, name, &pids, &said), "Stopping web@2.service");
    }

    #[test]
    fn a_handover_is_told_step_by_step() {
        let (leaving, none) = (BTreeSet::from([generation(1)]), BTreeSet::new());
        let view = View {
            serving: None,
            candidate: Some((generation(2), Stage::Prepared)),
            leaving: &leaving,
            stopped: Some(generation(1)),
            again: false,
            failed: None,
            waiting: false,
            stopping: false,
        };
        let said = |view: &View<'_>, gap| status(view, None, gap, name, &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(said(&view, None), "web@2.service waits for all others to stop; web@1.service stops");
        let candidate = Some((generation(3), Stage::Starting));
        let view = View { candidate, leaving: &none, again: true, ..view };
        assert_eq!(said(&view, None), "web@3.service starts, to run what web@1.service did");
        let view = View { serving: Some(generation(2)), candidate: None, stopped: None, again: false, ..view };
        assert_eq!(said(&view, Some(Duration::from_millis(1234))), "web@2.service serves, after a gap of 1.234s");
    }

    #[test]
    fn a_failure_says_which_unit_how_and_what_to_type() {
        let failed = |failure| Failed { generation: generation(4), stage: Stage::Settling, failure, again: None };
        assert_eq!(
            failure("web@4.service", &failed(Failure::Died(Death::Exited(3))), "See x"),
            "web@4.service failed (Result=exit-code, status=3) while settling. See x"
        );
        let refusal = Refusal { reason: "no".to_owned(), exit: ExitStatus::UnitRefused };
        let refused = failure("web@4.service", &failed(Failure::Refused(refusal)), "See x");
        assert_eq!(refused, "web@4.service was not started: no");
        assert_eq!(ended(&Death::Killed(9)), "was killed (Result=signal, status=SIGKILL)");
        assert_eq!(ended(&Death::Failed("timeout".to_owned())), "failed (Result=timeout)");
    }

    #[test]
    fn a_long_text_does_not_make_systemd_ignore_the_notification() {
        assert_eq!(one_line("short"), "short");
        let long = one_line(&"ü".repeat(3000));
        assert!(long.len() <= LONGEST && long.ends_with("ü…"), "{}", long.len());
    }

    #[test]
    fn no_text_gets_a_second_line_into_a_notification() {
        let leaving = BTreeSet::new();
        let view = View {
            serving: None,
            candidate: None,
            leaving: &leaving,
            stopped: None,
            again: false,
            failed: None,
            waiting: false,
            stopping: false,
        };
        assert!(!status(&view, Some("a\nREADY=1"), None, name, &BTreeMap::new(), &BTreeMap::new()).contains('\n'));
    }
}
