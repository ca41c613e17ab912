//! The commands to the daemon, against a control socket with canned answers.

mod support;

use serde_json::{Value, json};
use support::{TempDir, control_server, ok, tapctl};

/// Runs a command against one answer; its output, and what was asked.
fn ask(answer: Value, args: &[&str]) -> (String, Value, Value) {
    let dir = TempDir::new();
    let server = control_server(dir.path(), vec![answer]);
    let out = ok(dir.path(), args);
    let request = server.join().expect("server").remove(0);
    (out, request["method"].clone(), request["params"].clone())
}

fn text(text: &str) -> Value {
    json!({ "id": 0, "result": text, "error": null })
}

#[test]
fn commands_ask_for_what_ovs_appctl_would() {
    for (args, method, params) in [
        (&["fdb", "br0"][..], "fdb/show", json!(["br0"])),
        (&["fdb-flush"], "fdb/flush", json!([])),
        (&["fdb-flush", "br0"], "fdb/flush", json!(["br0"])),
        (&["cache"], "dpctl/dump-flows", json!([])),
        (&["cache", "br0"], "dpif/dump-flows", json!(["br0"])),
        (&["trace", "br0", "in_port=1"], "ofproto/trace", json!(["br0", "in_port=1"])),
        (
            &["trace", "br0", "in_port=1", "--generate"],
            "ofproto/trace",
            json!(["br0", "in_port=1", "-generate"]),
        ),
        (&["conntrack", "show"], "dpctl/dump-conntrack", json!(["-s"])),
        (&["conntrack", "show", "--zone", "5"], "dpctl/dump-conntrack", json!(["-s", "zone=5"])),
        (&["conntrack", "stats"], "dpctl/ct-stats-show", json!(["-m"])),
        (&["conntrack", "flush", "--all"], "dpctl/flush-conntrack", json!([])),
        (&["conntrack", "flush", "--zone", "5"], "dpctl/flush-conntrack", json!(["zone=5"])),
        (&["conntrack", "flush", "ct_nw_proto=6"], "dpctl/flush-conntrack", json!(["ct_nw_proto=6"])),
        (
            &["conntrack", "flush", "--zone", "5", "--reply", "ct_nw_proto=6"],
            "dpctl/flush-conntrack",
            json!(["zone=5", "", "ct_nw_proto=6"]),
        ),
        (
            &["conntrack", "set-limits", "--default", "9", "1=2", "3=0"],
            "dpctl/ct-set-limits",
            json!(["default=9", "zone=1,limit=2", "zone=3,limit=0"]),
        ),
        (&["conntrack", "del-limits", "1", "2"], "dpctl/ct-del-limits", json!(["zone=1,2"])),
        (&["conntrack", "maxconns", "7"], "dpctl/ct-set-maxconns", json!(["7"])),
        (&["conntrack", "seq-check"], "dpctl/ct-get-tcp-seq-chk", json!([])),
        (&["conntrack", "seq-check", "off"], "dpctl/ct-disable-tcp-seq-chk", json!([])),
        (&["conntrack", "buckets"], "dpctl/ct-bkts", json!([])),
        (&["conntrack", "fragments"], "dpctl/ipf-get-status", json!(["-m"])),
        (&["conntrack", "set-fragments", "--max", "9"], "dpctl/ipf-set-max-nfrags", json!(["9"])),
        (
            &["conntrack", "set-fragments", "--min-v6", "1280"],
            "dpctl/ipf-set-min-frag",
            json!(["v6", "1280"]),
        ),
        (&["conntrack", "set-fragments", "--v4", "off"], "dpctl/ipf-set-disabled", json!(["v4"])),
        (&["log"], "vlog/list", json!([])),
        (
            &["log", "bridge:file:dbg", "ANY:console:off"],
            "vlog/set",
            json!(["bridge:file:dbg", "ANY:console:off"]),
        ),
        (&["exit"], "exit", json!([])),
        (&["exit", "--cleanup"], "exit", json!(["--cleanup"])),
        (&["appctl", "a/b", "--c", "-d", "e f"], "a/b", json!(["--c", "-d", "e f"])),
    ] {
        let (_, asked, with) = ask(text(""), args);
        assert_eq!((asked, with), (Value::from(method), params), "{args:?}");
    }
}

