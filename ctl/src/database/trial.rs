//! Tests of what commands change, against the database engine itself: its schema judges every transaction.

use std::sync::Arc;

use base::Instant;
use clap::Parser;
use ovsdb::client::outcome;
use ovsdb::database::Database;
use ovsdb::replica::Replica;
use ovsdb::schema;
use ovsdb::session::{LocalId, Server, ServerLimits, ServerOptions};

use super::{DATABASE, Edit, column, edit, show};
use crate::args::{Cli, Command};
use crate::console::Paint;

struct Trial {
    server: Server,
    view: LocalId,
    replica: Replica,
}

impl Trial {
    fn new() -> Trial {
        let mut next = 0u128;
        let mut server = Server::new(ServerOptions {
            entropy: Box::new(move || {
                next += 1;
                next
            }),
            wall_clock_ms: Box::new(|| 0),
            limits: ServerLimits::default(),
        });
        server.add_database(Database::new(Arc::new(schema::open_vswitch().clone())), None);
        let (view, replica) = server.subscribe_local(DATABASE).unwrap();
        Trial { server, view, replica }
    }

    /// Runs a command line; what the database says to it, or the error of the command.
    fn run(&mut self, line: &[&str]) -> Result<Vec<String>, String> {
        let edit = plan(&self.replica, line).map_err(|error| format!("{error:#}"))?;
        let (transaction, watched) = edit.finish();
        let results = self.server.transact_local(DATABASE, transaction.operations(), Instant::ZERO).unwrap();
        outcome(&results).map_err(|error| format!("database: {error}"))?;
        self.server.refresh_local(self.view, &mut self.replica).unwrap();
        Ok(watched)
    }

