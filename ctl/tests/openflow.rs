//! The commands about flows, against Open vSwitch's own daemon in a network namespace of its own: what one program
//! writes the other must read alike.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{TempDir, installed, ok, other, tapctl};

/// Open vSwitch's daemons with ports in memory; they end with the value.
struct Switch {
    dir: TempDir,
}

impl Switch {
    /// None where Open vSwitch is not installed.
    fn start() -> Option<Switch> {
        if !installed("ovs-vswitchd") || !installed("ovs-ofctl") {
            return None;
        }
        let switch = Switch { dir: TempDir::new() };
        let at = switch.dir.path();
        let file = |name: &str| at.join(name).display().to_string();
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        other("ovsdb-tool", at, &["create", &file("conf.db"), schema]);
        // With --detach the parents return when the daemons are ready.
        switch.daemon("ovsdb-server", &[&file("conf.db"), &format!("--remote=punix:{}", file("db.sock"))]);
        switch.daemon(
            "ovs-vswitchd",
            &[
                &format!("unix:{}", file("db.sock")),
                "--enable-dummy",
                "--disable-system",
                "--disable-system-route",
            ],
        );
        ok(at, &["add-br", "br0", "--datapath-type", "dummy", "--fail-mode", "secure"]);
        for (port, number) in [("p1", "1"), ("p2", "2")] {
            ok(at, &["add-port", "br0", port, "--type", "dummy", "--ofport", number]);
        }
        Some(switch)
    }

