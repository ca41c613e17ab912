//! The same rules, ports and packets in Debian's ovs-vswitchd and here; `ofproto/trace` of both must agree.
//!
//! Needs the programs of Debian's openvswitch-switch (not its service) and the right to make a network namespace; fails
//! where they are missing. Each test runs its own daemons on a dummy datapath in a directory of its own.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use datapath::SlowPath;
use flowtable::group::{GroupCommand, Groups};
use flowtable::text::{FlowUsage, NoPortNames, parse_flow, parse_group_mod, parse_key};
use flowtable::{FlowKey, FlowModCommand, OfPort, OnMissing, RuleStore};
use packet::DpPort;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use switch::bridge::*;
use switch::forwarding::*;
use switch::mac::MacAddr;
use switch::trace::{SideEffects, trace_in};
use switch::tunnel::SharedCounters;
use switch::vlan::{PriorityTags, VlanConfig, VlanMode};

/// Real daemons in a directory.
struct Ovs {
    dir: PathBuf,
}

impl Ovs {
    fn start(name: &str) -> Ovs {
        let dir = std::env::temp_dir().join(format!("tapestry-trace-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let ovs = Ovs { dir };
        let d = ovs.dir.display();
        ovs.run(
            "ovsdb-tool",
            &["create", &format!("{d}/conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"],
        );
        let (remote, pid) = (format!("--remote=punix:{d}/db.sock"), format!("--pidfile={d}/db.pid"));
        let (ctl, log) = (format!("--unixctl={d}/db.ctl"), format!("--log-file={d}/db.log"));
        let quiet = "-vconsole:off";
        ovs.run(
            "ovsdb-server",
            &[&format!("{d}/conf.db"), &remote, &pid, &ctl, &log, "--detach", "--no-chdir", quiet],
        );
        ovs.vsctl(&["--no-wait", "init"]);
        let (pid, ctl) = (format!("--pidfile={d}/vs.pid"), format!("--unixctl={d}/vs.ctl"));
        let (log, db) = (format!("--log-file={d}/vs.log"), format!("unix:{d}/db.sock"));
        let dummy = ["--enable-dummy=override", "--disable-system", "--disable-system-route"];
        let mut args = vec!["-n", "ovs-vswitchd", &db, &pid, &ctl, &log, "--detach", "--no-chdir", quiet];
        args.extend(dummy);
        ovs.run("unshare", &args);
        ovs
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let out = Command::new(program)
            .args(args)
            .env("OVS_RUNDIR", &self.dir)
            .env("OVS_LOGDIR", &self.dir)
            .env("OVS_DBDIR", &self.dir)
            .output()
            .unwrap_or_else(|e| panic!("{program} must be installed: {e}"));
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{program} {args:?}: {stdout}{stderr}");
        stdout.into_owned()
    }

    fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}/db.sock", self.dir.display());
        let mut all = vec![&*db];
        all.extend(args);
        self.run("ovs-vsctl", &all)
    }

    fn appctl(&self, args: &[&str]) -> String {
        let target = format!("{}/vs.ctl", self.dir.display());
        let mut all = vec!["-t", &*target];
        all.extend(args);
        self.run("ovs-appctl", &all)
    }

    /// In OpenFlow 1.0, whose `mod_` actions 1.3 does not have.
    fn add_flows10(&self, flows: &[&str]) {
        self.add_flows_in("OpenFlow10", "br0", flows);
    }

    fn add_flows(&self, flows: &[&str]) {
        self.add_flows_in("OpenFlow13", "br0", flows);
    }

    fn add_flows_in(&self, version: &str, bridge: &str, flows: &[&str]) {
        let file = self.dir.join("flows");
        std::fs::write(&file, flows.join("\n")).unwrap();
        let target = format!("unix:{}/{bridge}.mgmt", self.dir.display());
        self.run("ovs-ofctl", &["-O", version, "add-flows", &target, &file.to_string_lossy()]);
    }

    /// Number in the datapath of each port, by name.
    fn dp_ports(&self) -> BTreeMap<String, u32> {
        let text = self.appctl(&["dpif/show"]);
        let port = |line: &str| {
            let (name, rest) = line.trim().split_once(' ')?;
            let (_, dp) = rest.split(':').next()?.split_once('/')?;
            Some((name.to_owned(), dp.parse().ok()?))
        };
        text.lines().filter_map(port).collect()
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        let kill = |file: &Path| {
            if let Ok(pid) = std::fs::read_to_string(file) {
                let _ = Command::new("kill").arg(pid.trim()).status();
            }
        };
        kill(&self.dir.join("vs.pid"));
        kill(&self.dir.join("db.pid"));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port: its columns for ovs-vsctl, and the same here.
struct PortSpec {
    columns: &'static [&'static str],
    vlan: fn() -> VlanConfig,
    protected: bool,
}

fn plain() -> PortSpec {
    PortSpec { columns: &[], vlan: VlanConfig::default, protected: false }
}

/// Both switches with a bridge br0 that has ports p1, p2, … and the local port.
struct Pair {
    ovs: Ovs,
    staging: Staging,
    bridge: BridgeId,
    rules: RuleStore,
    groups: Groups,
    differences: Vec<String>,
}

impl Pair {
    fn new(name: &str, ports: &[PortSpec], other_config: Option<&str>) -> Pair {
        let ovs = Ovs::start(name);
        ovs.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "fail-mode=secure"]);
        if let Some(setting) = other_config {
            ovs.vsctl(&["set", "bridge", "br0", setting]);
        }
        for (i, port) in ports.iter().enumerate() {
            let (name, n) = (format!("p{}", i + 1), format!("ofport_request={}", i + 1));
            let mut args = vec!["add-port", "br0", &name];
            args.extend(port.columns);
            args.extend(["--", "set", "interface", &name, &n]);
            ovs.vsctl(&args);
        }
        let dp = ovs.dp_ports();
        let mut staging = Staging::new(HashSeed::new(3, 4), Box::new(NoPunt));
        let id = staging.add_bridge("br0");
        let bridge = staging.bridge_mut(id).unwrap();
        bridge.settings_mut().forward_bpdu = other_config.is_some_and(|s| s.contains("forward-bpdu=true"));
        let mut put = |name: &str, of_port: OfPort, vlan: VlanConfig, protected: bool| {
            bridge.put_port(BridgePort {
                of_port,
                name: name.into(),
                mac: MacAddr(0),
                config: PortConfig::default(),
                link: Link::Up,
                carrier: Link::Up,
                device: Device::Datapath(DpPort(dp[name])),
                counters: SharedCounters::default(),
                bundle: BundleId(of_port.0),
            });
            let id = BundleId(of_port.0);
            bridge.put_bundle(Bundle { id, name: name.into(), members: vec![of_port], vlan, protected });
        };
        put("br0", OfPort::LOCAL, VlanConfig::default(), false);
        for (i, port) in ports.iter().enumerate() {
            put(&format!("p{}", i + 1), OfPort(i as u32 + 1), (port.vlan)(), port.protected);
        }
        let rules = staging.new_rules();
        Pair { ovs, staging, bridge: id, rules, groups: Groups::default(), differences: Vec::new() }
    }

