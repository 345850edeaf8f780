//! The manager between a made-up backend and a made-up upstream, with a clock that stands still.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::roll::{Death, Inherited, Refusal};

/// Everything that the manager asked for, in order.
type Log = Rc<RefCell<Vec<String>>>;

struct FakeBackend(Log);

impl FakeBackend {
    fn log(&self, what: &str, generation: Generation) {
        self.0.borrow_mut().push(format!("{what} {generation}"));
    }
}

impl Backend for FakeBackend {
    async fn survey(&mut self) -> anyhow::Result<Vec<Inherited>> {
        Ok(Vec::new())
    }

    fn start(&mut self, generation: Generation) {
        self.log("start", generation);
    }

    fn stop(&mut self, generation: Generation) {
        self.log("stop", generation);
    }

    fn kill(&mut self, generation: Generation) {
        self.log("kill", generation);
    }

    fn pass_on(&mut self, generation: Generation, signal: i32) {
        self.0.borrow_mut().push(format!("signal {generation} {signal}"));
    }

    fn forget(&mut self, generation: Generation) {
        self.log("forget", generation);
    }

    fn is_in_touch(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        self.0.borrow_mut().push("rest".to_owned());
    }

    async fn end(&mut self) {}

    fn hint(&self, generation: Generation, _: When) -> String {
        format!("See {generation}")
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

    fn refuse_reload(&mut self) {
        self.0.borrow_mut().push("refuse reload".to_owned());
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
    fn new(watchdog: Option<Duration>) -> Self {
        let log = Log::default();
        let manager = Manager::new(FakeBackend(Rc::clone(&log)), FakeUpstream(Rc::clone(&log)), watchdog);
        let mut bench = Self { manager, log };
        bench.manager.handle(Event::Begin(Vec::new()));
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
        let settle = Duration::ZERO;
        self.manager.report(Report::Event(Event::Started { generation, settle }));
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
            "refuse reload",
            "rest",
            "STATUS=web@1.service (main PID 101) serves; last roll failed: web@2.service failed (Result=exit-code, \
             status=3) while starting. See 2"
        ]
    );
    bench.manager.refused();
    assert_eq!(bench.taken(), ["rest", "READY"]);
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
