//! What the manager tells: systemd, by notifications; whoever waits for a roll; and people, by the status and the log.

use super::{Manager, TakesOver, status};
use crate::backend::{Backend, When};
use crate::control::Outcome;
use crate::log::{self, About};
use crate::notify::{Upstream, Waiting, Word};
use crate::roll::{Exit, Failed, Generation};

impl<B: Backend, U: Upstream> Manager<B, U> {
    pub(super) fn answer(&mut self, outcome: Result<Generation, Failed>) {
        match outcome {
            Ok(generation) => {
                self.serves(generation);
                self.reply(&Outcome::Serves);
            }
            Err(failed) => {
                let why = self.failure(&failed, When::Kept);
                let of_reload = Waiting::Failed(self.backend.reload_of(failed.generation));
                let (who, waiting) = match (failed.again, self.roll.view().serving) {
                    (Some(again), _) => {
                        let runs = status::runs_again(again, |one| self.backend.name(one));
                        (runs + &self.says_gap(again.generation), of_reload)
                    }
                    (None, Some(serving)) => (format!("{} serves on", self.backend.name(serving)), of_reload),
                    (None, None) => ("and nobody serves any more".to_owned(), Waiting::InVain),
                };
                let why = format!("Roll failed, {who}: {why}");
                self.log(About::RollFailed, failed.generation, &why);
                self.refusing = true;
                self.upstream.refuse_reload(waiting);
                self.reply(&Outcome::Failed(why));
            }
        }
    }

    /// A reload that an earlier procroll did not live to answer fails, whatever has come of it: nobody knows what was asked
    /// for.
    pub(super) fn is_up(&mut self, generation: Generation) {
        let waiting = match std::mem::replace(&mut self.takes_over, TakesOver::No) {
            // What served had died before this process began, and somebody has asked for a roll since, who waits for its end.
            TakesOver::No if self.up && self.rolls() => return self.say_serves(generation),
            TakesOver::No => return self.serves(generation),
            TakesOver::Yes => Waiting::Interrupted,
            TakesOver::NotYet => Waiting::InterruptedInVain,
        };
        self.say_serves(generation);
        self.refusing = true;
        self.upstream.refuse_reload(waiting);
    }

    fn serves(&mut self, generation: Generation) {
        self.say_serves(generation);
        if !self.refusing {
            self.ready();
        }
    }

    /// Up, or done with what was under way.
    pub(super) fn ready(&mut self) {
        self.up = true;
        self.words.push(Word::Ready);
    }

    fn say_serves(&mut self, generation: Generation) {
        let unit = self.backend.name(generation);
        let serves = match self.pids.get(&generation) {
            Some(pid) => format!("{unit} serves (main PID {pid})"),
            None => format!("{unit} serves"),
        };
        self.log(About::Serves, generation, &(serves + &self.says_gap(generation)));
    }

    /// How long nobody served before this one did, if that was so.
    fn says_gap(&self, generation: Generation) -> String {
        status::gap(self.gap.before(generation))
    }

    pub(super) fn say_why(&mut self, exit: &Exit) {
        let (about, generation, why) = match exit {
            Exit::Stopped => return,
            Exit::Failed(failed) => (About::StartFailed, failed.generation, self.failure(failed, When::Ended)),
            Exit::Neither { candidate, again } => {
                let [first, then] = [candidate, again].map(|failed| self.failure(failed, When::Ended));
                (About::StartFailed, again.generation, format!("{first}; then {then}"))
            }
            Exit::Died(generation, death) => {
                let unit = self.backend.name(*generation);
                let why = format!(
                    "{unit} served and {}. {}",
                    status::ended(death),
                    self.backend.hint(*generation, When::Cleared)
                );
                (About::Died, *generation, why)
            }
        };
        self.log(about, generation, &why);
        self.words.push(Word::Status(status::one_line(&why)));
        self.tell();
    }

    fn log(&self, about: About, generation: Generation, message: &str) {
        let invocation = self.invocations.get(&generation).map_or("", String::as_str);
        log::tell(about, generation, self.backend.unit(generation).as_deref(), invocation, message);
    }

    fn failure(&self, failed: &Failed, when: When) -> String {
        let unit = self.backend.name(failed.generation);
        status::failure(&unit, failed, &self.backend.hint(failed.generation, when))
    }

    pub(super) fn status(&mut self) {
        let view = self.roll.view();
        let name = |generation| self.backend.name(generation);
        let failed = view.failed.map(|failed| {
            let again = failed.again.map(|again| format!("; {}", status::runs_again(again, name)));
            self.failure(failed, When::Kept) + &again.unwrap_or_default()
        });
        let gap = view.serving.and_then(|serving| self.gap.before(serving));
        let status = status::status(&view, failed.as_deref(), gap, name, &self.pids, &self.said);
        if !status.is_empty() && status != self.status {
            self.words.push(Word::Status(status.clone()));
            self.status = status;
        }
    }

    pub(super) fn tell(&mut self) {
        self.note_reload();
        if !self.words.is_empty() {
            self.upstream.tell(&std::mem::take(&mut self.words));
        }
    }

    /// Notes on who serves, for whoever comes after a crash, whether a reload is under way: before systemd is told that one
    /// is, and that it is over.
    fn note_reload(&mut self) {
        let told = self.words.iter().rfind(|word| matches!(word, Word::Ready | Word::Reloading));
        self.reloading = told.map_or(self.reloading, |word| *word == Word::Reloading);
        let serving = self.roll.view().serving;
        if !self.reloading {
            if told.is_some() {
                self.noted = None;
                self.backend.note_reload(None);
            }
        } else if serving.is_some() && serving != self.noted {
            self.noted = serving;
            self.backend.note_reload(serving);
        }
    }
}
