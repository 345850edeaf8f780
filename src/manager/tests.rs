//! The manager between a made-up backend and a made-up upstream, with a clock that stands still.

use std::cell::RefCell;
use std::rc::Rc;

mod takeovers;

use super::*;
use crate::backend::When;
use crate::roll::{Death, Pace, Refusal, Standing};

/// Everything that the manager asked for, in order.
type Log = Rc<RefCell<Vec<String>>>;

struct FakeBackend {
    log: Log,
    /// No generation is left.
    nothing_is_left: bool,
    /// Those that are active have ended, and nobody has said so.
    has_ended: bool,
    /// On whom it is noted that a reload is under way.
    noted: Option<Generation>,
}

impl FakeBackend {
    fn log(&self, what: &str, generation: Generation) {
        self.log.borrow_mut().push(format!("{what} {generation}"));
    }
}

impl Backend for FakeBackend {
    fn start(&mut self, generation: Generation) {
        self.log("start", generation);
    }

    fn proceed(&mut self, generation: Generation) {
        self.log("proceed", generation);
    }

    fn again(&mut self, generation: Generation, of: Generation) {
        self.log(&format!("as {of}: start"), generation);
    }

    fn stop(&mut self, generation: Generation) {
        self.log("stop", generation);
    }

    fn kill(&mut self, generation: Generation) {
        self.log("kill", generation);
    }

    fn pass_on(&mut self, generation: Generation, signal: i32) {
        self.log.borrow_mut().push(format!("signal {generation} {signal}"));
    }

    fn forget(&mut self, generation: Generation) {
        self.log("forget", generation);
    }

    fn is_in_touch(&self) -> bool {
        true
    }

    fn nothing_is_left(&self) -> bool {
        self.nothing_is_left
    }

    fn has_ended(&mut self, _: Generation) -> bool {
        self.has_ended
    }

    fn note_reload(&mut self, on: Option<Generation>) {
        self.noted = on;
    }

    fn rest(&mut self) {
        self.log.borrow_mut().push("rest".to_owned());
    }

    fn reload_of(&self, _: Generation) -> Option<u32> {
        Some(7)
    }

    async fn end(&mut self) {}

    fn hint(&self, generation: Generation, _: When) -> String {
        format!("See {generation}")
    }

    fn unit(&self, generation: Generation) -> Option<String> {
        Some(self.name(generation))
    }

    fn name(&self, generation: Generation) -> String {
        format!("web@{generation}.service")
    }

    async fn report(&mut self) -> Report {
        std::future::pending().await
    }
}

struct FakeUpstream(Log);

impl Upstream for FakeUpstream {
    fn tell(&mut self, words: &[Word]) {
        for word in words {
            self.0.borrow_mut().push(match word {
                Word::Ready => "READY".to_owned(),
                Word::Reloading => "RELOADING".to_owned(),
                Word::Stopping => "STOPPING".to_owned(),
                Word::Extend(_) => "EXTEND".to_owned(),
                Word::Watchdog => "WATCHDOG".to_owned(),
                Word::Status(status) => format!("STATUS={status}"),
            });
        }
    }

    fn refuse_reload(&mut self, waiting: Waiting) {
        self.0.borrow_mut().push(format!("refuse reload: {waiting:?}"));
    }

    async fn refused(&mut self) {
        std::future::pending().await
    }
}

struct Bench {
    manager: Manager<FakeBackend, FakeUpstream>,
    log: Log,
}

fn generation(number: u32) -> Generation {
    Generation::new(number)
}

impl Bench {
    fn not_begun(watchdog: Option<Duration>) -> Self {
        let log = Log::default();
        let backend = FakeBackend { log: Rc::clone(&log), nothing_is_left: false, has_ended: false, noted: None };
        let manager = Manager::new(backend, FakeUpstream(Rc::clone(&log)), watchdog);
        Self { manager, log }
    }

    fn new(watchdog: Option<Duration>) -> Self {
        let mut bench = Self::not_begun(watchdog);
        bench.manager.begin(Vec::new());
        bench
    }

