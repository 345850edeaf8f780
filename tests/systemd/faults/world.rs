//! The machine with its service, and what is seen of it from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::kinds::WORDS;
use super::payloads::{GOOD, Payload, TROUBLED};
use crate::SOCKET;
use crate::machine::Machine;

/// How long anything may take. Far longer than it takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// The machine.
pub struct World<'a> {
    pub machine: &'a Machine,
    pub shell: Shell,
    /// What the unit file has.
    pub payload: &'static Payload,
    pub mark: u32,
    /// The highest mark so far.
    last: u32,
    descriptors_at_rest: Option<usize>,
}

/// The one generation that serves, and procroll, while nothing is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub unit: String,
    pub pid: u32,
    /// What its unit file had.
    pub mark: u32,
    pub procroll: u32,
    /// Generations that are over, and stay to be looked at.
    pub failed: Vec<String>,
    pub descriptors: usize,
    /// In KiB.
    pub memory: u64,
    pub memory_of_pid_1: u64,
}

impl Seen {
    /// The number of the generation.
    pub fn number(&self) -> u32 {
        let number = self.unit.trim_start_matches("web@").trim_end_matches(".service");
        number.parse().expect("a generation")
    }

    /// Whether the same process serves, with the same unit file.
    pub fn is_served_as(&self, other: &Self) -> bool {
        (&self.unit, self.pid, self.mark) == (&other.unit, other.pid, other.mark)
    }
}

impl<'a> World<'a> {
    /// A machine in which the service is not started yet.
    pub fn new(machine: &'a Machine) -> Self {
        // These are restarted more often than systemd would put up with.
        machine.write("/etc/systemd/system/web.socket", &format!("{SOCKET}TriggerLimitIntervalSec=0\n"));
        machine.write("/srv/app/troubled.py", TROUBLED);
        for bus in ["dbus.service.d", "dbus-broker.service.d", "dbus.socket.d"] {
            machine.write(&format!("/etc/systemd/system/{bus}/limit.conf"), "[Unit]\nStartLimitIntervalSec=0\n");
        }
        machine.install("/usr/bin/crowd", include_str!("crowd.py"));
        let mut shell = Shell::open(machine);
        shell.run(WORDS);
        Self { machine, shell, payload: &GOOD[0], mark: 0, last: 0, descriptors_at_rest: None }
    }

    /// Another unit file; systemd has read it.
    pub fn write(&mut self, payload: &'static Payload) {
        self.last += 1;
        self.write_again(payload, self.last);
    }

    /// One that there was before. Gives what scripts that still run have said meanwhile.
    pub fn write_again(&mut self, payload: &'static Payload, mark: u32) -> Vec<String> {
        (self.payload, self.mark) = (payload, mark);
        self.machine.write("/etc/systemd/system/web.service", &payload.unit(mark));
        self.shell.run("systemctl daemon-reload").expect("a daemon-reload that ends")
    }

    /// Starts the service, and looks at what a procroll at rest takes.
    pub fn start(&mut self) -> Result<Seen, String> {
        self.write(&GOOD[0]);
        self.shell.run("systemctl start web.socket web.service; sleep 1");
        let first = self.settled()?;
        self.descriptors_at_rest = Some(first.descriptors);
        Ok(first)
    }