    fn ok(&mut self, line: &[&str]) {
        self.run(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    }

    fn get(&self, line: &[&str]) -> Result<String, String> {
        let Command::Get(args) = parse(line) else { panic!("{line:?}") };
        column::get(&self.replica, &args).map(|answer| answer.text).map_err(|error| format!("{error:#}"))
    }

    fn count(&self, table: &str) -> usize {
        self.replica.rows(table).count()
    }
}

fn parse(line: &[&str]) -> Command {
    Cli::try_parse_from(["tapctl"].iter().chain(line))
        .unwrap_or_else(|error| panic!("{line:?}: {error}"))
        .command
}

fn plan(replica: &Replica, line: &[&str]) -> anyhow::Result<Edit> {
    match parse(line) {
        Command::AddBr(args) => edit::add_bridge(replica, &args),
        Command::DelBr(args) => edit::delete_bridge(replica, &args),
        Command::AddPort(args) => edit::add_port(replica, &args),
        Command::DelPort(args) => edit::delete_port(replica, &args),
        Command::Set(args) => column::set(replica, &args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bridge_comes_and_goes_with_its_port_and_interface() {
    let mut t = Trial::new();
    assert_eq!(t.run(&["add-br", "br0", "--fail-mode", "secure"]).unwrap(), ["br0"]);
    assert_eq!(["Open_vSwitch", "Bridge", "Port", "Interface"].map(|table| t.count(table)), [1, 1, 1, 1]);
    assert_eq!(t.get(&["get", "interface", "br0", "type"]).unwrap(), "internal\n");
    assert_eq!(t.get(&["get", "bridge", "br0", "fail_mode"]).unwrap(), "secure\n");
    assert!(t.run(&["add-br", "br0"]).unwrap_err().contains("exists already"));
    t.ok(&["add-br", "br0", "--may-exist", "--fail-mode", "standalone"]);
    assert_eq!(t.get(&["get", "bridge", "br0", "fail_mode"]).unwrap(), "standalone\n");
    t.ok(&["add-port", "br0", "p1"]);
    t.ok(&["del-br", "br0"]);
    assert_eq!(["Open_vSwitch", "Bridge", "Port", "Interface"].map(|table| t.count(table)), [1, 0, 0, 0]);
    assert!(t.run(&["del-br", "br0"]).unwrap_err().contains("there is no bridge br0; there are none"));
    t.ok(&["del-br", "br0", "--if-exists"]);
    // Every change, and every command that had nothing to change, asks the daemon to catch up.
    assert_eq!(t.get(&["get", "open", ".", "next_cfg"]).unwrap(), "5\n");
}

#[test]
fn ports_get_what_the_options_say() {
    let mut t = Trial::new();
    t.ok(&["add-br", "br0"]);
    t.ok(&[
        "add-port",
        "br0",
        "pod1",
        "--type",
        "internal",
        "--tag",
        "10",
        "--trunks",
        "20,30",
        "--vlan-mode",
        "native-tagged",
        "--netns",
        "pod 1",
        "--mtu",
        "9000",
        "--ofport",
        "7",
        "--option",
        "a=b=c",
    ]);
    let port = t.get(&["get", "port", "pod1", "tag", "trunks", "vlan_mode"]).unwrap();
    assert_eq!(port, "10\n[20, 30]\nnative-tagged\n");
    let interface =
        t.get(&["get", "interface", "pod1", "type", "mtu_request", "ofport_request", "options"]).unwrap();
    assert_eq!(interface, "internal\n9000\n7\n{a=\"b=c\", netns=\"pod 1\"}\n");
    assert!(t.run(&["add-port", "br0", "pod1"]).unwrap_err().contains("has port pod1 already"));
    t.ok(&["add-port", "br0", "pod1", "--may-exist", "--tag", "11", "--option", "a=x"]);
    assert_eq!(t.get(&["get", "port", "pod1", "tag"]).unwrap(), "11\n");
    assert_eq!(t.get(&["get", "interface", "pod1", "options:a", "options:netns"]).unwrap(), "x\n\"pod 1\"\n");
}

#[test]
fn names_that_cannot_be_are_refused_before_anything_is_written() {
    let mut t = Trial::new();
    t.ok(&["add-br", "br0"]);
    t.ok(&["add-br", "br1"]);
    t.ok(&["add-port", "br0", "p1"]);
    for (line, expected) in [
        (&["add-br", "p1"][..], "there is a port of that name on bridge br0"),
        (&["add-br", "a/b"], "cannot have '/'"),
        (&["add-br", "sixteen-letters-"], "at most 15 bytes"),
        (&["add-br", ""], "cannot be the name"),
        (&["add-port", "br9", "p"], "there is no bridge br9; there are br0, br1"),
        (&["add-port", "br1", "p1", "--may-exist"], "bridge br0 has a port of that name"),
        (&["add-port", "br1", "br0"], "cannot create port br0"),
        (&["add-port", "br0", "x", "--type", "patch"], "peer=PORT"),
        (&["add-port", "br0", "x", "--netns", "n"], "not system"),
        (&["del-port", "br1", "p1"], "bridge br1 has no port p1; bridge br0 has"),
        (&["del-port", "br0"], "the bridge's own port"),
        (&["del-port", "x"], "there is no port x"),
    ] {
        let error = t.run(line).unwrap_err();
        assert!(error.contains(expected), "{line:?}: {error}");
    }
    t.ok(&["del-port", "x", "--if-exists"]);
    t.ok(&["del-port", "br0", "p1"]);
    assert_eq!(["Bridge", "Port", "Interface"].map(|table| t.count(table)), [2, 2, 2]);
}

#[test]
fn set_and_get_reach_every_kind_of_column() {
    let mut t = Trial::new();
    t.ok(&["add-br", "br0"]);
    t.ok(&["add-port", "br0", "p1"]);
    t.ok(&["set", "br", "br0", "other_config:mac-table-size=4096", "other-config:x=a b", "flood_vlans=1,2"]);
    let got = t.get(&["get", "Bridge", "br0", "other_config", "flood"]).unwrap();
    assert_eq!(got, "{mac-table-size=\"4096\", x=\"a b\"}\n[1, 2]\n");
    t.ok(&["set", "Bridge", "br0", "other_config={}", "flood_vlans=[]"]);
    assert_eq!(t.get(&["get", "Bridge", "br0", "other_config", "flood"]).unwrap(), "{}\n[]\n");
    assert_eq!(t.run(&["set", "int", "p1", "options:rx_pcap=/tmp/a,b c.pcap"]).unwrap(), ["p1"]);
    assert_eq!(t.get(&["get", "int", "p1", "options:rx_pcap"]).unwrap(), "\"/tmp/a,b c.pcap\"\n");
    assert_eq!(t.get(&["get", "--if-exists", "int", "p1", "options:no"]).unwrap(), "\n");
    for (line, expected) in [
        (&["set", "port", "p1", "tag=5000"][..], "5000"),
        (&["set", "port", "p1", "tag=x"], "\"x\" is not a valid integer"),
        (&["set", "port", "p1", "tag"], "expected COLUMN=VALUE"),
        (&["set", "port", "p1", "tag:k=1"], "is no map"),
        (&["set", "port", "p1", "name=p2"], "cannot be changed"),
        (&["set", "port", "p9", "tag=1"], "table Port has no record p9"),
        (&["set", "prt", "p1", "tag=1"], "there is no table prt"),
        (&["set", "port", "p1", "tga=1"], "there is no column of table Port tga"),
        (&["set", "port", "p1", "t=1"], "could be any of tag, trunks"),
    ] {
        let error = t.run(line).unwrap_err();
        assert!(error.contains(expected), "{line:?}: {error}");
    }
}

#[test]
fn show_draws_a_tree() {
    let mut t = Trial::new();
    assert!(show::show(&t.replica, Paint::NONE).text.contains("no bridges"));
    t.ok(&["add-br", "br0", "--fail-mode", "secure"]);
    t.ok(&["add-port", "br0", "pod1", "--type", "internal", "--tag", "10"]);
    t.ok(&["add-port", "br0", "eth9"]);
    // What the daemon would say.
    t.ok(&["set", "interface", "br0", "ofport=65534", "link_state=up", "admin_state=up"]);
    t.ok(&["set", "interface", "pod1", "ofport=3", "link_state=down", "admin_state=up"]);
    t.ok(&[
        "set",
        "interface",
        "eth9",
        "ofport=-1",
        "error=could not open network device eth9 (No such device)",
    ]);
    let answer = show::show(&t.replica, Paint::NONE);
    assert_eq!(
        answer.text,
        "br0  fail mode secure\n\
         ├─ br0   LOCAL  internal  up\n\
         ├─ pod1      3  internal  no link  tag 10\n\
         └─ eth9      -  system    -                error: could not open network device eth9 (No such device)\n"
    );
    let at = |path: &str| answer.json.pointer(path).cloned().unwrap_or_default();
    assert_eq!(at("/bridges/0/ports/1/tag"), 10);
    assert_eq!(at("/bridges/0/ports/1/interfaces/0/ofport"), 3);
    assert!(at("/bridges/0/ports/0/tag").is_null());
    assert_eq!(show::list_ports(&t.replica, "br0").unwrap().text, "eth9\npod1\n");
}
