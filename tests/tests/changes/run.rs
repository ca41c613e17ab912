//! Steps, carried out by Open vSwitch and by ours, and what can be seen after each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use tests::pair::Pair;
use tests::text::{difference, sorted, sorted_items, steady};
use tests::unixctl::Control;
use tests::{Ran, Tools, frames, wait_for};

/// How often both are asked again before they are said to differ. Open vSwitch answers before its datapath follows, and
/// both let time-outs pass on a thread that is not the one that answers.
const LOOKS_MAX: usize = 300;

/// Every port that there may be, by name.
pub const PORTS: [&str; 9] = ["p1", "p2", "p3", "p4", "p5", "p6", "q1", "q2", "q3"];

/// The bridges: what is tried is tried on the first, the second stands behind a pair of patch ports.
pub const BRIDGES: [&str; 2] = ["br0", "br1"];

/// Something that both are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A line for one of the ovs-* tools.
    pub line: String,
    /// What the tool reads from its standard input.
    pub input: String,
}

impl Step {
    /// One that reads nothing.
    pub fn new(line: impl Into<String>) -> Step {
        Step { line: line.into(), input: String::new() }
    }
}

/// As it could be typed.
pub fn script(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        let _ = match step.input.as_str() {
            "" => writeln!(out, "{}", step.line),
            input => writeln!(out, "{} <<END\n{}\nEND", step.line, input.trim_end()),
        };
    }
    out
}

/// Why a step came to no end.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// What the two say is not the same.
    Differ(String),
    /// Open vSwitch ended, so there is nobody to compare with.
    OracleDied,
}

/// One of the two.
struct Side {
    control: Control,
    /// Bytes of each port's capture that were looked at.
    seen: BTreeMap<&'static str, usize>,
}

/// Both, with time stopped.
pub struct Both {
    pair: Pair,
    sides: [Side; 2],
}

impl Both {
    /// Starts both.
    pub fn start() -> Both {
        let pair = Pair::start();
        let sides = [&pair.real as &dyn Tools, &pair.ours]
            .map(|daemon| Side { control: Control::open(daemon), seen: BTreeMap::new() });
        let mut both = Both { pair, sides };
        both.pair.both("ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2");
        let _ = both.appctl("time/stop");
        both
    }

    fn daemons(&self) -> [&dyn Tools; 2] {
        [&self.pair.real, &self.pair.ours]
    }

    /// Replaces all bridges by those that a sequence begins with: `br0` with p1 to p4 and a patch port, `br1` with q1, q2
    /// and its peer.
    pub fn reset(&mut self) {
        for daemon in self.daemons() {
            daemon.run("ovs-vsctl --if-exists del-br br0 -- --if-exists del-br br1");
            for port in PORTS {
                let _ = std::fs::remove_file(daemon.dir().join(format!("{port}.pcap")));
            }
            let mut line = "ovs-vsctl".to_owned();
            for (n, bridge) in BRIDGES.iter().enumerate() {
                let _ = write!(line, " -- add-br {bridge} -- set bridge {bridge}");
                let _ = write!(line, " other_config:hwaddr=02:00:00:00:0{n}:fe");
                // OVS tells the age of static entries wrongly when this changes, and it is odd as other time-outs are.
                line.push_str(" other_config:mac-aging-time=301");
                let _ = write!(line, " other_config:datapath-id=00000000000000f{n}");
            }
            for (n, port) in ["p1", "p2", "p3", "p4"].iter().enumerate() {
                let _ = write!(line, "{}", add_port("br0", port, n + 1));
            }
            for (n, port) in ["q1", "q2"].iter().enumerate() {
                let _ = write!(line, "{}", add_port("br1", port, n + 1));
            }
            line.push_str(
                " -- add-port br0 x1 -- set interface x1 type=patch options:peer=y1 ofport_request=8",
            );
            line.push_str(
                " -- add-port br1 y1 -- set interface y1 type=patch options:peer=x1 ofport_request=8",
            );
            let line = line.replace("PAIR", &daemon.dir().display().to_string());
            daemon.run(&line);
        }
        for side in &mut self.sides {
            side.seen.clear();
        }
    }

