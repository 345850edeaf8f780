//! Reloads and SIGHUPs from many shells at once, while the unit changes: G5. All who have a part in it write one story, line
//! by line, and what was promised is looked up there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;

use crate::machine::Machine;
use crate::stops::nothing_is_left;
use crate::with_lines;

on_each_systemd!(each_of_a_crowd_is_told_the_truth, a_stop_in_a_crowd_is_a_stop);

/// A generation, that takes half a second to stop.
const GENERATION: &str = r#"#!/bin/sh
echo "start $1 $CONFIG" >>/run/story
if [ "$WORKS" = no ]; then
    echo "broke $1" >>/run/story
    exit 3
fi
while [ -e /run/hold ]; do sleep 0.01; done
trap 'echo "term $1" >>/run/story; sleep 0.5; echo "end $1" >>/run/story; exit 0' TERM
echo "ready $1 $CONFIG" >>/run/story
systemd-notify --ready
while :; do
    sleep 1000 &
    wait $!
done
"#;

/// crowd NAME TIMES COMMAND...: asks for a reload that often, one after the other, and notes what was told.
const CROWD: &str = r#"#!/bin/sh
name=$1 times=$2
shift 2
while [ $times -gt 0 ]; do
    echo "asked $name-$times" >>/run/story
    if "$@" >>/run/said 2>&1; then told=yes; else told=no; fi
    echo "told $name-$times $told" >>/run/story
    times=$((times - 1))
done
"#;

/// How many old generations may be on their way out.
const MOST: usize = 2;

fn unit(config: u32, works: bool) -> String {
    let works = if works { "yes" } else { "no" };
    let lines = format!("NotifyAccess=all\nEnvironment=CONFIG={config} WORKS={works}");
    let options = format!("--settle=0 --max-stopping={MOST}");
    with_lines(&lines, &options, "").replace("/usr/bin/payload", "/bin/sh /usr/bin/generation {{.Generation}}")
}

struct Crowd<'a> {
    machine: &'a Machine,
    config: u32,
    children: Vec<Child>,
}

impl<'a> Crowd<'a> {
    fn start(machine: &'a Machine) -> Self {
        machine.write("/usr/bin/generation", GENERATION);
        machine.write("/usr/bin/crowd", CROWD);
        let mut crowd = Self { machine, config: 0, children: Vec::new() };
        crowd.change(true);
        machine.ok("systemctl start web");
        crowd
    }

    fn note(&self, line: &str) {
        self.machine.ok(&format!("echo '{line}' >>/run/story"));
    }

    /// Another unit file. Whoever asks between the two notes is told either that, or that the file has changed on disk.
    fn change(&mut self, works: bool) {
        self.config += 1;
        self.note(&format!("change {} {works}", self.config));
        self.machine.unit("web.service", &unit(self.config, works));
        self.note(&format!("changed {}", self.config));
    }

    fn shell(&mut self, name: &str, times: u32, command: &str) {
        let words = format!("exec sh /usr/bin/crowd {name} {times} {command}");
        let mut child = self.machine.command(&["sh", "-c", &words]);
        self.children.push(child.spawn().expect("a shell"));
    }

    /// Half of them by each way to ask.
    fn shells(&mut self, name: &str, count: u32, times: u32) {
        for number in 0..count {
            let command = ["systemctl reload web", "procroll reload web"][number as usize % 2];
            self.shell(&format!("{name}{number}"), times, command);
        }
    }

    fn signals(&mut self, count: u32) {
        let hup = format!("for count in $(seq {count}); do kill -HUP $0; done");
        let procroll = self.machine.show("web", "MainPID");
        self.children.push(self.machine.command(&["sh", "-c", &hup, &procroll]).spawn().expect("a shell"));
    }

    fn wait(&mut self) {
        for mut child in self.children.drain(..) {
            child.wait().expect("its end");
        }
    }

    /// Waits until one generation serves and nothing is under way, and gives it.
    fn rest(&self) -> String {
        let machine = self.machine;
        machine.wait_for("one to serve", || {
            let units = machine.units("web@*");
            let serves = machine.show("web", "StatusText").ends_with(" serves");
            let [unit] = units.as_slice() else { return None };
            (serves && machine.show("web", "SubState") == "running").then(|| unit.clone())
        })
    }

    fn descriptors(&self) -> String {
        self.machine.ok("ls /proc/$(systemctl show --property=MainPID --value web)/fd | wc --lines")
    }
}