    /// Waits until nothing is under way and one generation serves.
    pub fn settled(&mut self) -> Result<Seen, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            let why = match self.look() {
                Ok(seen) => return Ok(seen),
                Err(why) => why,
            };
            if Instant::now() > deadline {
                return Err(format!("it never came to rest with one generation that serves: {why}"));
            }
            // Each look is work for the machine.
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(200));
        }
    }

    /// What is seen now, or why it is not at rest.
    fn look(&mut self) -> Result<Seen, String> {
        let mut units = self.units();
        let others = units.split_off(units.len().min(1));
        let (dead, alive): (Vec<_>, Vec<_>) = others.into_iter().partition(|unit| unit.is_over() || unit.has_exited());
        let ([wrapper], [unit]) = (&units[..], &alive[..]) else { return Err(format!("{units:#?} {alive:#?}")) };
        let rest = wrapper.status.strip_prefix(&format!("{} (main PID {}) serves", unit.id, unit.pid));
        let (gap, rest) = rest.map_or(("?", ""), |rest| rest.split_at(rest.find(';').unwrap_or(rest.len())));
        let serves = gap.is_empty() || gap.starts_with(", after a gap of ");
        let at_rest = serves && (rest.is_empty() || rest.starts_with("; last roll failed"));
        if !(at_rest && wrapper.runs() && unit.runs()) {
            return Err(format!("{wrapper:#?} {unit:#?}"));
        }
        let process = self.process(wrapper.pid).ok_or("procroll is gone")?;
        if process.has_something_to_do {
            return Err("procroll has something to do".to_owned());
        }
        if self.descriptors_at_rest.is_some_and(|most| process.descriptors > most) {
            return Err(format!("procroll does not come to rest: it has {} descriptors", process.descriptors));
        }
        // The one before goes with the next roll, and later than that where there was no bus: procroll asks ever less often.
        if dead.len() > 1 {
            return Err(format!("more than one that failed is listed: {dead:#?}"));
        }
        let environment = std::fs::read(self.machine.path(&format!("/proc/{}/environ", unit.pid))).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let mark = environment.split('\0').find_map(|one| one.strip_prefix("GREETING=mark-")?.parse().ok());
        let mark = mark.ok_or("the process that served is gone")?;
        if mark > self.mark {
            return Err("what does not work serves, since nothing else could, and ends soon".to_owned());
        }
        Ok(Seen {
            unit: unit.id.clone(),
            pid: unit.pid,
            mark,
            procroll: wrapper.pid,
            failed: dead.into_iter().map(|unit| unit.id).collect(),
            descriptors: process.descriptors,
            memory: process.memory,
            memory_of_pid_1: self.process(1).map_or(0, |process| process.memory),
        })
    }

    /// The wrapper, and all generations that systemd has loaded.
    pub fn units(&mut self) -> Vec<Unit> {
        let properties = "Id,ActiveState,SubState,Job,MainPID,StatusText";
        let said = self.shell.run(&format!("systemctl show --property={properties} web.service 'web@*'"));
        let said = said.expect("a systemctl that ends");
        said.split(String::is_empty).filter(|lines| !lines.is_empty()).map(Unit::from).collect()
    }

    /// The same, as soon as all of them are over, or what they still are when each has had its time to stop.
    pub fn units_when_over(&mut self) -> Vec<Unit> {
        let deadline = Instant::now() + PATIENCE / 3;
        loop {
            let units = self.units();
            if Instant::now() > deadline || units.iter().all(Unit::is_over) {
                return units;
            }
        }
    }

    /// What lies in a folder of the machine; nothing if there is none.
    pub fn folder(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.machine.path(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The same, as soon as it is as it should be, or what it still is a good while later.
    pub fn folder_when(&self, path: &str, fine: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE / 10;
        loop {
            let names = self.folder(path);
            if fine(&names) || Instant::now() > deadline {
                return names;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let folder = self.machine.path(&format!("/proc/{pid}"));
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let pending = |name| value(name).bytes().any(|digit| digit != b'0');
        Some(Process {
            descriptors: std::fs::read_dir(folder.join("fd")).ok()?.count(),
            memory: value("VmRSS:").trim_end_matches(" kB").parse().ok()?,
            has_something_to_do: !value("State:").starts_with('S') || pending("SigPnd:") || pending("ShdPnd:"),
        })
    }

    /// The last lines of the journal, for a run that failed.
    pub fn story(&self) -> String {
        self.machine.story()
    }
}

/// A unit, as systemctl shows it.
#[derive(Debug)]
pub struct Unit {
    pub id: String,
    /// ActiveState and SubState.
    pub state: String,
    job: String,
    pid: u32,
    status: String,
}

impl Unit {
    fn from(lines: &[String]) -> Self {
        let value = |name: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Self {
            id: value("Id"),
            state: value("ActiveState") + " " + &value("SubState"),
            job: value("Job"),
            pid: value("MainPID").parse().unwrap_or(0),
            status: value("StatusText"),
        }
    }

    fn runs(&self) -> bool {
        self.state == "active running" && self.job.is_empty()
    }

    /// As a candidate stays that has ended well, but too early.
    fn has_exited(&self) -> bool {
        self.state == "active exited" && self.job.is_empty()
    }

    pub fn is_over(&self) -> bool {
        ["failed failed", "inactive dead"].contains(&self.state.as_str()) && self.job.is_empty()
    }
}

struct Process {
    descriptors: usize,
    memory: u64,
    /// It runs, is stopped, or has signals that it has not heard.
    has_something_to_do: bool,
}

/// A shell in the machine, which is told one script after the other.
pub struct Shell {
    process: Child,
    said: Receiver<String>,
}

/// What it says when a script has ended.
const DONE: &str = "-- done --";

impl Shell {
    fn open(machine: &Machine) -> Self {
        let mut process = machine.spawn(&["sh"]);
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, said }
    }

    /// What the script says; none if it does not end.
    pub fn run(&mut self, script: &str) -> Option<Vec<String>> {
        let input = self.process.stdin.as_mut().expect("its input");
        writeln!(input, "{{\n{script}\n}} 2>&1 </dev/null; echo '{DONE}'").expect("a shell");
        let mut said = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line == DONE => return Some(said),
                Ok(line) => said.push(line),
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