    /// Carries steps out one after the other; at the first after which the two differ, says its number and how.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), (usize, Trouble)> {
        self.reset();
        for (n, step) in steps.iter().enumerate() {
            self.step(step).map_err(|trouble| (n, trouble))?;
        }
        self.whole(steps).map_err(|trouble| (steps.len(), trouble))
    }

    fn step(&mut self, step: &Step) -> Result<(), Trouble> {
        let [theirs, ours] = self.tell(step)?;
        let frames = step.line.contains("/receive") || step.line.contains("packet-out");
        if frames {
            // A cached flow of theirs may be behind what was learned since; so they keep none. Ours must not matter.
            self.sides[0].control.ask("revalidator/purge", &[]).map_err(|_| Trouble::OracleDied)?;
            self.sides[0].control.answer().map_err(|_| Trouble::OracleDied)?;
        }
        if theirs.code != ours.code || complaint(step, &theirs) != complaint(step, &ours) {
            let text = |ran: &Ran| format!("{} {}{}", ran.code, ran.stdout.trim(), ran.stderr.trim());
            let (theirs, ours) = (text(&theirs), text(&ours));
            return Err(Trouble::Differ(format!("answers\n  OVS:  {theirs}\n  ours: {ours}\n")));
        }
        let mut sent = [String::new(), String::new()];
        let mut different = String::new();
        for look in 0..LOOKS_MAX {
            if look > 0 {
                nap();
            }
            for (n, text) in sent.iter_mut().enumerate() {
                text.push_str(&self.new_frames(n));
            }
            different = note("frames sent", &sorted(&sent[0]), &sorted(&sent[1]));
            for bridge in BRIDGES {
                for command in ["bridge/dump-flows", "fdb/show"] {
                    if !different.is_empty() {
                        break;
                    }
                    let [theirs, ours] = self.appctl(&format!("{command} {bridge}"))?;
                    different = note(&format!("{command} {bridge}"), &visible(&theirs), &visible(&ours));
                }
            }
            if different.is_empty() {
                return Ok(());
            }
        }
        Err(Trouble::Differ(different))
    }

    /// Everything that takes a program to ask for. Not counters of ports that were renumbered, as dummies of OVS then begin anew
    /// and ours go on, and not of bonds, for whose members OVS makes frames up.
    fn whole(&mut self, steps: &[Step]) -> Result<(), Trouble> {
        let uncounted = |port: &str| {
            steps.iter().any(|s| s.line.contains(&format!("{port} ")) && s.line.contains("ofport_request"))
        };
        let bond = steps.iter().any(|s| s.line.contains("bond-primary"));
        // What a modified group has counted goes on, as OpenFlow 1.5.1 §6.5 has it; OVS begins anew.
        let modified = |s: &Step| {
            s.line.contains("mod-group") || s.line.contains("group modify") || s.line.contains("bundle")
        };
        let begun_anew = steps.iter().any(modified);
        let items = ["dump-ports", "dump-ports-desc"];
        let mut different;
        for bridge in BRIDGES {
            for question in [
                "-O OpenFlow13 dump-flows",
                "-O OpenFlow15 dump-groups",
                "-O OpenFlow13 dump-group-stats",
                "-O OpenFlow13 dump-meters",
                "-O OpenFlow13 meter-stats",
                "--names dump-ports",
                "dump-ports-desc",
            ] {
                if bond && question.ends_with("dump-ports") {
                    continue;
                }
                let step = Step::new(format!("ovs-ofctl {question} {bridge}"));
                different = String::new();
                for look in 0..LOOKS_MAX {
                    if look > 0 {
                        nap();
                    }
                    let [theirs, ours] = self.tell(&step)?;
                    let text = |ran: &Ran| {
                        let text = without_ports(&format!("{}{}", ran.stdout, ran.stderr), uncounted);
                        if begun_anew && question.ends_with("dump-group-stats") {
                            sorted(&without_counts_of_groups(&text))
                        } else if items.iter().any(|i| question.ends_with(i)) {
                            sorted_items(&text)
                        } else {
                            sorted(&text)
                        }
                    };
                    different = note(&step.line, &text(&theirs), &text(&ours));
                    if different.is_empty() {
                        break;
                    }
                }
                if !different.is_empty() {
                    return Err(Trouble::Differ(different));
                }
            }
        }
        // An error of a patch port without peer stays until it has one; OVS forgets it with the next change.
        let columns = "ovs-vsctl --columns=name,ofport,link_state,admin_state list interface";
        let [theirs, ours] = self.tell(&Step::new(columns))?;
        let rows = |ran: &Ran| {
            let mut rows: Vec<String> = ran.stdout.split("\n\n").map(|r| r.trim().to_owned()).collect();
            rows.sort();
            rows.join("\n\n")
        };
        match note(columns, &rows(&theirs), &rows(&ours)) {
            none if none.is_empty() => Ok(()),
            different => Err(Trouble::Differ(different)),
        }
    }

    /// Tells both at once.
    fn tell(&mut self, step: &Step) -> Result<[Ran; 2], Trouble> {
        match step.line.strip_prefix("ovs-appctl ") {
            Some(line) => self.appctl(line),
            None => {
                let children: Vec<Child> = self.daemons().iter().map(|daemon| spawn(*daemon, step)).collect();
                let mut ran = children.into_iter().map(end);
                let both = [ran.next(), ran.next()].map(|r| r.expect("two"));
                if both[0].stderr.contains("Connection refused") || both[0].code == 124 {
                    return Err(Trouble::OracleDied);
                }
                let dirs = self.daemons().map(|daemon| daemon.dir().display().to_string());
                let mut n = 0;
                Ok(both.map(|mut ran| {
                    ran.stderr = ran.stderr.replace(&dirs[n], "PAIR");
                    n += 1;
                    ran
                }))
            }
        }
    }

    fn appctl(&mut self, line: &str) -> Result<[Ran; 2], Trouble> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [theirs, ours] = &mut self.sides;
        let ask = |side: &mut Side| side.control.ask(words[0], &words[1..]);
        ask(theirs).map_err(|_| Trouble::OracleDied)?;
        ask(ours).unwrap_or_else(|e| panic!("our daemon has ended: {line}: {e}"));
        let first = theirs.control.answer().map_err(|_| Trouble::OracleDied)?;
        let second = ours.control.answer().unwrap_or_else(|e| panic!("our daemon has ended: {line}: {e}"));
        Ok([first, second])
    }

    /// The frames that ports have sent since the last look, one a line.
    fn new_frames(&mut self, n: usize) -> String {
        let dir = self.daemons()[n].dir().to_owned();
        let mut out = String::new();
        for port in PORTS {
            let file = dir.join(format!("{port}.pcap"));
            let length = std::fs::metadata(&file).map_or(0, |m| m.len() as usize);
            let seen = self.sides[n].seen.entry(port).or_default();
            if length < *seen {
                // The port was made anew.
                *seen = 0;
            }
            if length > *seen && length >= PCAP_HEADER {
                let all = frames::read_pcap(&file);
                let mut at = PCAP_HEADER;
                for frame in all {
                    if at >= *seen && !is_made_up(&frame) {
                        let _ = writeln!(out, "{port}: {}", frames::hex(&frame));
                    }
                    at += PCAP_RECORD + frame.len();
                }
                *seen = at;
            }
        }
        out
    }
}

