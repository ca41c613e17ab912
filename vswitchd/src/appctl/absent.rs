//! The commands of ovs-vswitchd(8) about what this switch does not have. Those about features that nobody has configured are
//! answered as ovs-vswitchd answers there, so that scripts which ask everything go on. The rest is refused, with the reason.

use super::dp::{invalid, no_datapath};
use super::{Answer, Command, command, first};
use crate::daemon::Daemon;

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("autoattach/show-isid", "[bridge]", 0, 1, |_, _, _| nothing()),
    command("autoattach/statistics", "[bridge]", 0, 1, |_, _, _| nothing()),
    command("autoattach/status", "[bridge]", 0, 1, |_, _, _| nothing()),
    command("bfd/set-forwarding", "[interface] normal|false|true", 1, 2, |_, a, _| {
        set_fault(a, "no such BFD object")
    }),
    command("bfd/show", "[interface]", 0, 1, |_, a, _| none(a, "no such bfd object", "")),
    command("bond/disable-member", "port member", 2, 2, |_, _, _| no_bond()),
    command("bond/enable-member", "port member", 2, 2, |_, _, _| no_bond()),
    command("bond/list", "", 0, 0, |_, a, _| none(a, "", "bond\ttype\trecircID\tmembers\n")),
    command("bond/migrate", "port hash member", 3, 3, |_, _, _| no_bond()),
    command("bond/set-active-member", "port member", 2, 2, |_, _, _| no_bond()),
    command("bond/show", "[port]", 0, 1, |_, a, _| none(a, "no such bond", "")),
    command("cfm/set-fault", "[interface] normal|false|true", 1, 2, |_, a, _| {
        set_fault(a, "no such CFM object")
    }),
    command("cfm/show", "[interface]", 0, 1, |_, a, _| none(a, "no such CFM object", "")),
    command("dpctl/cache-get-size", "[dp]", 0, 1, |_, a, _| match datapath(a) {
        Ok(()) => Answer::Now(Ok("netdev@ovs-netdev:\n".to_owned())),
        Err(e) => Answer::Now(Err(e)),
    }),
    command("dpctl/offload-stats-show", "[dp]", 0, 1, |_, a, _| {
        // Which is what OVS says with hardware offload off.
        Answer::Now(datapath(a).and_then(|()| Err(invalid("retrieving offload statistics"))))
    }),
    command("dpif-netdev/bond-show", "[dp]", 0, 1, |_, a, _| match datapath(a) {
        Ok(()) => nothing(),
        Err(_) => Answer::Now(Err("please specify an existing datapath".to_owned())),
    }),
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
    command("rstp/tcn", "[bridge]", 0, 1, |_, a, _| none(a, "No such RSTP object", "OK\n")),
    command("stp/show", "[bridge]", 0, 1, |_, a, _| none(a, "no such stp object", "")),
    command("stp/tcn", "[bridge]", 0, 1, |_, a, _| none(a, "no such stp object", "OK\n")),
];

const NO_ENTRIES: &str = "cached flows follow from the rules, and an entry of other origin would not be one; \
                          add a flow with ovs-ofctl";
const NO_PORTS: &str = "there is one datapath, and its ports are those of the database; use ovs-vsctl";
const ONE_KIND: &str = "there is one implementation";

/// Commands of ovs-vswitchd 3.1 that are not listed, and why they are refused.
const REFUSED: &[(&str, &str)] = &[
    ("bond/hash", "there are no bonds that balance"),
    ("dpctl/add-dp", NO_PORTS),
    ("dpctl/add-flow", NO_ENTRIES),
    ("dpctl/add-flows", NO_ENTRIES),
    ("dpctl/add-if", NO_PORTS),
    ("dpctl/cache-set-size", "there is one cache, whose size is other_config:flow-limit"),
    ("dpctl/del-dp", NO_PORTS),
    ("dpctl/del-if", NO_PORTS),
    ("dpctl/mod-flow", NO_ENTRIES),
    ("dpctl/mod-flows", NO_ENTRIES),
    ("dpctl/normalize-actions", "the datapath has programs of its own, which ofproto/trace shows"),
    ("dpctl/parse-actions", "the datapath has programs of its own, which ofproto/trace shows"),
    ("dpctl/set-if", NO_PORTS),
    ("dpif-dummy/change-port-number", "a port keeps its number"),
    ("dpif-netdev/dpif-impl-get", ONE_KIND),
    ("dpif-netdev/dpif-impl-set", ONE_KIND),
    ("dpif-netdev/miniflow-parser-get", ONE_KIND),
    ("dpif-netdev/miniflow-parser-set", ONE_KIND),
    ("dpif-netdev/pmd-perf-log-set", "workers keep no history; coverage/show has what they count"),
    ("dpif-netdev/subtable-lookup-info-get", ONE_KIND),
    ("dpif-netdev/subtable-lookup-prio-get", ONE_KIND),
    ("dpif-netdev/subtable-lookup-prio-set", ONE_KIND),
    ("dpif-netlink/dispatch-mode", "it is the kernel's datapath's"),
    ("dpif/set-dp-features", "the datapath can what it can; see dpif/show-dp-features"),
    ("netdev-dummy/conn-state", "dummies have no connections"),
    ("netdev-dummy/ip4addr", "dummies have no addresses"),
    ("netdev-dummy/ip6addr", "dummies have no addresses"),
    ("netdev-dummy/set-admin-state", "dummies are always up; ovs-ofctl mod-port turns a port off"),
    ("odp-execute/action-impl-set", ONE_KIND),
    ("odp-execute/action-impl-show", ONE_KIND),
];

/// Why a command of ovs-vswitchd is refused whatever its arguments, if it is one of those.
pub(super) fn refusal(name: &str) -> Option<String> {
    let (_, why) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some(format!("{name} is not supported: {why}"))
}

fn nothing() -> Answer {
    Answer::Now(Ok(String::new()))
}

fn no_bond() -> Answer {
    Answer::Now(Err("no such bond".to_owned()))
}

/// `[dp]`.
fn datapath(args: &[String]) -> Result<(), String> {
    if args.iter().all(|name| super::dp::is_datapath(name)) { Ok(()) } else { Err(no_datapath()) }
}

/// `[interface] normal|false|true`
fn set_fault(args: &[String], refusal: &str) -> Answer {
    Answer::Now(match args {
        [.., state] if !["normal", "false", "true"].contains(&state.as_str()) => {
            Err("unknown fault string".to_owned())
        }
        [_] => Ok("OK\n".to_owned()),
        _ => Err(refusal.to_owned()),
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_commands_are_no_others_and_sorted() {
        assert!(REFUSED.is_sorted());
        for (name, _) in REFUSED {
            assert!(super::super::commands().all(|c| c.name != *name), "{name}");
        }
    }
}