    /// Rules with a `mod_` action go by OpenFlow 1.0, which has them.
    fn add_flows(&mut self, flows: &[&str]) {
        let (old, new): (Vec<&str>, Vec<&str>) = flows.iter().partition(|f| f.contains("mod_"));
        self.ovs.add_flows10(&old);
        self.ovs.add_flows(&new);
        for flow in flows {
            let parsed = parse_flow(flow, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames);
            let parsed = parsed.unwrap_or_else(|e| panic!("{flow}: {e}"));
            let flow_mod = parsed.flow_mod(FlowModCommand::Add, OnMissing::Add);
            self.rules.apply(&flow_mod, Instant::ZERO).unwrap();
        }
    }

    fn add_groups(&mut self, groups: &[&str]) {
        let target = format!("unix:{}/br0.mgmt", self.ovs.dir.display());
        for group in groups {
            self.ovs.run("ovs-ofctl", &["-O", "OpenFlow15", "add-group", &target, group]);
            let group_mod = parse_group_mod(group, GroupCommand::Add, &NoPortNames);
            let group_mod = group_mod.unwrap_or_else(|e| panic!("{group}: {e}"));
            self.groups.apply(&group_mod, Instant::ZERO).unwrap();
        }
    }

    fn publish(&mut self) -> Arc<Forwarding> {
        self.staging.set_groups(self.bridge, &self.groups);
        self.staging.set_rules(self.bridge, &mut self.rules);
        self.staging.publish()
    }