/// Bytes before the first frame of a capture, and before each.
const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;

/// What adds a dummy port that writes what it sends.
pub fn add_port(bridge: &str, port: &str, number: usize) -> String {
    format!(
        " -- add-port {bridge} {port} -- set interface {port} type=dummy ofport_request={number} options:tx_pcap=PAIR/{port}.pcap"
    )
}

/// A short nap between looks at a condition, not a wait for time to make it true.
fn nap() {
    let mut looked = false;
    wait_for("the next look", || std::mem::replace(&mut looked, true));
}

fn spawn(daemon: &dyn Tools, step: &Step) -> Child {
    let line = step.line.replace("PAIR", &daemon.dir().display().to_string());
    let (program, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let mut command = daemon.tool(program, rest);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that dislikes its arguments does not read.
        let _ = stdin.write_all(step.input.as_bytes());
    }
    child
}

fn end(mut child: Child) -> Ran {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let _ = child.stdout.take().map(|mut s| s.read_to_string(&mut stdout));
    let _ = child.stderr.take().map(|mut s| s.read_to_string(&mut stderr));
    let code = child.wait().ok().and_then(|s| s.code()).unwrap_or(-1);
    Ran { code, stdout, stderr }
}

/// What an answer says, without the message that an error quotes, of which OVS quotes more than the standard's 64 bytes, and
/// without what ovs-appctl is told is wrong, which OVS's own text blames on the software.
fn complaint(step: &Step, ran: &Ran) -> String {
    if step.line.starts_with("ovs-appctl") {
        return ran.stdout.clone();
    }
    let mut all = steady(&format!("{}\n{}", ran.stdout, ran.stderr));
    if let Some(at) = all.find("OFPT_ERROR") {
        let end = all[at..].find('\n').map_or(all.len(), |n| at + n);
        all.truncate(end);
    }
    let lines = all.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether OVS has made the frame up to tell others where stations are since a bond has changed: RARP (EtherType 0x8035).
fn is_made_up(frame: &[u8]) -> bool {
    let rarp = |at: usize| frame.get(at..at + 2) == Some(&[0x80, 0x35]);
    rarp(12) || frame.get(12..14) == Some(&[0x81, 0x00]) && rarp(16)
}

/// Counters without those of some ports.
fn without_ports(text: &str, which: impl Fn(&str) -> bool) -> String {
    let mut skips = false;
    let lines = text.lines().filter(|line| {
        match line.trim_start().strip_prefix("port ").and_then(|rest| rest.split_once(": rx")) {
            Some((port, _)) => skips = which(port.trim().trim_matches('"')),
            None if line.trim_start().starts_with("tx pkts") => {}
            None => skips = false,
        }
        !skips
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Group statistics with those of buckets only.
fn without_counts_of_groups(text: &str) -> String {
    let line = |line: &str| match (line.split_once(",packet_count="), line.split_once(",bucket0")) {
        (Some((group, _)), Some((_, buckets))) => format!("{group},bucket0{buckets}"),
        (Some((group, _)), None) => group.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Without OVS's own flows in the table that it keeps for itself, and with one word for what OpenFlow 1.0 calls otherwise than later
/// versions.
fn visible(ran: &Ran) -> String {
    let lines = ran.stdout.lines().filter(|line| !line.starts_with("table_id=254"));
    sorted(&format!("{}{}", lines.collect::<Vec<_>>().join("\n"), ran.stderr))
        .replace("strip_vlan", "pop_vlan")
}

/// What to say if two texts differ; nothing if they do not.
fn note(what: &str, theirs: &str, ours: &str) -> String {
    if theirs == ours { String::new() } else { format!("{what}\n{}", difference(theirs, ours)) }
}