fn each_of_a_crowd_is_told_the_truth(machine: &Machine) {
    let mut crowd = Crowd::start(machine);
    let (pid, descriptors) = (machine.show("web", "MainPID"), crowd.descriptors());
    crowd.shells("many", 20, 5);
    for number in 0..6 {
        crowd.signals(50);
        crowd.change(number % 3 != 1);
        machine.ok(&format!("sh /usr/bin/crowd changer{number} 1 systemctl reload web"));
    }
    crowd.wait();

    // Of the last configuration all are told the same.
    crowd.change(false);
    crowd.shells("late", 10, 1);
    crowd.wait();
    crowd.change(true);
    crowd.shells("last", 10, 1);
    crowd.wait();
    crowd.rest();

    // A signal in the middle of a roll is a roll of its own, and has what is new since that one began.
    let begun = |config: u32| machine.read("/run/story").matches(&format!(" {config}\n")).count();
    let before = begun(crowd.config);
    machine.ok("touch /run/hold");
    crowd.signals(1);
    machine.wait_for("a roll", || (begun(crowd.config) > before).then_some(()));
    crowd.change(true);
    crowd.signals(1);
    crowd.wait();
    machine.ok("rm /run/hold");
    let last = crowd.rest();
    let environment = machine.show(&last, "Environment");
    assert_eq!(environment, format!("CONFIG={} WORKS=yes", crowd.config));
    let story = machine.read("/run/story");
    check(&story, crowd.config);
    assert_eq!(machine.show("web", "MainPID"), pid);
    machine.wait_for("all descriptors to be closed", || (crowd.descriptors() == descriptors).then_some(()));
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_in_a_crowd_is_a_stop(machine: &Machine) {
    let mut crowd = Crowd::start(machine);
    crowd.shells("many", 10, 10);
    crowd.signals(100);
    machine.wait_for("the crowd", || machine.read("/run/story").contains("start 3 ").then_some(()));
    crowd.signals(100);
    // The next reload may cancel the job, which systemctl says, before it has begun or after.
    machine.wait_for("the stop", || {
        machine.run("systemctl stop web");
        (machine.show("web", "ActiveState") == "inactive").then_some(())
    });
    crowd.note("stopped");
    crowd.wait();
    let story = machine.read("/run/story");
    let (before, after) = story.split_once("stopped\n").expect("a note");
    assert!(!after.contains("start "), "{story}");
    // Who was told that it went well may note that late, but of a roll before the stop.
    let well = after.lines().filter_map(|line| line.strip_prefix("told ")?.strip_suffix(" yes"));
    for asker in well {
        let since = before.split_once(&format!("asked {asker}\n")).map(|(_, since)| since);
        assert!(since.is_some_and(|since| since.contains("ready ")), "{asker}\n{story}");
    }
    assert_eq!(machine.show("web", "ActiveState"), "inactive");
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);
}

/// What the story has told until now.
#[derive(Default)]
struct Told<'a> {
    candidate: Option<u32>,
    ready: Vec<(u32, u32)>,
    stopping: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    /// Whether each configuration works.
    works: BTreeMap<u32, bool>,
    /// The configuration that a generation begun now would have, and the one that is being installed.
    config: u32,
    installing: Option<u32>,
    starts: u32,
    asked: BTreeMap<&'a str, Asked>,
}

/// Somebody waits.
struct Asked {
    /// What configurations there have been since.
    oldest: u32,
    starts: u32,
    /// One of them was half installed.
    unclear: bool,
}

fn check(story: &str, last: u32) {
    let mut told = Told::default();
    let (mut yes, mut no) = (0, 0);
    for (number, line) in story.lines().enumerate() {
        let told_so_far = || story.lines().take(number + 1).collect::<Vec<_>>().join("\n");
        let hold = |holds: bool, what: &str| assert!(holds, "{what}: {line}\n{}", told_so_far());
        let words: Vec<_> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u32>().expect("a number");
        match words[0] {
            "start" => {
                hold(told.candidate.is_none(), "rolls overlap");
                told.candidate = Some(number(1));
                told.starts += 1;
            }
            "broke" => told.candidate = None,
            "ready" => {
                told.candidate = None;
                told.ready.push((number(1), number(2)));
            }
            "term" => {
                let serves = told.ready.iter().any(|(one, _)| *one > number(1) && !told.stopping.contains(one));
                hold(serves, "nobody serves any more");
                hold(told.stopping.insert(number(1)), "it was stopped already");
                hold(told.stopping.len() - told.ended.len() <= MOST, "too many are stopping");
            }
            "end" => drop(told.ended.insert(number(1))),
            "change" => {
                told.works.insert(number(1), words[2] == "true");
                told.installing = Some(number(1));
                told.asked.values_mut().for_each(|asked| asked.unclear = true);
            }
            "changed" => {
                told.installing = None;
                told.config = number(1);
            }
            "asked" => {
                let asked = Asked { oldest: told.config, starts: told.starts, unclear: told.installing.is_some() };
                told.asked.insert(words[1], asked);
            }
            "told" => {
                let asked = told.asked.remove(words[1]).expect("somebody who asked");
                let newest = told.installing.unwrap_or(told.config);
                let mut since = (asked.oldest..=newest).map(|config| told.works[&config]);
                if words[2] == "yes" {
                    yes += 1;
                    hold(told.starts > asked.starts, "there was a roll");
                    let serves = told.ready.last().expect("one that serves").1;
                    hold(serves >= asked.oldest, "an old configuration serves");
                    hold(since.any(|works| works), "none of them works");
                } else {
                    no += 1;
                    hold(asked.unclear || since.any(|works| !works), "all of them work");
                }
            }
            _ => panic!("{line}"),
        }
    }
    assert!(told.asked.is_empty());
    assert_eq!(told.ready.last().map(|(_, config)| *config), Some(last), "{story}");
    assert!(yes > 20 && no >= 10, "{yes} {no}");
    println!("{} rolls, {yes} were told that it went well, {no} that it didn't", told.starts);
}
