//! A systemd as honest as a real one: what it may say next of the generations there are.

use proptest::prelude::*;

use super::super::*;
use super::watcher::World;
use crate::exit::ExitStatus;

/// Something that may happen. It picks one of those that it can happen to, if any, and a variant.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    kind: u8,
    pick: u8,
    variant: u8,
}

impl Step {
    pub fn any() -> impl Strategy<Value = Self> {
        (0..KINDS.len(), 0u8..8, 0u8..16).prop_map(|(kind, pick, variant)| Self { kind: kind as u8, pick, variant })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// Nothing, to which steps shrink that a story can do without.
    Nothing,
    Reload,
    Stop,
    /// procroll is killed, or has ended, and there is another one.
    Anew,
    /// Time passes, and procroll notices only if something else wakes it.
    Pass,
    /// Time passes, and procroll's clock rings if it is due.
    Ring,
    Taken,
    Refused,
    Prepared,
    Started,
    Active,
    Deactivating,
    Dead,
    Gone,
    Late,
}

/// Each as often as it stands here.
const KINDS: [Kind; 44] = {
    use Kind::*;
    [
        Nothing,
        Reload,
        Reload,
        Reload,
        Reload,
        Ring,
        Ring,
        Ring,
        Ring,
        Ring,
        Pass,
        Prepared,
        Prepared,
        Prepared,
        Started,
        Started,
        Started,
        Started,
        Active,
        Active,
        Active,
        Active,
        Active,
        Active,
        Active,
        Active,
        Deactivating,
        Deactivating,
        Dead,
        Dead,
        Dead,
        Dead,
        Gone,
        Gone,
        Gone,
        Gone,
        Gone,
        Late,
        Late,
        Taken,
        Refused,
        Stop,
        Stop,
        Anew,
    ]
};

/// What systemd has of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It may or may not have heard of it yet.
    Asked,
    /// It hasn't. procroll holds the start back.
    Prepared,
    Starting,
    Active,
    Deactivating,
    /// Nothing of it runs; it is only listed.
    Dead,
    /// Nothing at all, or somebody else's unit.
    Nothing,
}

#[derive(Debug)]
pub struct Unit {
    pub doing: Doing,
    pub pace: Pace,
    /// It has been active, seen or unseen.
    pub was_active: bool,
    pub active_since: Option<Instant>,
    /// It was asked to stop, or found on its way out.
    pub leaves: bool,
    pub forgotten: bool,
    /// This procroll has had it started, and has not found it.
    pub ours: bool,
    /// No other can live beside it.
    pub alone: bool,
    /// It runs what another one ran.
    pub again: bool,
}

impl Unit {
    pub fn new(doing: Doing) -> Self {
        let pace = Pace { settle: Duration::ZERO, most_leaving: 1 };
        let was_active = doing == Doing::Active;
        let ours = doing == Doing::Asked;
        Self {
            doing,
            pace,
            was_active,
            active_since: None,
            leaves: false,
            forgotten: false,
            ours,
            alone: false,
            again: false,
        }
    }

    pub fn lives(&self) -> bool {
        !matches!(self.doing, Doing::Dead | Doing::Nothing)
    }
}

pub fn pace() -> impl Strategy<Value = Pace> {
    (0u8..16).prop_map(pace_of)
}

fn pace_of(variant: u8) -> Pace {
    let settle = Duration::from_millis([100, 0, 1000, 99][usize::from(variant % 4)]);
    Pace { settle, most_leaving: [1, 2, 3, 8][usize::from(variant / 4)] }
}

fn death_of(variant: u8) -> Death {
    match variant / 2 {
        0..3 => Death::Exited(variant),
        3 => Death::Killed(9),
        4 => Death::Failed("timeout".to_owned()),
        _ => Death::Stopped,
    }
}

