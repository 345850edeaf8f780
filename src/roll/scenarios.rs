//! What a roll does, told as stories with an invented clock.

mod handover;

use super::*;

const SETTLE: Duration = Duration::from_secs(1);
const PACE: Pace = Pace { settle: SETTLE, most_leaving: 2 };

/// A roll and the time it lives in.
struct Story {
    roll: Roll,
    now: Instant,
}

fn generation(number: u32) -> Generation {
    Generation::new(number)
}

fn started(number: u32) -> Event {
    Event::Started { generation: generation(number), pace: PACE }
}

fn active(number: u32) -> Event {
    Event::Active(generation(number))
}

fn exited(number: u32, status: u8) -> Event {
    Event::Dead { generation: generation(number), death: Death::Exited(status), was_active: true }
}

fn never_ready(number: u32, status: u8) -> Event {
    Event::Dead { generation: generation(number), death: Death::Exited(status), was_active: false }
}

fn stopped(number: u32) -> Event {
    Event::Dead { generation: generation(number), death: Death::Stopped, was_active: true }
}

fn gone(number: u32) -> Event {
    Event::Gone(generation(number))
}

fn start(number: u32) -> Action {
    Action::Start(generation(number))
}

fn stop(number: u32) -> Action {
    Action::Stop(generation(number))
}

fn forget(number: u32) -> Action {
    Action::Forget(generation(number))
}

fn up(number: u32) -> Action {
    Action::Up(generation(number))
}

fn serves(number: u32) -> Action {
    Action::Answer(Ok(generation(number)))
}

fn failed(number: u32, stage: Stage, death: Death) -> Action {
    Action::Answer(Err(Failed { generation: generation(number), stage, failure: Failure::Died(death), again: None }))
}

impl Story {
    fn begun() -> Self {
        let mut story = Self { roll: Roll::default(), now: Instant::now() };
        assert_eq!(story.hear([Event::Begin(Vec::new())]), [start(1)]);
        story
    }

    /// The first generation serves.
    fn serving() -> Self {
        let mut story = Self::begun();
        assert_eq!(story.hear([started(1), active(1)]), []);
        assert_eq!(story.wait(SETTLE), [up(1)]);
        story
    }

    /// The second one is on its way.
    fn rolling() -> Self {
        let mut story = Self::serving();
        assert_eq!(story.hear([Event::Reload]), [start(2)]);
        assert_eq!(story.hear([started(2)]), []);
        story
    }

    fn hear<const N: usize>(&mut self, events: [Event; N]) -> Vec<Action> {
        for event in events {
            self.roll.handle_event(self.now, event);
        }
        self.actions()
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.roll.handle_timeout(self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.roll.next_action()).collect()
    }

    fn serving_now(&self) -> Option<Generation> {
        self.roll.view().serving
    }
}

#[test]
fn the_old_one_is_stopped_only_when_the_new_one_has_settled() {
    let mut story = Story::rolling();
    assert_eq!(story.wait(Duration::from_secs(60)), []);
    assert_eq!(story.hear([active(2)]), []);
    assert_eq!(story.wait(SETTLE - Duration::from_micros(1)), []);
    assert_eq!(story.serving_now(), Some(generation(1)));
    assert_eq!(story.wait(Duration::from_micros(1)), [stop(1), serves(2)]);
    assert_eq!(story.hear([stopped(1)]), [forget(1)]);
    assert_eq!(story.hear([gone(1)]), []);
    assert!(story.roll.is_at_rest());
}

#[test]
fn without_settling_time_active_is_enough() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    let at_once = Event::Started { generation: generation(2), pace: Pace { settle: Duration::ZERO, ..PACE } };
    assert_eq!(story.hear([at_once, active(2)]), [stop(1), serves(2)]);
}

#[test]
fn a_candidate_that_dies_leaves_the_old_one_serving() {
    let mut story = Story::rolling();
    let answer = failed(2, Stage::Starting, Death::Exited(3));
    assert_eq!(story.hear([never_ready(2, 3)]), [answer]);
    assert_eq!(story.serving_now(), Some(generation(1)));
    // It stays to be looked at until the next roll.
    assert_eq!(story.hear([Event::Reload]), [forget(2), start(3)]);
}

#[test]
fn a_candidate_that_dies_while_settling_has_failed() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    assert_eq!(story.hear([exited(2, 3)]), [failed(2, Stage::Settling, Death::Exited(3))]);
    assert_eq!(story.wait(SETTLE), []);
    // Also if the word that it was active was overtaken by the one of its death: it has never served, whatever it said.
    let mut story = Story::rolling();
    assert_eq!(story.hear([exited(2, 3)]), [failed(2, Stage::Settling, Death::Exited(3))]);
}

