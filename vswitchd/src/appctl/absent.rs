//! The commands of ovs-vswitchd(8) about what this switch does not have: answered as ovs-vswitchd answers where nothing of it is
//! configured, so that scripts which ask everything go on.

use super::{Answer, Command, command, first};
use crate::daemon::Daemon;

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("bfd/show", "[interface]", 0, 1, |_, a, _| none(a, "no such bfd object", "")),
    command("bond/list", "", 0, 0, |_, a, _| none(a, "", "bond\ttype\trecircID\tmembers\n")),
    command("bond/show", "[port]", 0, 1, |_, a, _| none(a, "no such bond", "")),
    command("cfm/show", "[interface]", 0, 1, |_, a, _| none(a, "no such CFM object", "")),
    command("lacp/show", "[port]", 0, 1, |_, a, _| none(a, "no such lacp object", "")),
    command("lacp/show-stats", "[port]", 0, 1, |_, a, _| none(a, "no such lacp object", "")),
    command("mdb/flush", "[bridge]", 0, 1, |d, a, _| match a {
        [] => Answer::Now(Ok("table successfully flushed\n".to_owned())),
        _ => snooping(d, first(a)),
    }),
    command("mdb/show", "bridge", 1, 1, |d, a, _| snooping(d, first(a))),
    command("qos/show", "interface", 1, 1, |d, a, _| Answer::Now(qos(d, first(a)))),
    command("qos/show-types", "interface", 1, 1, |d, a, _| {
        Answer::Now(qos(d, first(a)).map(|_| String::new()))
    }),
    command("rstp/show", "[bridge]", 0, 1, |_, a, _| none(a, "No such RSTP object", "")),
    command("stp/show", "[bridge]", 0, 1, |_, a, _| none(a, "no such stp object", "")),
];

/// Of all there are none, and the one that is named is none.
fn none(args: &[String], refusal: &str, all: &str) -> Answer {
    Answer::Now(if args.is_empty() { Ok(all.to_owned()) } else { Err(refusal.to_owned()) })
}

fn snooping(daemon: &Daemon, bridge: &str) -> Answer {
    let is_there = daemon.snapshot.load().bridge_by_name(bridge).is_some();
    Answer::Now(Err(if is_there { "multicast snooping is disabled" } else { "no such bridge" }.to_owned()))
}

fn qos(daemon: &Daemon, interface: &str) -> Result<String, String> {
    match daemon.has_interface(interface) {
        true => Ok(format!("QoS not configured on {interface}\n")),
        false => Err("no such interface".to_owned()),
    }
}