#[test]
fn answers_are_columns_or_json() {
    let fdb = " port  VLAN  MAC                Age\n    1    10  02:00:00:00:00:01    3\n";
    let (out, ..) = ask(text(fdb), &["fdb", "br0"]);
    assert_eq!(out, "MAC                VLAN  PORT  AGE\n02:00:00:00:00:01    10     1  3 s\n");
    let (out, ..) = ask(text(fdb), &["--json", "fdb", "br0"]);
    assert_eq!(out, "[{\"age_s\":3,\"mac\":\"02:00:00:00:00:01\",\"port\":\"1\",\"vlan\":10}]\n");
    let drops = r#"[{"port":"pod1","reason":"too_short","what":"shorter than a header","count":3}]"#;
    let (out, ..) = ask(text(drops), &["drops"]);
    assert!(out.ends_with("pod1       3  too_short  shorter than a header\n"), "{out}");
    let (out, ..) = ask(text("vswitchd 0.1\n"), &["version", "--json"]);
    assert!(out.contains("\"daemon\":\"vswitchd 0.1\""), "{out}");
}

#[test]
fn limits_of_zones_are_columns_or_json() {
    let limits = "default limit=0\nzone=1,limit=5,count=2\nzone=3,limit=0,count=0\n";
    let (out, asked, with) = ask(text(limits), &["conntrack", "limits", "1", "3"]);
    assert_eq!((asked, with), (json!("dpctl/ct-get-limits"), json!(["zone=1,3"])));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "Zones without a limit of their own may have any number of connections.");
    assert_eq!(
        lines[1..],
        ["ZONE  CONNECTIONS       LIMIT", "1            2           5", "3            0  any number"]
    );
    let (out, ..) = ask(text(limits), &["--json", "conntrack", "limits"]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["zones"][0], json!({ "zone": 1, "limit": 5, "connections": 2 }));
}

#[test]
fn not_everything_is_flushed_by_mistake() {
    let dir = TempDir::new();
    for args in [&["conntrack", "flush"][..], &["conntrack", "flush", "--all", "--zone", "1"]] {
        assert_eq!(tapctl(dir.path(), args).code, Some(2), "{args:?}");
    }
    assert_eq!(tapctl(dir.path(), &["conntrack", "set-limits", "70000=1"]).code, Some(2));
}

#[test]
fn refusals_and_nonsense_are_errors() {
    let dir = TempDir::new();
    let refusal = json!({ "id": 0, "result": null, "error": "no such bridge\n" });
    let server = control_server(dir.path(), vec![refusal, json!([1])]);
    let run = tapctl(dir.path(), &["fdb", "br9"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (Some(1), "tapctl: the daemon refused fdb/show: no such bridge\n")
    );
    let run = tapctl(dir.path(), &["fdb", "br9"]);
    assert!(run.code == Some(1) && run.err.contains("the daemon at "), "{run:?}");
    server.join().expect("server");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let dir = TempDir::new();
    let run = tapctl(dir.path(), &["drops"]);
    assert!(run.err.contains("ovs-vswitchd.pid: No such file or directory; is vswitchd running"), "{run:?}");
    std::fs::write(dir.join("ovs-vswitchd.pid"), "x\n").expect("pid file");
    let run = tapctl(dir.path(), &["drops"]);
    assert!(run.err.contains("\"x\" is not a process id"), "{run:?}");
    std::fs::write(dir.join("ovs-vswitchd.pid"), "4711\n").expect("pid file");
    // The version of this program needs no daemon.
    assert!(ok(dir.path(), &["version"]).starts_with("tapctl "));
}

#[test]
fn top_shows_how_fast_counters_grow() {
    let dir = TempDir::new();
    let counters = |bytes: u64, hits: u64| {
        let port = json!({ "name": "pod1", "bridge": "br0", "rx_packets": bytes / 100, "rx_bytes": bytes,
            "tx_packets": 0, "tx_bytes": 0, "drops": 2 });
        text(&json!({ "ports": [port], "cache": { "hits": hits, "misses": 5, "flows": 7 } }).to_string())
    };
    let server = control_server(dir.path(), vec![counters(1000, 10), counters(101_000, 110)]);
    let out = ok(dir.path(), &["top", "--once", "--interval", "0.05", "--json"]);
    let requests = server.join().expect("server");
    assert_eq!(requests.len(), 2);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    let rate = json.pointer("/ports/0/rx_bits_per_s").and_then(Value::as_f64).expect("rate");
    // 800,000 bits in 50 ms, or in more if the machine is busy, but never in less.
    assert!(rate > 0.0 && rate <= 800_000.0 / 0.05, "{rate}");
    assert_eq!(json.pointer("/cache/hit_ratio"), Some(&json!(1.0)));
    assert_eq!(json.pointer("/ports/0/drops"), Some(&json!(2)));
}