#[test]
fn settling_begins_anew_when_a_candidate_was_not_active_for_a_moment() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    story.wait(SETTLE / 2);
    assert_eq!(story.hear([Event::Deactivating(generation(2))]), []);
    assert_eq!(story.wait(SETTLE), []);
    assert_eq!(story.hear([active(2)]), []);
    assert_eq!(story.wait(SETTLE / 2), []);
    assert_eq!(story.wait(SETTLE / 2), [stop(1), serves(2)]);
}

#[test]
fn a_refused_roll_starts_nothing_and_leaves_nothing() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    let refusal = Refusal { reason: "no".to_owned(), exit: crate::exit::ExitStatus::UnitRefused };
    let actions = story.hear([Event::Refused(generation(2), refusal.clone())]);
    let failure = Failure::Refused(refusal);
    assert_eq!(
        actions,
        [Action::Answer(Err(Failed { generation: generation(2), stage: Stage::Starting, failure, again: None }))]
    );
    assert_eq!(story.hear([Event::Reload]), [start(3)]);
}

#[test]
fn a_taken_name_is_skipped() {
    let mut story = Story::serving();
    story.hear([Event::Reload]);
    assert_eq!(story.hear([Event::Taken(generation(2))]), [start(3)]);
    assert_eq!(story.hear([Event::Taken(generation(2))]), [], "a late word");
    for number in 3..MOST_TAKEN + 1 {
        assert_eq!(story.hear([Event::Taken(generation(number))]), [start(number + 1)]);
    }
    let actions = story.hear([Event::Taken(generation(MOST_TAKEN + 1))]);
    assert!(matches!(actions.as_slice(), [Action::Answer(Err(_))]), "{actions:?}");
}

#[test]
fn after_the_last_number_of_all_a_roll_fails_and_whoever_has_it_serves_on() {
    let (mut story, actions) = adopting(&[left(u32::MAX, Standing::Active)]);
    assert_eq!(actions, [up(u32::MAX)]);
    let actions = story.hear([Event::Reload]);
    assert!(matches!(actions.as_slice(), [Action::Answer(Err(_))]), "{actions:?}");
    assert_eq!(story.serving_now(), Some(generation(u32::MAX)));
}

#[test]
fn requests_during_a_roll_become_one_more_roll_and_one_answer() {
    let mut story = Story::rolling();
    assert_eq!(story.hear([Event::Reload, Event::Reload, active(2)]), []);
    assert_eq!(story.wait(SETTLE), [stop(1), start(3)], "no answer yet: the last request wants a newer one");
    story.hear([started(3), active(3)]);
    assert_eq!(story.wait(SETTLE), [stop(2), serves(3)]);
}

#[test]
fn a_roll_waits_for_an_old_one_to_end_when_many_are_on_their_way_out() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    assert_eq!(story.wait(SETTLE), [stop(1), serves(2)]);
    assert_eq!(story.hear([Event::Reload]), [start(3)], "one of two");
    story.hear([started(3), active(3)]);
    assert_eq!(story.wait(SETTLE), [stop(2), serves(3)]);
    assert_eq!(story.hear([Event::Reload, Event::Reload]), [], "nothing begins, and nobody is answered");
    assert!(story.roll.view().waiting && !story.roll.is_at_rest());
    assert_eq!(story.hear([stopped(1)]), [forget(1), start(4)]);
    assert!(!story.roll.view().waiting);
    // A stop does not wait.
    story.hear([started(4), active(4)]);
    assert_eq!(story.wait(SETTLE), [stop(3), serves(4)]);
    assert_eq!(story.hear([Event::Reload, Event::Stop]), [stop(4)]);
    assert_eq!(story.hear([stopped(2), stopped(3)]), [forget(2), forget(3)], "no start after a stop");
}

#[test]
fn a_death_of_the_serving_one_does_not_wait_either() {
    let mut story = Story::begun();
    story.hear([Event::Started { generation: generation(1), pace: Pace { most_leaving: 1, ..PACE } }, active(1)]);
    story.wait(SETTLE);
    story.hear([Event::Reload, Event::Started { generation: generation(2), pace: Pace { most_leaving: 1, ..PACE } }]);
    story.hear([active(2)]);
    assert_eq!(story.wait(SETTLE), [stop(1), serves(2)]);
    assert_eq!(story.hear([Event::Reload]), []);
    assert_eq!(
        story.hear([exited(2, 3), gone(2)]),
        [forget(2), Action::Exit(Exit::Died(generation(2), Death::Exited(3)))]
    );
}