    /// Traces one packet in both, learning from it; the texts must agree.
    fn check(&mut self, packet: &str) {
        self.check_lines(packet, |_| true);
    }

    /// The same for those lines alone that count.
    fn check_lines(&mut self, packet: &str, counts: fn(&str) -> bool) {
        let theirs = self.ovs.appctl(&["ofproto/trace", "br0", packet, "-generate"]);
        let fwd = self.publish();
        let flow: FlowKey = parse_key(packet, &NoPortNames).unwrap_or_else(|e| panic!("{packet}: {e}"));
        let traced = trace_in(&fwd, self.bridge, &flow, SideEffects::Generate).unwrap();
        fwd.commit(&traced.translation.effects, Instant::from_secs(1));
        let lines =
            |text: &str| comparable(text).lines().filter(|l| counts(l)).collect::<Vec<_>>().join("\n");
        let (ours, theirs) = (lines(&traced.text), lines(&theirs));
        if ours != theirs {
            let only = |a: &str, b: &str, sign: char| {
                let lines = a.lines().filter(|l| !b.lines().any(|m| m == *l));
                lines.map(|l| format!("{sign} {l}\n")).collect::<String>()
            };
            let (more, less) = (only(&ours, &theirs, '+'), only(&theirs, &ours, '-'));
            self.differences.push(format!("{packet}\n{more}{less}"));
        }
    }