impl World {
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        let variant = step.variant;
        if self.is_over() && step.pick.is_multiple_of(2) {
            return self.begin_anew(variant);
        }
        match KINDS[usize::from(step.kind)] {
            Kind::Nothing => Ok(()),
            Kind::Reload => self.hear(Event::Reload),
            Kind::Stop => self.hear(Event::Stop),
            Kind::Anew => self.begin_anew(variant),
            Kind::Pass => self.pass(variant),
            Kind::Ring => {
                self.pass(variant)?;
                self.ring()
            }
            Kind::Taken => self.pick_one(step, |unit| unit.doing == Doing::Asked, Event::Taken),
            Kind::Refused => {
                // Also after its start, if systemd has made something else of it than what was composed.
                let refusable = |unit: &Unit| unit.ours && matches!(unit.doing, Doing::Asked | Doing::Starting);
                self.pick_one(step, refusable, |one| Event::Refused(one, refusal()))
            }
            Kind::Prepared => {
                let pace = pace_of(variant);
                let can_be = |unit: &Unit| unit.doing == Doing::Asked && !unit.alone;
                self.pick_one(step, can_be, |generation| Event::Prepared { generation, pace })
            }
            Kind::Started => {
                let pace = pace_of(variant);
                self.pick_one(step, |unit| unit.doing == Doing::Asked, |generation| Event::Started { generation, pace })
            }
            Kind::Active => {
                let can_be = |unit: &Unit| matches!(unit.doing, Doing::Starting | Doing::Active | Doing::Deactivating);
                self.pick_one(step, can_be, Event::Active)
            }
            Kind::Deactivating => self.pick_one(step, |unit| unit.doing == Doing::Active, Event::Deactivating),
            Kind::Dead => {
                let is_there = |unit: &Unit| !matches!(unit.doing, Doing::Asked | Doing::Prepared);
                let can_die = |unit: &Unit| unit.lives() && (is_there(unit) || unit.leaves);
                self.pick_one(step, can_die, |generation| Event::Dead {
                    generation,
                    death: death_of(variant),
                    // Made good where the generation is known to have been active.
                    was_active: variant.is_multiple_of(4),
                })
            }
            Kind::Gone => self.pick_one(step, |unit| unit.forgotten && unit.doing == Doing::Dead, Event::Gone),
            Kind::Late => self.say_late(step),
        }
    }

    fn pick_one(
        &mut self,
        step: &Step,
        can: impl Fn(&Unit) -> bool,
        word: impl Fn(Generation) -> Event,
    ) -> Result<(), String> {
        let able = || self.units.iter().rev().filter(|(_, unit)| can(unit)).map(|(one, _)| *one);
        let count = able().count();
        match able().nth(usize::from(step.pick) % count.max(1)) {
            Some(one) => self.hear(word(one)),
            None => Ok(()),
        }
    }

    /// A word about one that is over, or that nobody has heard of.
    fn say_late(&mut self, step: &Step) -> Result<(), String> {
        let above = self.units.last_key_value().map_or(Generation::NONE, |(last, _)| *last);
        let over = self.units.iter().rev().filter(|(_, unit)| !unit.lives());
        let unseen = above.next().into_iter().chain([Generation::new(1000), Generation::NONE]);
        let generation = over.map(|(one, _)| *one).chain(unseen).nth(step.pick.into()).unwrap_or(Generation::NONE);
        let (death, pace) = (death_of(step.variant), pace_of(step.variant));
        let event = match step.variant % 8 {
            0 => Event::Active(generation),
            1 => Event::Deactivating(generation),
            2 => Event::Dead { generation, death, was_active: true },
            3 => Event::Started { generation, pace },
            4 => Event::Taken(generation),
            5 => Event::Refused(generation, refusal()),
            6 => Event::Begin(Vec::new()),
            7 if step.pick.is_multiple_of(2) => Event::Prepared { generation, pace },
            // That one is forgotten is never said before it is.
            _ if self.units.get(&generation).is_some_and(|unit| unit.doing == Doing::Dead) => return Ok(()),
            _ => Event::Gone(generation),
        };
        self.hear_late(event)
    }

    /// Some time, and often just as long as something else takes.
    fn pass(&mut self, variant: u8) -> Result<(), String> {
        let until = self.next_timeout().map(|until| until.saturating_duration_since(self.now()));
        let millis = |millis| Duration::from_millis(millis);
        self.wait(match (variant, until) {
            (0..4, Some(until)) => until,
            (4..6, Some(until)) => until.saturating_sub(Duration::from_micros(1)),
            (6..8, _) => SAME_STOP,
            (8..10, _) => SAME_STOP - Duration::from_micros(1),
            (10..12, _) => millis(3000),
            (variant, _) => millis(u64::from(variant) * 10),
        });
        Ok(())
    }

    /// procroll is no more, and the next one finds what there is, in any order.
    fn begin_anew(&mut self, variant: u8) -> Result<(), String> {
        let mut left = Vec::new();
        for (&generation, unit) in &self.units {
            let standing = match unit.doing {
                // Whether it was heard of is the variant's to say.
                Doing::Prepared => continue,
                Doing::Asked if variant.is_multiple_of(2) => continue,
                Doing::Asked | Doing::Starting => Standing::Starting,
                Doing::Active => Standing::Active,
                Doing::Deactivating => Standing::Deactivating,
                Doing::Dead => Standing::Dead,
                Doing::Nothing => continue,
            };
            left.push(Inherited { generation, standing, pace: unit.pace, again: unit.again });
        }
        let count = left.len().max(1);
        left.rotate_left(usize::from(variant / 2) % count);
        if variant >= 8 {
            left.reverse();
        }
        self.begin(left)
    }

    /// From here on everything comes to its end: a stop in death, a start in one or the other.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        for round in 0..MOST_ROUNDS {
            let units = self.units.iter().filter(|(_, unit)| unit.lives());
            let leave = units.clone().any(|(_, unit)| unit.leaves);
            if self.is_over() || self.is_at_rest() && !leave {
                let living: Vec<_> = units.map(|(one, _)| *one).collect();
                let alone = living.iter().copied().eq(self.serving);
                return if self.is_over() || alone { Ok(()) } else { Err(format!("at rest {living:?} live")) };
            }
            self.go_on(round % 2 == 1)?;
        }
        Err(format!("it does not come to rest in {MOST_ROUNDS} rounds"))
    }

    pub fn stop_for_good(&mut self) -> Result<(), String> {
        self.hear(Event::Stop)?;
        for _ in 0..MOST_ROUNDS {
            if self.is_over() {
                return Ok(());
            }
            self.go_on(true)?;
        }
        Err(format!("the stop does not end in {MOST_ROUNDS} rounds"))
    }

    /// All that is under way takes one step, or two.
    fn go_on(&mut self, well: bool) -> Result<(), String> {
        let living: Vec<_> = self.units.iter().filter(|(_, unit)| unit.lives()).map(|(one, _)| *one).collect();
        for generation in living {
            let unit = &self.units[&generation];
            let dead = Event::Dead { generation, death: Death::Stopped, was_active: false };
            match unit.doing {
                _ if unit.leaves => self.hear(dead)?,
                Doing::Asked if self.handover && !unit.alone => {
                    self.hear(Event::Prepared { generation, pace: pace_of(0) })?;
                }
                Doing::Asked => self.hear(Event::Started { generation, pace: pace_of(0) })?,
                Doing::Starting | Doing::Deactivating if well => self.hear(Event::Active(generation))?,
                Doing::Starting | Doing::Deactivating => self.hear(dead)?,
                Doing::Prepared | Doing::Active | Doing::Dead | Doing::Nothing => {}
            }
        }
        let dead =
            self.units.iter().filter(|(_, unit)| unit.forgotten && unit.doing == Doing::Dead).map(|(one, _)| *one);
        for generation in dead.collect::<Vec<_>>() {
            self.hear(Event::Gone(generation))?;
        }
        self.wait(Duration::from_secs(5));
        self.ring()
    }
}

/// How many rounds of [`World::go_on`] it may take: two rolls are the most that are due, each of which starts, settles
/// and lets another end, or is followed by a start of what there was.
const MOST_ROUNDS: u32 = 20;

fn refusal() -> Refusal {
    Refusal { reason: "no".to_owned(), exit: ExitStatus::UnitRefused }
}
