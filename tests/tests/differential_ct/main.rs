//! Connection tracking of Open vSwitch and of ours: the same rules, packet after packet, and after each one what came out
//! of which port, with the `ct_state` that rules saw, and the table of connections must be the same.
//!
//! What Open vSwitch 3.1 does wrong, or leaves to chance, is not asked: SCTP without ports, ports out of a range by a hash,
//! exhausted ranges that let packets through untranslated, fragments that overlap, a SYN in the reply direction that makes
//! no reply.

mod hosts;
mod nat;
mod random;
mod states;

use std::fmt::Write as _;

use tests::pair::Pair;
use tests::reference::Reference;
use tests::{Tools, frames};

/// Ports p1 to p4 of the bridge.
const PORTS: usize = 4;

/// Pauses are no whole seconds: ours tells time in ticks of 17 ms, so a time-out that ends on a second could be told as
/// either.
const PAUSE_EXTRA_MS: u64 = 137;

/// Writes what rules see as `ct_state` into the source address of a frame that is sent.
macro_rules! state {
    () => {
        "move:NXM_NX_CT_STATE[0..15]->NXM_OF_ETH_SRC[0..15]"
    };
}
pub(crate) use state;

/// Track everything; new connections from port 1 are committed; 1 talks to 2, and each frame tells its state.
pub const PLAIN: &[&str] = &[
    "priority=10,ip,actions=ct(table=1)",
    "priority=10,ipv6,actions=ct(table=1)",
    "priority=0,actions=drop",
    concat!("table=1,priority=10,ip,ct_state=+new,in_port=1,actions=", state!(), ",ct(commit),output:2"),
    concat!("table=1,priority=10,ipv6,ct_state=+new,in_port=1,actions=", state!(), ",ct(commit),output:2"),
    concat!("table=1,priority=5,in_port=1,actions=", state!(), ",output:2"),
    concat!("table=1,priority=5,in_port=2,actions=", state!(), ",output:1"),
];

/// Something that happens to both switches.
pub enum Step {
    /// Frames arrive at a port, all at once.
    Frames(u8, Vec<Vec<u8>>),
    /// A line is run; what it prints is compared line by line, sorted, and so is whether it worked.
    Run(&'static str),
    /// So many seconds pass, and [`PAUSE_EXTRA_MS`].
    Wait(u64),
}

/// A frame arrives at a port.
pub fn at(port: u8, frame: Vec<u8>) -> Step {
    Step::Frames(port, vec![frame])
}

/// Rules, and what happens.
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// Rules, one an item, in ovs-ofctl's syntax.
    pub flows: &'static [&'static str],
    /// What happens, in this order.
    pub steps: fn() -> Vec<Step>,
    /// Whether the table is compared after each step, with time-outs.
    pub tells_table: bool,
    /// Ports and states that frames must have left with at least once, as `2 new+trk`, so that the scenario says something.
    pub says: &'static [&'static str],
}

/// One of the two while a scenario runs.
struct Run<'a> {
    daemon: &'a dyn Tools,
    /// Frames seen of each port's file.
    seen: [usize; PORTS],
    /// `port state` of all frames that have left.
    said: Vec<String>,
}

