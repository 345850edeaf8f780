//! What an earlier procroll has left: taken over after a crash, or after procroll was executed anew.

use super::*;

fn active(number: u32) -> Inherited {
    Inherited { generation: generation(number), standing: Standing::Active, pace: Pace::default(), again: false }
}

/// Executed anew, procroll finds that what served is on its way down, and is asked for a reload: so there is a start, but none
/// of the unit.
fn reloading_while_nobody_serves(pace: Pace) -> Bench {
    let mut bench = Bench::not_begun(None);
    bench.manager.up = true;
    bench.manager.begin(vec![Inherited {
        generation: generation(1),
        standing: Standing::Deactivating,
        pace,
        again: false,
    }]);
    bench.manager.asked(Request::Reload);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_a_crash_interrupted_fails_before_procroll_is_up() {
    let mut bench = Bench::not_begun(None);
    bench.manager.begin(vec![active(4)]);
    assert_eq!(bench.taken(), ["refuse reload: Interrupted", "rest", "STATUS=web@4.service serves"]);
    bench.manager.refused();
    assert_eq!(bench.taken(), ["rest", "READY"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_while_nobody_serves_any_more_is_over_when_its_roll_is() {
    let mut bench = reloading_while_nobody_serves(Pace::default());
    assert!(bench.taken().contains(&"RELOADING".to_owned()));
    bench.starts(2);
    let log = bench.taken();
    assert!(log.contains(&"start 3".to_owned()) && !log.contains(&"READY".to_owned()), "{log:?}");
    bench.starts(3);
    assert!(bench.taken().contains(&"READY".to_owned()));
}

/// The same, and the one on its way down is all that may be.
#[tokio::test(start_paused = true)]
async fn a_reload_is_not_over_before_its_roll_has_begun() {
    let pace = Pace { settle: Duration::ZERO, most_leaving: 1 };
    let mut bench = reloading_while_nobody_serves(pace);
    bench.manager.report(Report::Event(Event::Started { generation: generation(2), pace }));
    bench.manager.report(Report::Active { generation: generation(2), main_pid: Some(102) });
    let log = bench.taken();
    assert!(!log.contains(&"start 3".to_owned()) && !log.contains(&"READY".to_owned()), "{log:?}");
    bench.dies(1);
    bench.starts(3);
    assert!(bench.taken().contains(&"READY".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_comes_meanwhile_is_over_when_its_roll_is() {
    let mut bench = Bench::not_begun(None);
    bench.manager.up = true;
    bench.manager.begin(vec![active(4)]);
    bench.manager.asked(Request::Reload);
    bench.taken();
    bench.manager.refused();
    assert!(!bench.taken().contains(&"READY".to_owned()), "the roll is under way");
    bench.starts(5);
    assert!(bench.taken().contains(&"READY".to_owned()));
}

/// No reload that systemd waits for: it sends no signal to a unit that is not up.
#[tokio::test(start_paused = true)]
async fn a_plain_signal_before_it_is_up_keeps_nobody_waiting() {
    let mut bench = Bench::not_begun(None);
    bench.manager.begin(vec![active(4)]);
    bench.manager.asked(Request::Reload);
    assert!(!bench.taken().contains(&"RELOADING".to_owned()));
    bench.manager.refused();
    assert!(bench.taken().contains(&"READY".to_owned()), "whatever its roll waits for");
    bench.starts(5);
    assert_eq!(bench.manager.roll.view().serving, Some(generation(5)));
}

#[tokio::test(start_paused = true)]
async fn what_settles_meanwhile_is_not_up_before_the_interrupted_reload_was_refused() {
    let mut bench = Bench::not_begun(None);
    bench.manager.begin(vec![active(3), active(4)]);
    bench.starts(4);
    tokio::time::advance(Duration::from_secs(1)).await;
    bench.manager.woken();
    assert_eq!(bench.manager.roll.view().serving, Some(generation(4)));
    assert!(!bench.taken().contains(&"READY".to_owned()));
    bench.manager.refused();
    assert!(bench.taken().contains(&"READY".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_noted_on_who_serves_until_it_is_over() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    assert_eq!(bench.manager.backend.noted, Some(generation(1)));
    bench.manager.asked(Request::Reload);
    bench.starts(2);
    assert_eq!(bench.manager.backend.noted, Some(generation(2)), "its roll is the next one");
    bench.dies(3);
    assert_eq!(bench.manager.backend.noted, Some(generation(2)), "nobody has been told yet that it failed");
    bench.manager.refused();
    assert_eq!(bench.manager.backend.noted, None);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_unsaid_has_not_settled() {
    let mut bench = Bench::serving();
    bench.manager.asked(Request::Reload);
    let pace = Pace::default();
    bench.manager.report(Report::Event(Event::Started { generation: generation(2), pace }));
    bench.manager.report(Report::Active { generation: generation(2), main_pid: Some(102) });
    bench.manager.backend.has_ended = true;
    tokio::time::advance(pace.settle).await;
    bench.manager.woken();
    assert_eq!(bench.manager.roll.view().serving, Some(generation(1)));
    bench.dies(2);
    assert!(bench.taken().contains(&"refuse reload: Failed(Some(7))".to_owned()));
    assert_eq!(bench.manager.roll.view().serving, Some(generation(1)));
}
