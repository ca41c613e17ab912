//! Two switches side by side, Debian's Open vSwitch and ours, both on dummy ports, that are told the same and must say the
//! same.

use crate::reference::Reference;
use crate::text::{difference, sorted, sorted_items, steady};
use crate::{Ran, Switch, Tools};
use std::fmt::Write as _;

/// Both, and what they have disagreed on so far.
#[derive(Debug)]
pub struct Pair {
    /// Debian's.
    pub real: Reference,
    /// Ours.
    pub ours: Switch,
    differences: String,
}

/// How two outputs are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Line by line.
    Lines,
    /// As a set of lines: OVS lists flows in the order of a hash table.
    Set,
    /// As a set of items of several lines.
    Items,
    /// Only whether it worked.
    Success,
}

impl Pair {
    /// Starts both.
    pub fn start() -> Pair {
        let real = Reference::start();
        let ours = Switch::start(&["--enable-dummy=override", "--disable-system", "--disable-system-route"]);
        Pair { real, ours, differences: String::new() }
    }

    /// Runs a line on both, where it must succeed.
    pub fn both(&self, line: &str) {
        self.real.run(line);
        self.ours.run(line);
    }

    /// Makes bridge `br0` with dummy ports 1 to `ports` called p1, p2, …
    pub fn bridge(&self, ports: u16) {
        let mut line =
            "ovs-vsctl add-br br0 -- set bridge br0 other_config:hwaddr=02:00:00:00:00:fe".to_owned();
        line.push_str(" other_config:datapath-id=00000000000000fe");
        for n in 1..=ports {
            let _ = write!(line, " -- add-port br0 p{n} -- set Interface p{n} type=dummy ofport_request={n}");
        }
        self.both(&line);
    }

    /// Runs a line on both and compares exit status, standard output and standard error. `PAIR` in the line is each one's
    /// run directory.
    pub fn same(&mut self, line: &str, compare: Compare) {
        let [theirs, ours] = [self.on(&self.real, line), self.on(&self.ours, line)];
        self.compare(line, theirs, ours, compare);
    }

    fn on(&self, daemon: &dyn Tools, line: &str) -> Ran {
        let dir = daemon.dir().display().to_string();
        let mut ran = daemon.try_run(&line.replace("PAIR", &dir));
        ran.stdout = ran.stdout.replace(&dir, "PAIR");
        ran.stderr = ran.stderr.replace(&dir, "PAIR");
        ran
    }

    /// Compares two outcomes of what `line` names.
    pub fn compare(&mut self, line: &str, theirs: Ran, ours: Ran, compare: Compare) {
        let text = |ran: &Ran| match compare {
            Compare::Success => String::new(),
            Compare::Lines => steady(&format!("{}{}", ran.stdout, ran.stderr)),
            Compare::Set => sorted(&format!("{}{}", ran.stdout, ran.stderr)),
            Compare::Items => sorted_items(&format!("{}{}", ran.stdout, ran.stderr)),
        };
        let (a, b) = (text(&theirs), text(&ours));
        if theirs.code != ours.code {
            let _ = writeln!(
                self.differences,
                "{line}: exit status {} of OVS, {} of ours",
                theirs.code, ours.code
            );
        }
        if a != b {
            let _ = writeln!(self.differences, "{line}:\n{}", difference(&a, &b).trim_end());
        } else if theirs.code != ours.code {
            let _ = writeln!(
                self.differences,
                "  OVS:  {}\n  ours: {}",
                theirs.stderr.trim(),
                ours.stderr.trim()
            );
        }
    }

    /// Notes a disagreement found by other means.
    pub fn note(&mut self, what: &str, theirs: &str, ours: &str) {
        if theirs != ours {
            let _ = writeln!(self.differences, "{what}:\n{}", difference(theirs, ours).trim_end());
        }
    }

    /// Panics with every disagreement, if there was one.
    pub fn finish(self) {
        assert!(self.differences.is_empty(), "Open vSwitch and we differ:\n{}", self.differences);
    }
}
