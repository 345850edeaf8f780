//! When procroll is executed anew: as soon as nothing is under way that would be lost with this process.

use std::time::Duration;

use tokio::time::timeout;

use super::{Manager, Request, Signals};
use crate::backend::Backend;
use crate::control::Control;
use crate::log::{self, About};
use crate::notify::Upstream;
use crate::reexec;

/// How long it takes at the most to learn of a signal that has come already.
const LAST_WORD: Duration = Duration::from_millis(2);

impl<B: Backend, U: Upstream> Manager<B, U> {
    /// Executes procroll anew if that was asked for and is due, unless a signal comes in at that very moment: which one.
    pub(super) async fn execute_anew_if_due(&mut self, signals: &mut Signals, control: &Control) -> Option<Request> {
        if !(self.reexec_asked && self.nothing_is_under_way() && control.is_idle()) {
            return None;
        }
        reexec::hold();
        let heard = timeout(LAST_WORD, signals.next()).await;
        // Somebody may have come in meanwhile. Whoever has not finds this process listening again.
        if heard.is_err() && control.is_idle() {
            self.execute_anew();
        }
        reexec::hear();
        heard.ok()
    }

    /// Old generations may still drain, once they have been asked to: the next procroll would let two that it finds active
    /// settle first.
    fn nothing_is_under_way(&mut self) -> bool {
        self.roll.is_at_rest() && self.backend.is_heard() && !self.refusing
    }

    /// Whoever waits for a roll has had an answer, so nobody notices.
    fn execute_anew(&mut self) {
        self.reexec_asked = false;
        if let Some(reexec) = &self.reexec {
            let error = reexec.execute();
            log::warn(About::NotExecuted, format_args!("can't execute procroll anew, so it goes on as it is: {error}"));
        }
    }
}