#[test]
fn a_request_during_the_first_start_does_not_keep_the_unit_from_being_up() {
    let mut story = Story::begun();
    story.hear([started(1), Event::Reload, active(1)]);
    assert_eq!(story.wait(SETTLE), [up(1), start(2)]);
    story.hear([started(2), active(2)]);
    assert_eq!(story.wait(SETTLE), [stop(1), serves(2)], "who asked hears of the roll");
}

#[test]
fn when_a_roll_fails_and_another_was_asked_for_only_the_last_outcome_is_told() {
    let mut story = Story::rolling();
    assert_eq!(story.hear([Event::Reload, exited(2, 1)]), [forget(2), start(3)]);
}

#[test]
fn if_the_old_one_dies_the_roll_goes_on() {
    let mut story = Story::rolling();
    assert_eq!(story.hear([exited(1, 7)]), [forget(1)]);
    assert_eq!(story.serving_now(), None);
    story.hear([gone(1), active(2)]);
    assert_eq!(story.wait(SETTLE), [serves(2)]);
}

#[test]
fn if_both_are_gone_procroll_ends_as_the_one_that_served() {
    let mut story = Story::rolling();
    story.hear([exited(1, 7), gone(1)]);
    let actions = story.hear([never_ready(2, 3)]);
    let exit = Action::Exit(Exit::Died(generation(1), Death::Exited(7)));
    assert_eq!(actions, [failed(2, Stage::Starting, Death::Exited(3)), exit]);
}

#[test]
fn when_the_serving_one_dies_it_is_cleared_away_and_procroll_ends_alike() {
    let mut story = Story::serving();
    assert_eq!(story.hear([exited(1, 7)]), [forget(1)]);
    assert_eq!(story.hear([gone(1)]), [Action::Exit(Exit::Died(generation(1), Death::Exited(7)))]);
}

#[test]
fn whoever_restarts_procroll_is_not_kept_waiting_by_what_drains() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    story.wait(SETTLE);
    story.hear([exited(2, 1)]);
    let exit = Action::Exit(Exit::Died(generation(2), Death::Exited(1)));
    assert_eq!(story.hear([gone(2)]), [exit], "the first one still drains");
}

#[test]
fn a_first_start_that_fails_ends_procroll_and_stays_to_be_looked_at() {
    let mut story = Story::begun();
    story.hear([started(1), active(1)]);
    let failed = Failed {
        generation: generation(1),
        stage: Stage::Settling,
        failure: Failure::Died(Death::Exited(3)),
        again: None,
    };
    assert_eq!(story.hear([exited(1, 3)]), [Action::Exit(Exit::Failed(failed))]);
}

#[test]
fn a_stop_ends_when_nothing_is_left() {
    let mut story = Story::rolling();
    assert_eq!(story.hear([Event::Stop]), [stop(2), stop(1)]);
    assert_eq!(story.hear([Event::Reload]), []);
    assert_eq!(story.hear([stopped(1), gone(1)]), [forget(1)]);
    assert_eq!(story.hear([stopped(2)]), [forget(2)]);
    assert_eq!(story.hear([gone(2)]), [Action::Exit(Exit::Stopped)]);
}

#[test]
fn a_stop_before_there_is_anything_ends_at_once() {
    let mut story = Story { roll: Roll::default(), now: Instant::now() };
    assert_eq!(story.hear([Event::Stop]), [Action::Exit(Exit::Stopped)]);
}

#[test]
fn a_stop_clears_away_what_a_failed_roll_left() {
    let mut story = Story::rolling();
    story.hear([exited(2, 3)]);
    assert_eq!(story.hear([Event::Stop]), [stop(1), forget(2)]);
}

#[test]
fn an_old_one_that_somebody_starts_anew_is_stopped_again() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    story.wait(SETTLE);
    assert_eq!(story.hear([active(1)]), [stop(1)]);
}

#[test]
fn a_second_stop_kills() {
    let mut story = Story::rolling();
    story.hear([Event::Stop]);
    assert_eq!(story.hear([Event::Stop]), [], "the first one once more");
    story.wait(SAME_STOP);
    assert_eq!(story.hear([Event::Stop]), [Action::Kill(generation(1)), Action::Kill(generation(2))]);
    story.hear([stopped(2)]);
    assert_eq!(story.hear([Event::Stop]), [Action::Kill(generation(1))]);
}

#[test]
fn a_settled_candidate_is_not_promoted_after_a_stop() {
    let mut story = Story::rolling();
    story.hear([active(2), Event::Stop]);
    assert_eq!(story.wait(SETTLE), []);
}