    fn daemon(&self, program: &str, args: &[&str]) {
        let at = self.dir.path();
        let output = Command::new("unshare")
            .args(["-n", program, "--detach", "--no-chdir", "-vconsole:off"])
            .arg(format!("--pidfile={}", at.join(format!("{program}.pid")).display()))
            .arg(format!("--log-file={}", at.join(format!("{program}.log")).display()))
            .args(args)
            .env("OVS_RUNDIR", at)
            .output()
            .expect("unshare");
        assert!(output.status.success(), "{program}: {output:?}");
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// ovs-ofctl's dump without what differs between any two, in order.
    fn theirs(&self) -> Vec<String> {
        let out = other("ovs-ofctl", self.path(), &["-OOpenFlow14", "--no-stats", "dump-flows", "br0"]);
        sorted(&out)
    }

    fn ours(&self) -> Vec<String> {
        sorted(&ok(self.path(), &["dump-flows", "br0", "--no-stats"]))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for program in ["ovs-vswitchd", "ovsdb-server"] {
            if let Ok(pid) = std::fs::read_to_string(self.dir.join(&format!("{program}.pid"))) {
                let _ = Command::new("kill").arg(pid.trim()).status();
            }
        }
    }
}

fn sorted(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("reply (OF"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Flows of every kind that both programs know.
const FLOWS: [&str; 14] = [
    "table=0,priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=output:p2",
    "in_port=p1,actions=load:0x1->NXM_NX_REG0[],resubmit(,1)",
    "table=1,cookie=0x5,idle_timeout=60,hard_timeout=90,priority=0,actions=NORMAL",
    "priority=7,dl_vlan=5,actions=strip_vlan,set_field:02:00:00:00:00:01->eth_dst,output:1",
    "udp6,ipv6_src=2001:db8::/32,actions=dec_ttl,controller(max_len=100,id=3)",
    "arp,arp_tpa=10.0.0.0/8,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],in_port",
    "table=2,tcp,tcp_flags=+syn-ack,actions=drop",
    "table=2,metadata=0x10/0xf0,reg1=7,actions=write_metadata:0x3/0xff,goto_table:5",
    "table=3,ip,nw_tos=0x20,nw_ttl=64,actions=mod_nw_src:10.1.1.1,FLOOD",
    "table=3,importance=9,send_flow_rem,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=ALL",
    "table=4,actions=clear_actions,write_actions(output:2)",
    "table=6,mpls,mpls_label=17,actions=pop_mpls:0x0800,output:LOCAL",
    "table=7,tun_id=5,tp_src=0/0,actions=set_tunnel:0x7,note:00.11.22.33.44.55",
    "table=8,actions=output:NXM_NX_REG3[0..15],exit",
];

#[test]
fn flows_are_alike_whoever_writes_and_whoever_reads() {
    let Some(switch) = Switch::start() else { return };
    for flow in FLOWS {
        ok(switch.path(), &["add-flow", "br0", flow]);
    }
    let written = switch.ours();
    assert_eq!(written.len(), FLOWS.len());
    assert_eq!(written, switch.theirs());
    ok(switch.path(), &["del-flows", "br0"]);
    assert_eq!(switch.theirs(), Vec::<String>::new());
    for flow in FLOWS {
        other("ovs-ofctl", switch.path(), &["-OOpenFlow14", "add-flow", "br0", flow]);
    }
    assert_eq!(switch.ours(), written);
    assert_eq!(switch.theirs(), written);
    // What was printed can be read again, by both.
    let file = switch.dir.join("flows.txt").display().to_string();
    std::fs::write(&file, ok(switch.path(), &["dump-flows", "br0", "--no-stats", "--names"])).expect("file");
    ok(switch.path(), &["del-flows", "br0"]);
    ok(switch.path(), &["add-flows", "br0", &file]);
    assert_eq!(switch.theirs(), written);
}

#[test]
fn a_file_changes_everything_or_nothing_and_the_line_at_fault_is_named() {
    let Some(switch) = Switch::start() else { return };
    let at = switch.path();
    let file = switch.dir.join("flows.txt");
    let name = file.display().to_string();
    std::fs::write(&file, "# a comment\nadd table=1,actions=p2\n\ntable=2,ip,actions=drop\n").expect("file");
    ok(at, &["add-flows", "br0", &name]);
    assert_eq!(switch.theirs(), ["table=1, actions=output:2", "table=2, ip actions=drop"]);
    let before = switch.theirs();
    std::fs::write(&file, "delete table=1\nmodify table=2,actions=p1\ntable=3,actions=NORMAL\n")
        .expect("file");
    ok(at, &["add-flows", "br0", &name]);
    assert_eq!(switch.theirs(), ["table=2, ip actions=output:1", "table=3, actions=NORMAL"]);
    assert_ne!(switch.theirs(), before);
    let before = switch.theirs();
    // Refused by the switch, in the middle: the flow before it is not there either.
    let text =
        "table=9,actions=drop\ntable=7,check_overlap,actions=drop\ntable=7,check_overlap,ip,actions=drop\n";
    std::fs::write(&file, text).expect("file");
    let run = tapctl(at, &["add-flows", "br0", &name]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.contains("line 3: table=7,check_overlap,ip") && run.err.contains("OFPFMFC_OVERLAP"),
        "{run:?}"
    );
    assert_eq!(switch.theirs(), before);
    // Not a flow: nothing is sent at all.
    std::fs::write(&file, "table=9,actions=drop\n  table=9,nw_dst=300.0.0.1,ip,actions=drop\n")
        .expect("file");
    let run = tapctl(at, &["add-flows", "br0", &name]);
    assert!(
        run.err.contains("flows.txt, line 2")
            && run.err.contains(&format!("\n{}^^^^^^^^^\n", " ".repeat("    table=9,nw_dst=".len()))),
        "{}",
        run.err
    );
    assert_eq!(switch.theirs(), before);
}

#[test]
fn flows_are_changed_deleted_and_filtered() {
    let Some(switch) = Switch::start() else { return };
    let at = switch.path();
    for flow in
        ["priority=1,ip,actions=drop", "priority=2,tcp,actions=drop", "table=1,priority=1,arp,actions=drop"]
    {
        ok(at, &["add-flow", "br0", flow]);
    }
    ok(at, &["mod-flows", "br0", "ip,actions=p1"]);
    assert_eq!(
        switch.theirs(),
        [
            "priority=1,ip actions=output:1",
            "priority=2,tcp actions=output:1",
            "table=1, priority=1,arp actions=drop"
        ]
    );
    ok(at, &["mod-flows", "--strict", "br0", "priority=1,ip,actions=p2"]);
    assert_eq!(
        sorted(&ok(at, &["dump-flows", "br0", "--no-stats", "out_port=2"])),
        ["priority=1,ip actions=output:2"]
    );
    assert_eq!(
        sorted(&ok(at, &["dump-flows", "br0", "--no-stats", "table=1"])),
        ["table=1, priority=1,arp actions=drop"]
    );
    ok(at, &["del-flows", "--strict", "br0", "priority=1,ip"]);
    ok(at, &["del-flows", "br0", "table=1"]);
    let flows: Value = serde_json::from_str(&ok(at, &["--json", "dump-flows", "br0"])).expect("JSON");
    assert_eq!(flows.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&flows[0]["match"], &flows[0]["actions"], &flows[0]["priority"]),
        (&"tcp".into(), &"output:1".into(), &2.into())
    );
    // A tag is set or added as it is written, which only OpenFlow 1.0 can say.
    ok(at, &["add-flow", "br0", "table=20,actions=mod_vlan_vid:5,p2"]);
    let theirs = other("ovs-ofctl", at, &["--no-stats", "dump-flows", "br0", "table=20"]);
    assert!(theirs.contains("actions=mod_vlan_vid:5,output:2"), "{theirs}");
    ok(at, &["add-flow", "br0", "table=20,ip,actions=push_vlan:0x8100,p2"]);
    // OpenFlow 1.0 adds with counters set to zero, which Open vSwitch shows as a flag in later versions.
    let ours = sorted(&ok(at, &["dump-flows", "br0", "--no-stats", "table=20"]));
    let expected = [
        "table=20, ip actions=push_vlan:0x8100,output:2",
        "table=20, reset_counts actions=mod_vlan_vid:5,output:2",
    ];
    assert_eq!(ours, expected);
}

#[test]
fn ports_are_shown_counted_and_set() {
    let Some(switch) = Switch::start() else { return };
    let at = switch.path();
    let receive = |port: &str, frame: &str| {
        other("ovs-appctl", at, &["netdev-dummy/receive", port, frame]);
    };
    ok(at, &["add-flow", "br0", "actions=NORMAL"]);
    receive("p1", "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x1234)");
    let counters: Value =
        serde_json::from_str(&ok(at, &["--json", "dump-ports", "br0", "p1"])).expect("JSON");
    assert_eq!((&counters[0]["name"], &counters[0]["rx_packets"]), (&"p1".into(), &1.into()));
    let fdb = ok(at, &["fdb", "br0"]);
    assert!(fdb.contains("02:00:00:00:00:01     0     1"), "{fdb}");
    ok(at, &["mod-port", "br0", "p1", "no-flood", "no-packet-in"]);
    let theirs = other("ovs-ofctl", at, &["show", "br0"]);
    assert!(theirs.contains("NO_FLOOD NO_PACKET_IN"), "{theirs}");
    let ports: Value = serde_json::from_str(&ok(at, &["--json", "show-ports", "br0"])).expect("JSON");
    assert_eq!(ports[0]["config"], serde_json::json!(["no-flood", "no-packet-in"]));
    ok(at, &["mod-port", "br0", "1", "flood", "packet-in"]);
    assert!(!other("ovs-ofctl", at, &["show", "br0"]).contains("NO_FLOOD"));
    let run = tapctl(at, &["mod-port", "br0", "p9", "up"]);
    assert_eq!(run.err, "tapctl: there is no port p9; there are p1, p2, br0\n");
    let tables = ok(at, &["tables", "br0"]);
    assert!(tables.lines().nth(1).is_some_and(|line| line.trim().starts_with("0      1")), "{tables}");
}

#[test]
fn a_bridge_that_speaks_only_one_version_is_spoken_to_in_it() {
    let Some(switch) = Switch::start() else { return };
    let at = switch.path();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        ok(at, &["set", "bridge", "br0", &format!("protocols={version}")]);
        ok(at, &["del-flows", "br0"]);
        ok(at, &["add-flow", "br0", "table=3,in_port=p1,ip,actions=load:1->NXM_NX_REG0[],output:p2"]);
        let ours = ok(at, &["dump-flows", "br0", "--no-stats"]);
        let theirs = other("ovs-ofctl", at, &["-O", version, "--no-stats", "dump-flows", "br0"]);
        let theirs: String = theirs.lines().filter(|line| !line.contains("reply")).collect();
        assert_eq!(ours.trim(), theirs.trim(), "{version}");
        assert!(ok(at, &["show-ports", "br0"]).contains("p1"), "{version}");
    }
    let run = tapctl(at, &["mod-port", "br0", "p1", "no-flood"]);
    assert!(run.err.contains("flooding can be set in OpenFlow 1.0 only"), "{run:?}");
}

#[test]
fn frames_go_out_and_come_in() {
    let Some(switch) = Switch::start() else { return };
    let at = switch.path();
    let mut monitor = Command::new(env!("CARGO_BIN_EXE_tapctl"))
        .args(["--json", "monitor", "br0", "--count", "1"])
        .env("OVS_RUNDIR", at)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("tapctl");
    let frame = "ffffffffffff 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002";
    // When the monitor listens cannot be seen from here, so frames are sent until it has one.
    let mut sent = 0;
    while monitor.try_wait().expect("monitor").is_none() {
        assert!(sent < 2000, "no frame came in");
        ok(at, &["packet-out", "br0", frame, "--in-port", "p1", "--actions", "controller"]);
        sent += 1;
    }
    let output = monitor.wait_with_output().expect("monitor");
    let packet: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&packet["in_port"], &packet["total_len"]), (&1.into(), &42.into()));
    let flow = packet["flow"].as_str().expect("flow");
    assert!(
        flow.starts_with("arp,in_port=p1") && flow.contains("arp_spa=10.0.0.1,arp_tpa=10.0.0.2"),
        "{flow}"
    );
    let run = tapctl(at, &["packet-out", "br0", frame, "--actions", "nosuch:1"]);
    assert!(run.err.contains("bad actions: unknown action nosuch"), "{run:?}");
}

#[test]
fn a_bridge_that_is_not_there_is_named() {
    let Some(switch) = Switch::start() else { return };
    let run = tapctl(switch.path(), &["dump-flows", "br9"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.starts_with("tapctl: there is no bridge br9") && run.err.ends_with("there are br0\n"),
        "{run:?}"
    );
}

#[test]
fn top_works_with_open_vswitch_too() {
    let Some(switch) = Switch::start() else { return };
    let out = ok(switch.path(), &["top", "--once", "--interval", "0.05", "--json"]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json.pointer("/ports").and_then(Value::as_array).map(Vec::len), Some(3));
    assert_eq!(json.pointer("/cache"), Some(&Value::Null));
}