    /// Says where ours (+) and theirs (-) differ, if they do.
    fn finish(self) {
        assert!(
            self.differences.is_empty(),
            "{} traces differ:\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
    }
}

/// A trace with the last line brought to what counts, and without OVS's remark on its kernel datapath.
fn comparable(text: &str) -> String {
    let mut lines = Vec::new();
    let number = |name: &str| {
        let after = text.lines().next().and_then(|flow| flow.split_once(name)).map(|(_, after)| after);
        after.and_then(|a| a.split(',').next()).unwrap_or_default().to_owned()
    };
    let vid = number(",dl_vlan=");
    let tag = (!vid.is_empty()).then(|| format!("vid={vid},pcp={})", number(",dl_vlan_pcp=")));
    for line in text.lines() {
        match line.strip_prefix("Datapath actions: ") {
            Some(actions) => {
                lines.extend(outputs(actions, tag));
                break;
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// What leaves, where, and what has been done to it by then, in an order that does not depend on that of a flood.
fn outputs(actions: &str, tag: Option<String>) -> Vec<String> {
    let mut sets: BTreeMap<String, String> = BTreeMap::new();
    let mut tags: Vec<String> = Vec::from_iter(tag);
    let mut other = String::new();
    let mut out = Vec::new();
    for action in split(actions) {
        if let Some(tag) = action.strip_prefix("push_vlan(") {
            tags.push(tag.to_owned());
        } else if action == "pop_vlan" {
            tags.pop().expect("a tag to pop");
        } else if let Some(set) = action.strip_prefix("set(").and_then(|s| s.strip_suffix("))")) {
            let (header, parts) = set.split_once('(').unwrap();
            for part in split(parts) {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                sets.insert(format!("{header}.{name}"), value.to_owned());
            }
        } else if action.starts_with("push_mpls")
            || action.starts_with("pop_mpls")
            || action.starts_with("trunc")
        {
            other.push_str(action);
        } else if action.starts_with("recirc(") {
            out.push(format!("recirc {sets:?} {tags:?} {other}"));
        } else if let Some(upcall) = action.strip_prefix("userspace(pid=0,controller(") {
            let kept = split(upcall);
            let kept = kept.iter().filter(|p| {
                ["reason", "rule_cookie", "controller_id", "max_len"].iter().any(|k| p.starts_with(k))
            });
            out.push(format!("punt {:?} {sets:?} {tags:?} {other}", kept.collect::<Vec<_>>()));
        } else {
            out.push(format!("{action} {sets:?} {tags:?} {other}"));
        }
    }
    out.sort();
    out
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let at = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(at).collect()
}

#[test]
fn pipelines() {
    let mut pair = Pair::new("pipelines", &[plain(), plain(), plain(), plain()], None);
    pair.add_flows(&[
        "table=0,priority=100,cookie=0x1,ip,nw_dst=10.0.0.0/24 actions=load:5->NXM_NX_REG0[],resubmit(,1),output:3",
        "table=0,priority=90,tcp,tp_dst=80 actions=dec_ttl,set_field:00:00:00:00:00:99->eth_dst,goto_table:2",
        "table=0,priority=80,arp actions=CONTROLLER:128",
        "table=0,priority=75,udp,tp_dst=81 actions=push_mpls:0x8847,set_field:100->mpls_label,output:2,pop_mpls:0x0800,output:4,dec_ttl,output:1",
        "table=0,priority=70,udp,vlan_tci=0x1000/0x1000 actions=IN_PORT,set_field:4101->vlan_vid,output:1,pop_vlan,FLOOD",
        "table=0,priority=60,in_port=4 actions=output:4,output:2",
        "table=0,priority=55,icmp,in_port=3 actions=resubmit(4,3),resubmit(4,0),output:1",
        "table=0,priority=54,icmp actions=write_actions(output:2,set_field:1.1.1.1->ip_dst,pop_vlan),goto_table:4",
        "table=0,priority=53,icmp6 actions=write_actions(output:2),goto_table:5",
        "table=0,priority=50,tcp,in_port=2 actions=resubmit(,6),output:3",
        "table=0,priority=50,tcp,in_port=3 actions=move:NXM_OF_IP_SRC[0..15]->NXM_NX_REG1[16..31],load:1->NXM_OF_ETH_DST[40..47],move:NXM_NX_REG1[]->NXM_OF_IP_DST[],output:1,output:2",
        "table=0,priority=40,tcp6 actions=set_field:fe80::1->ipv6_src,set_field:0x20->ip_dscp,set_field:77->tcp_src,output:1",
        "table=1,tcp,reg0=5 actions=output:NXM_NX_REG0[],set_field:1.2.3.4->ip_dst,load:8080->NXM_OF_TCP_DST[],output:2,exit",
        "table=2,priority=1 actions=ALL,write_actions(output:2)",
        "table=4,ip,nw_src=9.0.0.0/8 actions=clear_actions,write_metadata:0x5/0xf,goto_table:5",
        "table=4,priority=1,ip actions=output:1",
        "table=5,metadata=5 actions=output:4",
        "table=5,icmp6 actions=output:3,exit",
        "table=6,tcp actions=dec_ttl,output:1",
    ]);
    let eth = "dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02";
    for packet in [
        "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64",
        "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.1.2,nw_ttl=64,tp_dst=80",
        "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.1.2,nw_ttl=1,tp_dst=80",
        "in_port=1,arp,arp_op=1",
        "in_port=1,udp,nw_ttl=9,udp_dst=81",
        "in_port=1,udp,nw_ttl=9,dl_vlan=7",
        "in_port=1,udp,nw_ttl=9,dl_vlan=7,dl_vlan_pcp=5",
        "in_port=4,ipv6,nw_proto=17",
        "in_port=3,icmp,nw_ttl=3",
        "in_port=1,icmp,nw_src=9.1.1.1",
        "in_port=1,icmp,nw_src=8.1.1.1",
        "in_port=1,icmp,nw_src=8.1.1.1,dl_vlan=9",
        "in_port=1,icmp6",
        "in_port=2,tcp,nw_ttl=1",
        "in_port=2,tcp,nw_ttl=2",
        "in_port=3,tcp,nw_src=1.2.3.4,nw_dst=5.6.7.8",
        "in_port=1,tcp6,nw_ttl=5",
        "in_port=1,dl_type=0x9999",
    ] {
        pair.check(&format!("{packet},{eth}"));
    }
    pair.finish();
}

#[test]
fn vlans_and_learning() {
    let access = || VlanConfig::access(10);
    let trunk = || VlanConfig::trunk([10, 20]);
    let native = || VlanConfig::from_columns(Some(VlanMode::NativeUntagged), Some(10), [20]);
    let tagged = || VlanConfig::from_columns(Some(VlanMode::NativeTagged), Some(20), [10]);
    let prio = || VlanConfig { priority_tags: PriorityTags::IfNonzero, ..VlanConfig::access(20) };
    let spec = |columns, vlan| PortSpec { columns, vlan, protected: false };
    let ports = [
        plain(),
        spec(&["tag=10"], access),
        spec(&["trunks=10,20"], trunk),
        spec(&["tag=10", "trunks=20", "vlan_mode=native-untagged"], native),
        spec(&["tag=20", "trunks=10", "vlan_mode=native-tagged"], tagged),
        spec(&["tag=20", "other_config:priority-tags=if-nonzero"], prio),
        PortSpec { columns: &["protected=true"], vlan: VlanConfig::default, protected: true },
        PortSpec { columns: &["protected=true"], vlan: VlanConfig::default, protected: true },
    ];
    let mut pair = Pair::new("vlans", &ports, None);
    pair.add_flows(&[
        "priority=0 actions=NORMAL",
        "ip,nw_dst=1.1.1.1 actions=mod_dl_dst:00:00:00:00:00:0a,NORMAL",
    ]);
    let tags = ["", ",dl_vlan=0,dl_vlan_pcp=3", ",dl_vlan=10,dl_vlan_pcp=2", ",dl_vlan=20", ",dl_vlan=30"];
    for port in 1..=8 {
        for tag in tags {
            for dst in ["00:00:00:00:00:0a", "ff:ff:ff:ff:ff:ff"] {
                pair.check(&format!(
                    "in_port={port}{tag},dl_src=00:00:00:00:00:0{port},dl_dst={dst},dl_type=0x9999"
                ));
            }
        }
    }
    // Stations are known by now; they are found, they move, and nothing goes back where it came from.
    for (port, src, dst) in
        [(1, 1, 2), (2, 2, 4), (3, 5, 6), (1, 1, 7), (7, 7, 8), (8, 8, 7), (2, 4, 2), (1, 1, 4), (4, 4, 4)]
    {
        let macs = format!("dl_src=00:00:00:00:00:0{src},dl_dst=00:00:00:00:00:0{dst}");
        pair.check(&format!("in_port={port},{macs},dl_type=0x9999"));
        pair.check(&format!("in_port={port},tcp,{macs},nw_dst=1.1.1.1"));
        pair.check(&format!("in_port={port},udp6,{macs}"));
    }
    for dst in [
        "01:80:c2:00:00:00",
        "01:80:c2:00:00:0e",
        "01:80:c2:00:00:10",
        "01:00:0c:cc:cc:cd",
        "00:e0:2b:00:00:05",
    ] {
        pair.check(&format!("in_port=1,dl_src=00:00:00:00:00:01,dl_dst={dst},dl_type=0x9999"));
    }
    pair.check("in_port=99,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02,dl_type=0x9999");
    pair.check("in_port=LOCAL,dl_src=00:00:00:00:00:33,dl_dst=00:00:00:00:00:02,dl_type=0x9999");
    pair.finish();
}

#[test]
fn reserved_addresses_pass_when_told_to() {
    let mut pair = Pair::new("bpdu", &[plain(), plain()], Some("other_config:forward-bpdu=true"));
    pair.add_flows(&["actions=NORMAL"]);
    pair.check("in_port=1,dl_src=00:00:00:00:00:01,dl_dst=01:80:c2:00:00:02,dl_type=0x88cc");
    pair.finish();
}

#[test]
fn header_rewrites() {
    let mut pair = Pair::new("rewrites", &[plain(), plain(), plain()], None);
    pair.add_flows(&[
        "priority=9,tcp,tp_src=1 actions=set_field:1.1.1.1->ip_src,set_field:2.2.2.2->ip_dst,set_field:3->tcp_src,set_field:4->tcp_dst,set_field:00:00:00:00:00:05->eth_src,output:2,set_field:7.7.7.7->ip_src,output:3",
        "priority=9,tcp,tp_src=2 actions=set_field:8->ip_dscp,set_field:1->nw_ecn,set_field:9->nw_ttl,output:2",
        "priority=9,tcp,tp_src=3 actions=load:0x1->NXM_OF_ETH_SRC[4..7],output:2",
        "priority=9,tcp,tp_src=4 actions=push_vlan:0x88a8,set_field:4103->vlan_vid,output:2,push_vlan:0x8100,set_field:4104->vlan_vid,set_field:3->vlan_pcp,output:3,pop_vlan,pop_vlan,output:2",
        "priority=9,tcp,tp_src=5 actions=mod_vlan_vid:9,mod_vlan_pcp:2,output:2",
        "priority=9,tcp,tp_src=6 actions=set_field:1.2.3.4->ip_src,set_field:00:00:00:00:00:02->eth_dst,output:2",
        "priority=9,tcp,tp_src=7 actions=output(port=2,max_len=100),output:3",
        "priority=9,tcp,tp_src=8 actions=push_mpls:0x8847,push_mpls:0x8847,set_mpls_ttl:3,output:2,pop_mpls:0x8847,output:3,set_field:77->mpls_label,dec_mpls_ttl,output:2",
        "priority=9,tcp,tp_src=9 actions=controller(max_len=64,reason=action,id=5),load:3->NXM_OF_IN_PORT[],output:1,output:3,IN_PORT",
        "priority=9,tcp,tp_src=10 actions=set_field:7->pkt_mark,output:2",
        "priority=9,arp actions=set_field:2->arp_op,move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],set_field:1.1.1.1->arp_spa,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:00:00:00:00:00:0a->arp_sha,move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],IN_PORT",
        "priority=9,udp6 actions=set_field:fe80::5->ipv6_dst,set_field:5->nw_ttl,set_field:8->ip_dscp,set_field:4->udp_dst,output:2",
        "priority=9,sctp actions=set_field:3->sctp_dst,output:2",
        "priority=9,mpls actions=pop_mpls:0x0800,dec_ttl,output:2",
        "priority=9,mplsm actions=set_field:3->mpls_tc,dec_mpls_ttl,output:2",
    ]);
    let eth = "dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02";
    for port in 1..=10 {
        pair.check(&format!(
            "in_port=1,tcp,{eth},nw_src=1.2.3.4,nw_dst=5.6.7.8,nw_ttl=64,nw_tos=8,tp_src={port},tp_dst=80"
        ));
    }
    let tagged = "in_port=1,tcp,dl_vlan=5,dl_vlan_pcp=6";
    for port in [1, 5] {
        pair.check(&format!(
            "{tagged},{eth},nw_src=1.2.3.4,nw_dst=5.6.7.8,nw_ttl=64,tp_src={port},tp_dst=80"
        ));
    }
    for packet in [
        "in_port=1,arp,arp_op=1,arp_spa=9.9.9.9,arp_tpa=8.8.8.8,arp_sha=00:00:00:00:00:01",
        "in_port=1,udp6,ipv6_src=fe80::1,ipv6_dst=fe80::2,nw_ttl=64,udp_src=1,udp_dst=2",
        "in_port=1,sctp,sctp_dst=9",
        "in_port=1,mpls,mpls_label=5,mpls_ttl=7,mpls_bos=1",
        "in_port=1,mplsm,mpls_label=5,mpls_ttl=7,mpls_bos=1",
        "in_port=1,mplsm,mpls_label=5,mpls_ttl=1,mpls_bos=1",
    ] {
        pair.check(&format!("{packet},{eth}"));
    }
    pair.finish();
}

/// Which bucket of several a hash takes is each switch's own affair; the rest is not.
#[test]
fn groups() {
    let mut pair = Pair::new("groups", &[plain(), plain(), plain(), plain()], None);
    pair.add_groups(&[
        "group_id=9,type=indirect,bucket=output:4",
        "group_id=1,type=all,bucket=output:2,set_field:00:00:00:00:00:07->eth_dst,bucket=output:3",
        "group_id=2,type=indirect,bucket=set_field:3.3.3.3->ip_dst,dec_ttl,output:2",
        "group_id=3,type=fast_failover,bucket=watch_port:77,output:2,bucket=watch_group:9,output:3,bucket=watch_port:2,output:2",
        "group_id=4,type=fast_failover,bucket=watch_port:77,output:2",
        "group_id=5,type=all",
        "group_id=6,type=indirect,bucket=output:2,output:3,group:9",
        "group_id=7,type=all,bucket=resubmit(,1),bucket=group:2",
        "group_id=8,type=select,selection_method=hash,bucket=watch_port:77,output:2,bucket=watch_port:3,output:3",
        "group_id=10,type=select,selection_method=hash,fields(ip_src),bucket=weight:0,output:2,bucket=weight:1,output:3",
    ]);
    let flows: Vec<String> =
        (1..=10).map(|n| format!("priority=9,udp,tp_src={n} actions=group:{n},output:4")).collect();
    pair.add_flows(&flows.iter().map(String::as_str).collect::<Vec<_>>());
    pair.add_flows(&[
        "priority=9,udp,tp_src=11 actions=set_field:9.9.9.9->ip_src,group:1,set_field:8.8.8.8->ip_dst,group:2",
        "priority=9,udp,tp_src=12 actions=write_actions(output:2,group:1)",
        "priority=9,udp,tp_src=13 actions=load:5->NXM_NX_REG3[],group:7,output:4",
        "priority=9,udp,tp_src=14 actions=write_actions(output:2,group:1),goto_table:2",
        "priority=9,udp,tp_src=15 actions=write_actions(output:2),goto_table:2",
        "table=2,priority=9,actset_output=2,actions=output:3",
        "table=2,actions=output:4",
        "table=1,ip,actions=set_field:5.5.5.5->ip_src,output:2,output:3",
        "table=1,priority=9,reg3=5 actions=load:6->NXM_NX_REG3[],output:3",
    ]);
    let eth = "dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02";
    for port in 1..=15 {
        let packet =
            format!("in_port=1,udp,{eth},nw_src=1.2.3.4,nw_dst=5.6.7.8,nw_ttl=64,udp_src={port},udp_dst=80");
        pair.check_lines(&packet, |line| !line.starts_with("Megaflow") && !line.starts_with("     -"));
    }
    pair.finish();
}

#[test]
fn patches() {
    let mut pair = Pair::new("patches", &[plain(), plain()], None);
    let bridges = "add-br br1 -- set bridge br1 fail-mode=secure \
                   -- add-port br0 a -- set interface a type=patch options:peer=b ofport_request=8 \
                   -- add-port br1 b -- set interface b type=patch options:peer=a ofport_request=9 \
                   -- add-port br1 q -- set interface q ofport_request=1";
    pair.ovs.vsctl(&bridges.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>());
    let dp = pair.ovs.dp_ports();
    let other = pair.staging.add_bridge("br1");
    let ends = [
        (pair.bridge, "a", 8, Device::Patch(Some(PatchPeer { bridge: other, port: OfPort(9) }))),
        (other, "b", 9, Device::Patch(Some(PatchPeer { bridge: pair.bridge, port: OfPort(8) }))),
        (other, "q", 1, Device::Datapath(DpPort(dp["q"]))),
        (other, "br1", OfPort::LOCAL.0, Device::Datapath(DpPort(dp["br1"]))),
    ];
    for (bridge, name, n, device) in ends {
        let bridge = pair.staging.bridge_mut(bridge).unwrap();
        let (of_port, bundle, mac) = (OfPort(n), BundleId(n), MacAddr(0));
        let (config, link) = (PortConfig::default(), Link::Up);
        let carrier = link;
        bridge.put_port(BridgePort {
            of_port,
            name: name.into(),
            mac,
            config,
            link,
            carrier,
            device,
            counters: SharedCounters::default(),
            bundle,
        });
        let vlan = VlanConfig::default();
        bridge.put_bundle(Bundle {
            id: bundle,
            name: name.into(),
            members: vec![of_port],
            vlan,
            protected: false,
        });
    }
    pair.add_flows(&[
        "priority=5,tcp,in_port=1 actions=load:9->NXM_NX_REG2[],output:8,set_field:1.1.1.1->ip_src,output:2",
        "priority=0 actions=NORMAL",
    ]);
    let others = [
        "priority=5,tcp actions=set_field:00:00:00:00:00:44->eth_src,resubmit(,1),output:1",
        "priority=0 actions=NORMAL",
        "table=1,reg2=9 actions=drop",
        "table=1,priority=1,tcp actions=IN_PORT",
    ];
    pair.ovs.add_flows_in("OpenFlow13", "br1", &others);
    let mut rules = pair.staging.new_rules();
    for flow in others {
        let parsed = parse_flow(flow, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap();
        rules.apply(&parsed.flow_mod(FlowModCommand::Add, OnMissing::Add), Instant::ZERO).unwrap();
    }
    pair.staging.set_rules(other, &mut rules);
    let macs = "dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02";
    pair.check(&format!("in_port=1,tcp,{macs},nw_src=9.9.9.9,nw_ttl=64"));
    pair.check(&format!("in_port=1,dl_type=0x9999,{macs}"));
    pair.check("in_port=2,dl_type=0x9999,dl_src=00:00:00:00:00:02,dl_dst=00:00:00:00:00:01");
    pair.finish();
}

/// Geneve options as fields: there or not, with a value or part of one, read and written.
#[test]
fn geneve_options() {
    let mut pair = Pair::new("geneve", &[plain(), plain(), plain()], None);
    let target = format!("unix:{}/br0.mgmt", pair.ovs.dir.display());
    let map = "{class=0x102,type=0x80,len=4}->tun_metadata0,{class=0xffff,type=3,len=16}->tun_metadata5";
    pair.ovs.run("ovs-ofctl", &["add-tlv-map", &target, map]);
    pair.add_flows(&[
        "priority=9,tun_metadata0=0x1234 actions=load:1->NXM_NX_REG0[],resubmit(,1)",
        "priority=8,tun_metadata0=0x30000/0xff0000 actions=load:2->NXM_NX_REG0[],resubmit(,1)",
        "priority=7,tun_metadata0=0 actions=load:3->NXM_NX_REG0[],resubmit(,1)",
        "priority=6,tun_metadata0 actions=load:4->NXM_NX_REG0[],resubmit(,1)",
        "priority=5,tun_metadata5=0x123456789abcdef00112233445566778 actions=set_field:0x99->tun_metadata0,resubmit(,1)",
        "priority=0 actions=set_field:0->tun_metadata5,resubmit(,1)",
        "table=1,priority=5,tun_metadata0=0x99 actions=move:NXM_NX_TUN_METADATA0[0..7]->NXM_NX_REG0[8..15],resubmit(,2)",
        "table=1,priority=4,tun_metadata5=0 actions=output:2,set_field:0x5500/0xff00->tun_metadata5,resubmit(,2)",
        "table=1,priority=0 actions=move:NXM_NX_REG0[0..15]->NXM_NX_TUN_METADATA0[0..15],resubmit(,2)",
        "table=2,priority=5,tun_metadata5=0x5500 actions=output:3",
        "table=2,priority=4,tun_metadata0=4 actions=output:1",
        "table=2,priority=3,reg0=0x9900 actions=output:2",
        "table=2,priority=0 actions=IN_PORT",
    ]);
    // Open vSwitch prints fields of tunnels that this switch does not have, and looks at all of a tunnel's.
    let walk = |line: &str| !["Flow:", "Final flow:", "Megaflow:"].iter().any(|p| line.starts_with(p));
    for options in [
        "",
        ",tun_metadata0=0x1234",
        ",tun_metadata0=0x31234",
        ",tun_metadata0=0",
        ",tun_metadata0=7",
        ",tun_metadata5=0x123456789abcdef00112233445566778",
        ",tun_metadata5=0",
    ] {
        pair.check_lines(&format!("in_port=1,tun_id=3,tun_dst=1.2.3.4{options}"), walk);
    }
    pair.finish();
}