impl<'a> Run<'a> {
    /// Makes the bridge on a fresh daemon. Ports of Open vSwitch drop what is longer than their MTU.
    fn begin(daemon: &'a dyn Tools, is_ours: bool) -> Run<'a> {
        let mut line =
            "ovs-vsctl add-br br0 -- set bridge br0 other_config:hwaddr=02:00:00:00:00:fe".to_owned();
        for n in 1..=PORTS {
            let file = daemon.dir().join(format!("p{n}.pcap"));
            let mtu = if is_ours { "" } else { "mtu_request=9000" };
            let _ = write!(
                line,
                " -- add-port br0 p{n} -- set Interface p{n} type=dummy ofport_request={n} {mtu} options:tx_pcap={}",
                file.display()
            );
        }
        daemon.run(&line);
        daemon.run("ovs-appctl time/stop");
        Run { daemon, seen: [0; PORTS], said: vec![] }
    }

    fn rules(&mut self, flows: &[&str]) {
        self.daemon.flows("br0", flows);
        // Open vSwitch lets its datapath follow new rules when it finds the time.
        self.daemon.run("ovs-appctl dpctl/del-flows");
        self.daemon.run("ovs-appctl dpctl/flush-conntrack");
    }

    /// Does a step and tells what could be seen.
    fn step(&mut self, step: &Step, tells_table: bool) -> String {
        let mut out = String::new();
        match step {
            Step::Frames(port, frames) => {
                let hex: Vec<String> = frames.iter().map(|f| frames::hex(f)).collect();
                self.daemon.run(&format!("ovs-appctl netdev-dummy/receive p{port} {}", hex.join(" ")));
            }
            Step::Run(line) => {
                let ran = self.daemon.try_run(line);
                let mut lines: Vec<&str> = ran.stdout.lines().chain(ran.stderr.lines()).collect();
                lines.sort_unstable();
                let _ = writeln!(out, "exit {}\n{}", ran.code, lines.join("\n"));
            }
            Step::Wait(seconds) => {
                let time = seconds * 1000 + PAUSE_EXTRA_MS;
                self.daemon.run(&format!("ovs-appctl time/warp {time} 1000"));
            }
        }
        // Asked in any case: the answer comes after the frames were handled.
        let table = self.daemon.run("ovs-appctl dpctl/dump-conntrack -s");
        for (port, frame) in self.sent() {
            self.said.push(format!("{port} {}", state_of(&frame)));
            let _ = writeln!(out, "p{port} {} {}", state_of(&frame), frames::hex(&frame));
        }
        if tells_table {
            let mut lines: Vec<&str> = table.lines().collect();
            lines.sort_unstable();
            let _ = writeln!(out, "{}", lines.join("\n"));
        }
        out
    }

    /// Frames that ports have sent since the last look.
    fn sent(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut out = vec![];
        for (n, seen) in (1..).zip(&mut self.seen) {
            let all = frames::read_pcap(&self.daemon.dir().join(format!("p{n}.pcap")));
            out.extend(all.iter().skip(*seen).map(|frame| (n, frame.clone())));
            *seen = all.len();
        }
        out
    }
}

/// The bits that [`state!`] wrote, in the words of ovs-fields(7).
fn state_of(frame: &[u8]) -> String {
    let bits = frame.get(10..12).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let names = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
    let set: Vec<&str> =
        names.iter().enumerate().filter(|(i, _)| bits >> i & 1 != 0).map(|(_, n)| *n).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("+") }
}

/// What a step is, for people.
fn told(step: &Step) -> String {
    match step {
        Step::Frames(port, frames) => {
            let lines: Vec<String> = frames.iter().map(|f| format!("p{port} < {}", frames::hex(f))).collect();
            lines.join("\n")
        }
        Step::Run(line) => (*line).to_owned(),
        Step::Wait(seconds) => format!("{seconds} s pass"),
    }
}

/// Runs a scenario on both and compares all that could be seen.
fn agree(scenario: &Scenario) {
    let mut pair = Pair::start();
    let mut differences = vec![];
    {
        let mut theirs = Run::begin(&pair.real, false);
        let mut ours = Run::begin(&pair.ours, true);
        theirs.rules(scenario.flows);
        ours.rules(scenario.flows);
        for (n, step) in (scenario.steps)().iter().enumerate() {
            let [a, b] = [theirs.step(step, scenario.tells_table), ours.step(step, scenario.tells_table)];
            if a != b {
                differences.push((format!("step {n}: {}", told(step)), a, b));
            }
        }
    }
    for (what, theirs, ours) in differences {
        pair.note(&what, &theirs, &ours);
    }
    pair.finish();
}

/// Every scenario has frames leave as its `says` has it, or it would compare nothing. What Open vSwitch does with each step
/// is printed if `TAPESTRY_TELL` is set.
#[test]
fn scenarios_say_something() {
    let tell = std::env::var_os("TAPESTRY_TELL").is_some();
    let real = Reference::start();
    let mut run = Run::begin(&real, false);
    let mut silent = String::new();
    for scenario in states::SCENARIOS.iter().chain(nat::SCENARIOS) {
        if tell {
            println!("\n### {}", scenario.name);
        }
        run.rules(scenario.flows);
        run.said.clear();
        for step in (scenario.steps)() {
            let seen = run.step(&step, scenario.tells_table);
            if tell {
                println!("{}\n{seen}", told(&step));
            }
        }
        for wanted in scenario.says {
            if !run.said.iter().any(|said| said == wanted) {
                let _ = writeln!(silent, "{}: nothing left as {wanted}, but {:?}", scenario.name, run.said);
            }
        }
    }
    assert!(silent.is_empty(), "{silent}");
}

/// A test for each scenario, and one that none is left out.
macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            let scenario = SCENARIOS.iter().find(|s| s.name == $name);
            crate::agree(scenario.unwrap_or_else(|| panic!("no scenario {}", $name)));
        })*

        #[test]
        fn every_scenario_is_run() {
            assert_eq!([$($name),*].len(), SCENARIOS.len());
        }
    };
}
pub(crate) use scenarios;
