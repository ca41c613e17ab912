//! The commands about bridges and ports, over a socket; what they wrote is read by Open vSwitch's own tools, and the
//! other way round.

mod support;

use serde_json::Value;
use support::database::{Daemon, DatabaseServer};
use support::{TempDir, installed, ok, other, tapctl};

#[test]
fn bridges_and_ports_come_and_go() {
    let dir = TempDir::new();
    let _server = DatabaseServer::start(dir.path(), Daemon::Alive);
    let at = dir.path();
    assert_eq!(ok(at, &["add-br", "br0"]), "");
    assert_eq!(
        ok(at, &["--json", "add-br", "br0", "--may-exist"]),
        "{\"bridge\":\"br0\",\"created\":false}\n"
    );
    ok(at, &["add-port", "br0", "pod1", "--type", "internal", "--tag", "10"]);
    assert_eq!(ok(at, &["list-br"]), "br0\n");
    assert_eq!(ok(at, &["list-ports", "br0"]), "pod1\n");
    let show: Value = serde_json::from_str(&ok(at, &["show", "--json"])).expect("JSON");
    assert_eq!(
        show.pointer("/bridges/0/ports/1/tag").or(show.pointer("/bridges/0/ports/0/tag")),
        Some(&Value::from(10))
    );
    ok(at, &["set", "port", "pod1", "tag=[]"]);
    assert_eq!(ok(at, &["get", "port", "pod1", "tag"]), "[]\n");
    ok(at, &["del-port", "pod1"]);
    ok(at, &["del-br", "br0"]);
    assert_eq!(ok(at, &["list-br"]), "");
}

#[test]
fn open_vswitchs_tools_read_what_was_written_and_write_what_is_read() {
    if !installed("ovs-vsctl") {
        return;
    }
    let dir = TempDir::new();
    let _server = DatabaseServer::start(dir.path(), Daemon::Alive);
    let at = dir.path();
    let vsctl = |args: &[&str]| other("ovs-vsctl", at, &[&["--timeout=10"], args].concat());
    ok(at, &["add-br", "br0", "--fail-mode", "secure"]);
    ok(
        at,
        &[
            "add-port",
            "br0",
            "pod1",
            "--type",
            "internal",
            "--tag",
            "7",
            "--trunks",
            "8,9",
            "--vlan-mode",
            "native-untagged",
            "--mtu",
            "9000",
            "--ofport",
            "3",
            "--netns",
            "a b",
            "--option",
            "k=\"v\",w",
        ],
    );
    ok(at, &["set", "bridge", "br0", "other_config:mac-table-size=99"]);
    assert_eq!(vsctl(&["list-br"]), "br0\n");
    assert_eq!(vsctl(&["list-ports", "br0"]), "pod1\n");
    assert_eq!(vsctl(&["get-fail-mode", "br0"]), "secure\n");
    assert_eq!(vsctl(&["get", "port", "pod1", "tag", "trunks", "vlan_mode"]), "7\n[8, 9]\nnative-untagged\n");
    for columns in [
        &["interface", "pod1", "type", "mtu_request", "ofport_request", "options"][..],
        &["bridge", "br0", "other_config", "fail_mode"],
        &["port", "pod1", "_uuid", "tag", "trunks", "interfaces"],
        &["open", ".", "next_cfg", "cur_cfg"],
    ] {
        // The same words for the same question.
        assert_eq!(
            ok(at, &[&["get"], columns].concat()),
            vsctl(&[&["get"], columns].concat()),
            "{columns:?}"
        );
    }
    assert_eq!(vsctl(&["get", "interface", "pod1", "options:k"]), "\"\\\"v\\\",w\"\n");
    vsctl(&[
        "add-br",
        "br1",
        "--",
        "add-port",
        "br1",
        "p2",
        "trunks=1,2",
        "--",
        "set",
        "interface",
        "p2",
        "type=tap",
    ]);
    assert_eq!(ok(at, &["list-br"]), "br0\nbr1\n");
    assert_eq!(ok(at, &["get", "port", "p2", "trunks"]), "[1, 2]\n");
    let show = ok(at, &["show"]);
    assert!(show.contains("└─ p2") && show.contains("trunks 1,2"), "{show}");
    ok(at, &["del-br", "br1"]);
    assert_eq!(vsctl(&["list-br"]), "br0\n");
    assert_eq!(
        vsctl(&["--columns=name", "--bare", "--no-headings", "list", "interface"])
            .lines()
            .filter(|l| !l.is_empty())
            .count(),
        2
    );
}

#[test]
fn an_interface_that_does_not_work_is_an_error_unless_nobody_waits() {
    let dir = TempDir::new();
    let _server = DatabaseServer::start(dir.path(), Daemon::Alive);
    let at = dir.path();
    ok(at, &["add-br", "br0"]);
    let run = tapctl(at, &["add-port", "br0", "nosuch0"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, "tapctl: nosuch0 is configured, but does not work: No such device\n");
    ok(at, &["add-port", "br0", "nosuch1", "--no-wait"]);
    let run = tapctl(at, &["set", "interface", "nosuch1", "mtu_request=1400"]);
    assert!(run.err.contains("nosuch1 is configured"), "{run:?}");
}

#[test]
fn errors_name_what_and_where() {
    let dir = TempDir::new();
    let at = dir.path();
    let run = tapctl(at, &["show"]);
    assert_eq!(run.code, Some(1));
    let expected = format!(
        "tapctl: cannot reach the database at {}: No such file or directory; is vswitchd running with this run \
         directory?\n",
        dir.join("db.sock").display()
    );
    assert_eq!(run.err, expected);
    let run = tapctl(at, &["show", "--json"]);
    let json: Value = serde_json::from_str(&run.err).expect("JSON");
    assert!(
        json["error"].as_str().is_some_and(|text| text.starts_with("cannot reach the database")),
        "{json}"
    );
    for words in [&["add-port", "br0"][..], &["nosuch"], &["show", "--timeout", "x"]] {
        assert_eq!(tapctl(at, words).code, Some(2), "{words:?}");
        let run = tapctl(at, &[words, &["--json"]].concat());
        assert_eq!(run.code, Some(2));
        serde_json::from_str::<Value>(&run.err).expect("JSON");
    }
    let _server = DatabaseServer::start(at, Daemon::Dead);
    // Long enough to connect and be answered in, or the words are others.
    let run = tapctl(at, &["add-br", "br0", "--timeout", "3"]);
    assert!(run.err.contains("vswitchd did not take it up in time"), "{run:?}");
    assert_eq!(ok(at, &["list-br"]), "br0\n");
    ok(at, &["add-br", "br1", "--no-wait"]);
    let run = tapctl(at, &["set", "port", "br0", "tag=4096"]);
    assert!(run.err.contains("tag=4096: ") && run.code == Some(1), "{run:?}");
}

#[test]
fn a_silent_server_is_given_up() {
    let dir = TempDir::new();
    let _listener = std::os::unix::net::UnixListener::bind(dir.join("db.sock")).expect("socket");
    let run = tapctl(dir.path(), &["show", "--timeout", "0.1"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.ends_with("no answer within 0.1 s\n"), "{run:?}");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapctl"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tapctl");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("tapctl");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let dir = TempDir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = ok(dir.path(), &["completions", shell]);
        assert!(script.contains("add-port") && script.contains("may-exist"), "{shell}");
    }
}
