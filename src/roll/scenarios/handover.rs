//! Where two can't live at once.

use super::*;

fn prepared(number: u32) -> Event {
    Event::Prepared { generation: generation(number), pace: PACE }
}

fn proceed(number: u32) -> Action {
    Action::Proceed(generation(number))
}

fn again(number: u32, of: u32) -> Action {
    Action::Again { generation: generation(number), of: generation(of) }
}

fn refused(number: u32) -> Event {
    let refusal = Refusal { reason: "no".to_owned(), exit: crate::exit::ExitStatus::UnitRefused };
    Event::Refused(generation(number), refusal)
}

/// The third one serves what the first one did, since the second one has failed.
fn serves_again(number: u32, of: u32, failed: u32, status: u8) -> Action {
    let failure = Failure::Died(Death::Exited(status));
    let again = Some(Again { generation: generation(number), of: generation(of) });
    Action::Answer(Err(Failed { generation: generation(failed), stage: Stage::Starting, failure, again }))
}

impl Story {
    /// The old one has been asked to stop.
    fn handing_over() -> Self {
        let mut story = Self::serving();
        assert_eq!(story.hear([Event::Reload]), [start(2)]);
        assert_eq!(story.hear([prepared(2)]), [stop(1)]);
        story
    }

    /// The new one has been started.
    fn handed_over() -> Self {
        let mut story = Self::handing_over();
        assert_eq!(story.hear([stopped(1)]), [forget(1), proceed(2)]);
        assert_eq!(story.hear([started(2), gone(1)]), []);
        story
    }

    /// The new one has failed.
    fn falling_back() -> Self {
        let mut story = Self::handed_over();
        assert_eq!(story.hear([never_ready(2, 7)]), [again(3, 1)]);
        story
    }
}

#[test]
fn the_new_one_starts_when_the_old_one_is_gone() {
    let mut story = Story::handing_over();
    assert_eq!(story.wait(Duration::from_secs(90)), [], "how long a stop takes is systemd's to say");
    assert_eq!(story.hear([Event::Deactivating(generation(1))]), []);
    assert_eq!(story.serving_now(), None);
    assert_eq!(story.roll.view().stopped, Some(generation(1)));
    assert_eq!(story.hear([stopped(1)]), [forget(1), proceed(2)]);
    assert_eq!(story.hear([started(2), active(2)]), []);
    assert_eq!(story.wait(SETTLE), [serves(2)]);
    assert_eq!(story.hear([gone(1)]), []);
    assert!(story.roll.is_at_rest());
}

#[test]
fn what_is_refused_before_the_stop_stops_nothing() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    let actions = story.hear([refused(2)]);
    assert!(matches!(actions.as_slice(), [Action::Answer(Err(_))]), "{actions:?}");
    assert_eq!(story.serving_now(), Some(generation(1)));
}

#[test]
fn the_first_start_waits_for_what_is_on_its_way_down() {
    let (mut story, actions) = adopting(&[left(4, Standing::Deactivating), left(3, Standing::Dead)]);
    assert_eq!(actions, [forget(3), start(5)]);
    assert_eq!(story.hear([prepared(5)]), []);
    assert_eq!(story.hear([stopped(4)]), [forget(4), proceed(5)]);
    story.hear([started(5), active(5)]);
    assert_eq!(story.wait(SETTLE), [up(5)]);
}

#[test]
fn those_that_left_before_go_first() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    assert_eq!(story.wait(SETTLE), [stop(1), serves(2)]);
    assert_eq!(story.hear([Event::Reload, prepared(3)]), [start(3)]);
    assert_eq!(story.serving_now(), Some(generation(2)), "it serves until its turn has come");
    assert_eq!(story.hear([stopped(1)]), [forget(1)], "somebody may have started it anew");
    assert_eq!(story.hear([gone(1)]), [stop(2)]);
    assert_eq!(story.hear([stopped(2)]), [forget(2), proceed(3)]);
}

#[test]
fn what_a_failed_one_is_followed_by_runs_what_the_old_one_ran() {
    let mut story = Story::falling_back();
    assert!(story.roll.view().again);
    assert_eq!(story.hear([prepared(3)]), [proceed(3)]);
    assert_eq!(story.hear([started(3), active(3)]), []);
    assert_eq!(story.wait(SETTLE), [serves_again(3, 1, 2, 7)]);
    assert_eq!(story.serving_now(), Some(generation(3)));
    // What failed stays to be looked at, and is out of the way before the next handover.
    assert_eq!(story.hear([Event::Reload]), [forget(2), start(4)]);
    assert_eq!(story.hear([prepared(4)]), []);
    assert_eq!(story.hear([gone(2)]), [stop(3)]);
}