    /// The first generation serves.
    fn serving() -> Self {
        let mut bench = Self::new(None);
        bench.starts(1);
        bench.taken();
        bench
    }

    fn starts(&mut self, number: u32) {
        let generation = generation(number);
        let pace = Pace { settle: Duration::ZERO, ..Pace::default() };
        self.manager.report(Report::Event(Event::Started { generation, pace }));
        self.manager.report(Report::Active { generation, main_pid: Some(100 + number) });
    }

    fn dies(&mut self, number: u32) -> Option<Exit> {
        let (generation, death) = (generation(number), Death::Exited(3));
        self.manager.report(Report::Event(Event::Dead { generation, death, was_active: false }))
    }

    fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }
}

#[tokio::test(start_paused = true)]
async fn up_when_the_first_generation_serves() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.taken(), ["start 1", "STATUS=web@1.service starts"]);
    bench.starts(1);
    assert_eq!(bench.taken(), ["rest", "READY", "STATUS=web@1.service (main PID 101) serves"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_answered_when_the_roll_is_over() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    assert_eq!(
        bench.taken(),
        ["start 2", "RELOADING", "STATUS=web@1.service (main PID 101) serves; web@2.service starts"]
    );
    bench.starts(2);
    let log = bench.taken();
    let ready = log.iter().position(|line| line == "READY").expect("ready");
    let stop = log.iter().position(|line| line == "stop 1").expect("the old one is stopped");
    assert!(stop < ready, "{log:?}");
    assert!(log.contains(&"STATUS=web@2.service (main PID 102) serves; web@1.service stops".to_owned()), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_roll_refuses_the_reload_and_then_ends_it() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    bench.taken();
    bench.dies(2);
    // Not ready before it was refused: that would tell whoever waits that it went well.
    assert_eq!(
        bench.taken(),
        [
            "refuse reload: Failed(Some(7))",
            "rest",
            "STATUS=web@1.service (main PID 101) serves; last roll failed: web@2.service failed (Result=exit-code, \
             status=3) while starting. See 2"
        ]
    );
    bench.manager.refused();
    assert_eq!(bench.taken(), ["rest", "READY"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_without_a_roll_to_come_is_in_vain() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Stop);
    assert!(!bench.taken().iter().any(|line| line.starts_with("refuse")), "nobody waits");
    for stop in [true, false] {
        let mut bench = Bench::serving();
        bench.manager.asked(Request::Reload);
        match stop {
            true => drop(bench.manager.asked(Request::Stop)),
            false => drop((bench.dies(1), bench.dies(2))),
        }
        assert!(bench.taken().contains(&"refuse reload: InVain".to_owned()), "{stop}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_tells_systemd_that_its_signal_was_heard() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    bench.manager.asked(Request::Reload);
    let count = bench.taken().iter().filter(|line| *line == "RELOADING").count();
    assert_eq!(count, 2);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_is_extended_while_something_goes_on_and_no_longer() {
    let mut bench = Bench::serving();
    assert_eq!(bench.manager.next_wake(), None, "nothing wakes it at rest");
    bench.manager.asked(Request::Reload);
    bench.taken();
    let wake = bench.manager.next_wake().expect("a roll goes on");
    tokio::time::sleep_until(wake.into()).await;
    bench.manager.woken();
    assert_eq!(bench.taken(), ["EXTEND"]);
    bench.starts(2);
    assert_eq!(bench.manager.next_wake(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_roll_has_a_timeout_of_its_own_to_be_extended() {
    let mut bench = Bench::serving();
    for request in [Request::Reload, Request::Stop] {
        bench.manager.asked(request);
        bench.taken();
        tokio::time::advance(EXTEND_FIRST).await;
        bench.manager.woken();
        assert_eq!(bench.taken(), ["EXTEND"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_twice_as_often_as_it_wants() {
    let mut bench = Bench::new(Some(Duration::from_secs(8)));
    bench.starts(1);
    bench.manager.woken();
    bench.taken();
    tokio::time::sleep(Duration::from_secs(4)).await;
    bench.manager.woken();
    assert!(bench.taken().contains(&"WATCHDOG".to_owned()));
    bench.manager.woken();
    assert!(!bench.taken().contains(&"WATCHDOG".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_told_and_a_second_one_kills() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Stop);
    assert_eq!(bench.taken(), ["stop 1", "STOPPING", "STATUS=Stopping web@1.service"]);
    bench.manager.asked(Request::Reload);
    assert_eq!(bench.taken(), [] as [&str; 0]);
    tokio::time::advance(Duration::from_secs(1)).await;
    bench.manager.asked(Request::Stop);
    assert_eq!(bench.taken(), ["kill 1"]);
    assert_eq!(bench.dies(1), None);
    let gone = bench.manager.report(Report::Event(Event::Gone(generation(1))));
    assert_eq!(gone, Some(Exit::Stopped));
}

/// The bus hangs, or the word of it comes a moment later.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_when_nothing_has_been_left_for_a_while() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Stop);
    for (time, nothing_is_left, end) in
        [(HUNG, false, None), (EXTEND_EVERY, true, None), (LOOK_EVERY, true, Some(Exit::Stopped))]
    {
        bench.manager.backend.nothing_is_left = nothing_is_left;
        tokio::time::advance(time).await;
        assert_eq!(bench.manager.woken(), end, "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn its_end_says_which_unit_and_how() {
    let mut bench = Bench::serving();
    assert_eq!(bench.dies(1), None);
    bench.taken();
    let exit = bench.manager.report(Report::Event(Event::Gone(generation(1))));
    assert_eq!(exit, Some(Exit::Died(generation(1), Death::Exited(3))));
    assert_eq!(bench.taken(), ["STATUS=web@1.service served and failed (Result=exit-code, status=3). See 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_in_its_own_words() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    bench.taken();
    let refusal = Refusal { reason: "web.service is masked".to_owned(), exit: crate::exit::ExitStatus::UnitRefused };
    bench.manager.report(Report::Event(Event::Refused(generation(2), refusal)));
    let log = bench.taken();
    let status = log.last().expect("a status");
    assert!(status.ends_with("last roll failed: web@2.service was not started: web.service is masked"), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn signals_for_the_service_go_to_the_one_that_serves() {
    let mut bench = Bench::new(None);
    bench.manager.asked(Request::PassOn(10));
    assert!(!bench.taken().iter().any(|line| line.starts_with("signal")), "nobody serves yet");
    bench.starts(1);
    bench.manager.asked(Request::Reload);
    bench.taken();
    bench.manager.asked(Request::PassOn(10));
    assert_eq!(bench.taken(), ["signal 1 10"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_by_the_socket_hears_of_the_last_roll() {
    let mut bench = Bench::serving();
    let (first, mut outcome) = Reply::pair();
    bench.manager.asked_for_roll(first);
    assert!(!bench.taken().contains(&"RELOADING".to_owned()), "the unit's manager knows: it waits for a command");
    let (second, mut last) = Reply::pair();
    bench.manager.asked_for_roll(second);
    bench.starts(2);
    assert!(outcome.try_recv().is_err(), "a newer roll is on its way");
    bench.starts(3);
    assert_eq!((outcome.try_recv(), last.try_recv()), (Ok(Outcome::Serves), Ok(Outcome::Serves)));

    let (third, mut outcome) = Reply::pair();
    bench.manager.asked_for_roll(third);
    bench.dies(4);
    assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(why)) if why.contains("web@3.service serves on")));
}

#[tokio::test(start_paused = true)]
async fn who_asks_during_the_first_start_hears_of_the_roll_after_it() {
    let mut bench = Bench::new(None);
    let (asked, mut outcome) = Reply::pair();
    bench.manager.asked_for_roll(asked);
    bench.starts(1);
    assert!(outcome.try_recv().is_err());
    bench.starts(2);
    assert_eq!(outcome.try_recv(), Ok(Outcome::Serves));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_no_failure_for_whoever_waits_for_a_roll() {
    let mut bench = Bench::serving();
    let (before, mut outcome) = Reply::pair();
    bench.manager.asked_for_roll(before);
    bench.manager.asked(Request::Stop);
    assert_eq!(outcome.try_recv(), Ok(Outcome::Stopping));
    let (after, mut outcome) = Reply::pair();
    bench.manager.asked_for_roll(after);
    assert_eq!(outcome.try_recv(), Ok(Outcome::Stopping));
}

fn prepared(number: u32) -> Report {
    let pace = Pace { settle: Duration::ZERO, ..Pace::default() };
    Report::Event(Event::Prepared { generation: generation(number), pace })
}

fn stopped(number: u32) -> Report {
    Report::Event(Event::Dead { generation: generation(number), death: Death::Stopped, was_active: true })
}

/// The old one has been asked to stop.
fn handing_over() -> Bench {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    bench.manager.report(prepared(2));
    bench
}

#[tokio::test(start_paused = true)]
async fn the_gap_of_a_handover_is_told() {
    let mut bench = handing_over();
    let log = bench.taken();
    assert_eq!(
        log[2..],
        [
            "STATUS=web@1.service (main PID 101) serves; web@2.service starts",
            "stop 1",
            "STATUS=web@2.service waits for all others to stop; web@1.service stops"
        ]
    );
    tokio::time::advance(Duration::from_secs(3)).await;
    bench.manager.report(stopped(1));
    tokio::time::advance(Duration::from_millis(250)).await;
    bench.starts(2);
    let log = bench.taken();
    assert!(log.contains(&"proceed 2".to_owned()) && log.contains(&"READY".to_owned()), "{log:?}");
    let status = log.last().expect("a status");
    assert_eq!(status, "STATUS=web@2.service (main PID 102) serves, after a gap of 3.25s");
    // It is told until the next one serves.
    bench.manager.report(Report::Event(Event::Gone(generation(1))));
    bench.manager.asked(Request::Reload);
    assert!(bench.taken().concat().contains("serves, after a gap of 3.25s; web@3.service starts"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_handover_names_who_failed_and_who_runs_what() {
    let mut bench = handing_over();
    bench.manager.report(stopped(1));
    bench.taken();
    bench.dies(2);
    let log = bench.taken();
    assert_eq!(log[0], "as 1: start 3");
    assert!(!log.concat().contains("refuse"), "nobody is answered before it is known who serves: {log:?}");
    let failed = "web@2.service failed (Result=exit-code, status=3) while starting. See 2";
    let told = format!("STATUS=web@3.service starts, to run what web@1.service did; last roll failed: {failed}");
    assert_eq!(log.last(), Some(&told));
    bench.manager.report(prepared(3));
    tokio::time::advance(Duration::from_secs(1)).await;
    bench.starts(3);
    let log = bench.taken();
    assert_eq!(log[0], "proceed 3");
    assert!(
        log.contains(&"refuse reload: Failed(Some(7))".to_owned()) && !log.contains(&"READY".to_owned()),
        "{log:?}"
    );
    let told = "STATUS=web@3.service (main PID 103) serves, after a gap of 1s; last roll failed: ";
    assert_eq!(log.last(), Some(&format!("{told}{failed}; web@3.service runs what web@1.service did")));
}

#[tokio::test(start_paused = true)]
async fn if_neither_serves_both_are_named() {
    let mut bench = handing_over();
    bench.manager.report(stopped(1));
    bench.manager.report(Report::Event(Event::Gone(generation(1))));
    bench.dies(2);
    bench.manager.report(prepared(3));
    bench.taken();
    assert!(matches!(bench.dies(3), Some(Exit::Neither { .. })));
    let log = bench.taken();
    let status = log.last().expect("a status");
    assert!(
        status.contains(
            "web@2.service failed (Result=exit-code, status=3) while starting. See 2; then web@3.service failed"
        ),
        "{log:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_waited_for_keeps_the_timeout_from_running_out() {
    let mut bench = handing_over();
    bench.taken();
    for _ in 0..3 {
        let wake = bench.manager.next_wake().expect("something goes on");
        tokio::time::sleep_until(wake.into()).await;
        bench.manager.woken();
        assert_eq!(bench.taken(), ["EXTEND"]);
    }
}