#[test]
fn late_words_about_the_dead_are_ignored() {
    let mut story = Story::rolling();
    story.hear([active(2)]);
    story.wait(SETTLE);
    story.hear([stopped(1), gone(1)]);
    assert_eq!(story.hear([active(1), Event::Deactivating(generation(1)), stopped(1), gone(1)]), []);
    assert_eq!(story.hear([started(9), active(9), exited(9, 1)]), []);
    assert_eq!(story.serving_now(), Some(generation(2)));
}

fn left(number: u32, standing: Standing) -> Inherited {
    Inherited { generation: generation(number), standing, pace: PACE, again: false }
}

fn adopting(found: &[Inherited]) -> (Story, Vec<Action>) {
    let mut story = Story { roll: Roll::default(), now: Instant::now() };
    let actions = story.hear([Event::Begin(found.to_vec())]);
    (story, actions)
}

#[test]
fn the_highest_active_generation_is_adopted_and_counting_goes_on() {
    let found = [left(4, Standing::Active), left(3, Standing::Deactivating), left(2, Standing::Dead)];
    let (mut story, actions) = adopting(&found);
    assert_eq!(actions, [forget(2), up(4)]);
    assert_eq!(story.hear([Event::Reload]), [start(5)]);
}

#[test]
fn what_failed_last_stays_until_the_next_roll_also_past_a_crash() {
    let found = [2, 4, 5].map(|number| left(number, Standing::Dead));
    let (mut story, actions) = adopting(&[&found[..], &[left(3, Standing::Active)]].concat());
    assert_eq!(actions, [forget(2), forget(4), up(3)]);
    assert_eq!(story.hear([gone(2), gone(4), Event::Reload]), [forget(5), start(6)]);
    // Of a roll that is under way it is in the way, and with nobody who serves there is one.
    let (_, actions) = adopting(&[&found[..], &[left(3, Standing::Active), left(6, Standing::Starting)]].concat());
    assert_eq!(actions, [forget(2), forget(4), forget(5), up(3)]);
    let (_, actions) = adopting(&found);
    assert_eq!(actions, [forget(2), forget(4), forget(5), start(6)]);
    // After a handover that failed, what serves is the newer one.
    let again = Inherited { again: true, ..left(6, Standing::Active) };
    let (mut story, actions) = adopting(&[&found[..], &[again]].concat());
    assert_eq!(actions, [forget(2), forget(4), up(6)]);
    assert_eq!(story.hear([gone(2), gone(4), Event::Reload]), [forget(5), start(7)]);
    let starts = Inherited { standing: Standing::Starting, ..again };
    let (_, actions) = adopting(&[&found[..], &[starts]].concat());
    assert_eq!(actions, [forget(2), forget(4)]);
}

#[test]
fn of_two_that_are_active_the_newer_one_has_to_settle() {
    let found = [left(4, Standing::Active), left(3, Standing::Active), left(2, Standing::Active)];
    let (mut story, actions) = adopting(&found);
    assert_eq!(actions, [stop(2), up(3)]);
    assert_eq!(story.hear([active(3), active(4)]), []);
    assert_eq!(story.wait(SETTLE / 2), []);
    assert_eq!(story.wait(SETTLE / 2), [stop(3), serves(4)]);
    let (mut story, _) = adopting(&found);
    story.hear([active(3), active(4)]);
    assert_eq!(story.hear([exited(4, 1)]), [failed(4, Stage::Settling, Death::Exited(1))]);
    assert_eq!(story.serving_now(), Some(generation(3)));
}

#[test]
fn a_roll_that_was_left_half_way_is_settled() {
    let found = [left(4, Standing::Active), left(5, Standing::Starting)];
    let (mut story, actions) = adopting(&found);
    assert_eq!(actions, [up(4)]);
    assert_eq!(story.serving_now(), Some(generation(4)));
    story.hear([active(5)]);
    assert_eq!(story.wait(SETTLE), [stop(4), serves(5)]);
    let (mut story, _) = adopting(&found);
    assert_eq!(story.hear([never_ready(5, 1)]), [failed(5, Stage::Starting, Death::Exited(1))]);
    assert_eq!(story.serving_now(), Some(generation(4)));
}

#[test]
fn what_is_on_its_way_down_is_not_adopted() {
    let (mut story, actions) = adopting(&[left(4, Standing::Deactivating)]);
    assert_eq!(actions, [start(5)]);
    assert_eq!(story.hear([stopped(4)]), [forget(4)]);
}