#[test]
fn a_start_that_is_refused_too_late_is_a_failed_one() {
    let mut story = Story::handing_over();
    story.hear([stopped(1)]);
    assert_eq!(story.hear([refused(2)]), [again(3, 1)]);
}

#[test]
fn if_both_fail_procroll_ends() {
    let mut story = Story::falling_back();
    story.hear([prepared(3), started(3), active(3)]);
    let actions = story.hear([exited(3, 0)]);
    let [Action::Answer(Err(answer)), Action::Exit(Exit::Neither { candidate, again })] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((answer, candidate.generation), (candidate, generation(2)));
    assert_eq!((again.generation, again.stage), (generation(3), Stage::Settling));
}

#[test]
fn a_stop_wins_at_each_step() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    assert_eq!(story.hear([Event::Stop, prepared(2)]), [stop(2), stop(1)]);

    let mut story = Story::handing_over();
    assert_eq!(story.hear([Event::Stop]), [stop(2)], "the old one has been asked already");
    assert_eq!(story.hear([stopped(1), stopped(2)]), [forget(1), forget(2)]);
    assert_eq!(story.hear([gone(1), gone(2)]), [Action::Exit(Exit::Stopped)]);

    let mut story = Story::handed_over();
    assert_eq!(story.hear([Event::Stop]), [stop(2)]);
    assert_eq!(story.hear([never_ready(2, 1), gone(2)]), [forget(2), Action::Exit(Exit::Stopped)]);

    let mut story = Story::falling_back();
    assert_eq!(story.hear([Event::Stop]), [stop(3), forget(2)]);
    assert_eq!(story.hear([stopped(3), gone(2)]), [forget(3)]);
    assert_eq!(story.hear([gone(3)]), [Action::Exit(Exit::Stopped)]);
}

#[test]
fn an_old_one_that_dies_by_itself_is_not_started_again() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    assert_eq!(story.hear([exited(1, 4)]), [forget(1)]);
    assert_eq!(story.hear([prepared(2)]), [proceed(2)]);
    let actions = story.hear([never_ready(2, 7), gone(1)]);
    let exit = Action::Exit(Exit::Died(generation(1), Death::Exited(4)));
    assert_eq!(actions, [failed(2, Stage::Starting, Death::Exited(7)), exit]);
    // While it was waited for.
    let mut story = Story::rolling();
    story.hear([active(2)]);
    story.wait(SETTLE);
    story.hear([Event::Reload, prepared(3), exited(2, 4)]);
    assert_eq!(story.hear([stopped(1)]), [forget(1), proceed(3)]);
    // Once it was asked to stop it is as stopped, however it ends.
    let mut story = Story::handing_over();
    assert_eq!(story.hear([exited(1, 4)]), [forget(1), proceed(2)]);
    assert_eq!(story.hear([never_ready(2, 7)]), [again(3, 1)]);
}

#[test]
fn requests_during_a_handover_become_one_more() {
    let mut story = Story::handing_over();
    assert_eq!(story.hear([Event::Reload, Event::Reload, stopped(1), started(2)]), [forget(1), proceed(2)]);
    story.hear([active(2), gone(1)]);
    assert_eq!(story.wait(SETTLE), [start(3)], "no answer yet: the last request wants a newer one");
    // Also of one that has failed: somebody may have mended it.
    let mut story = Story::falling_back();
    story.hear([prepared(3), started(3), Event::Reload, active(3)]);
    assert_eq!(story.wait(SETTLE), [forget(2), start(4)]);
}

#[test]
fn a_taken_name_is_skipped_while_nobody_runs() {
    let mut story = Story::handing_over();
    story.hear([stopped(1)]);
    assert_eq!(story.hear([Event::Taken(generation(2))]), [start(3)]);
    assert_eq!(story.hear([prepared(3)]), [proceed(3)]);
    assert_eq!(story.hear([started(3), never_ready(3, 1)]), [again(4, 1)]);
    assert_eq!(story.hear([Event::Taken(generation(4))]), [again(5, 1)]);
}

#[test]
fn an_old_one_that_somebody_starts_anew_is_stopped_before_the_new_one_starts() {
    let mut story = Story::handing_over();
    assert_eq!(story.hear([active(1)]), [stop(1)]);
    assert_eq!(story.hear([stopped(1)]), [forget(1), proceed(2)]);
}
