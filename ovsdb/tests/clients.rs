//! The real `ovs-vsctl` and `ovsdb-client`, unmodified, against our server over a Unix socket.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ovsdb::schema::{self, DatabaseSchema};
use ovsdb::text::bare;
use ovsdb::value::{Atom, Datum, datum_to_json};
use serde_json::{Value, json};
use support::{Process, TempDir, run, serve, tool};

struct Site {
    _process: Process,
    remote: String,
    vsctl: PathBuf,
    client: PathBuf,
    directory: TempDir,
}

impl Site {
    fn start(name: &str) -> Option<Site> {
        let (vsctl, client) = (tool("ovs-vsctl")?, tool("ovsdb-client")?);
        let directory = TempDir::new(name);
        let socket = directory.join("db.sock");
        let process = serve(&socket, directory.join("conf.db").to_str().unwrap(), None);
        let remote = format!("unix:{}", socket.display());
        Some(Site { _process: process, remote, vsctl, client, directory })
    }

    fn vsctl_command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.vsctl);
        command
            .args(["--no-wait", "--timeout=20"])
            .arg(format!("--db={}", self.remote))
            .args(line.split(' '));
        command
    }

    fn vsctl(&self, line: &str) -> String {
        run(&mut self.vsctl_command(line)).trim_end().to_owned()
    }

    fn vsctl_fails(&self, line: &str) -> String {
        let output = self.vsctl_command(line).output().unwrap();
        assert!(!output.status.success(), "{line} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    /// `ovsdb-client COMMAND REMOTE ARGUMENT...`
    fn client_command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut process = Command::new(&self.client);
        process.args(["--timeout=20", command]).arg(&self.remote).args(arguments);
        process
    }

    fn client(&self, command: &str, arguments: &[&str]) -> String {
        run(&mut self.client_command(command, arguments))
    }
}

#[test]
fn ovs_vsctl_configures_bridges() {
    let Some(site) = Site::start("vsctl") else { return };
    site.vsctl("init");
    site.vsctl("add-br br0");
    site.vsctl("add-port br0 p1 tag=10 -- set Interface p1 type=internal");
    site.vsctl("--may-exist add-br br0");
    assert_eq!(site.vsctl("list-br"), "br0");
    assert_eq!(site.vsctl("list-ports br0"), "p1");
    assert_eq!(site.vsctl("list-ifaces br0"), "p1");
    assert_eq!(site.vsctl("port-to-br p1"), "br0");
    let show = site.vsctl("show");
    for part in ["Bridge br0", "Port p1", "tag: 10", "Interface p1", "type: internal"] {
        assert!(show.contains(part), "{show}");
    }
    site.vsctl("set Bridge br0 other_config:mac-table-size=100 fail_mode=secure");
    assert_eq!(site.vsctl("get Bridge br0 other_config fail_mode"), "{mac-table-size=\"100\"}\nsecure");
    site.vsctl("add Bridge br0 protocols OpenFlow13,OpenFlow14");
    site.vsctl("remove Bridge br0 protocols OpenFlow14");
    assert_eq!(site.vsctl("get Bridge br0 protocols"), "[OpenFlow13]");
    assert_eq!(site.vsctl("--bare --columns=name find Interface type=internal name=p1"), "p1");
    assert!(site.vsctl("list Port p1").contains("vlan_mode           : []"));
    let json: Value =
        serde_json::from_str(&site.vsctl("--format=json --columns=name,tag list Port p1")).unwrap();
    assert_eq!(json["data"], json!([["p1", 10]]));
    site.vsctl("-- --id=@m create Mirror name=m0 select-all=true -- set Bridge br0 mirrors=@m");
    assert_eq!(site.vsctl("--bare --columns=select_all list Mirror"), "true");
    site.vsctl("clear Bridge br0 mirrors");
    assert_eq!(site.vsctl("list Mirror"), "", "an unreferenced mirror is gone");
    site.vsctl("-- set Port p1 qos=@q -- --id=@q create QoS type=linux-htb queues:0=@u -- --id=@u create Queue dscp=3");
    assert!(site.vsctl_fails("--all destroy QoS").contains("referential integrity violation"));
    site.vsctl("clear Port p1 qos -- --all destroy QoS -- --all destroy Queue");
    assert_eq!(site.vsctl("list QoS"), "");
    site.vsctl("set-controller br0 tcp:1.2.3.4:6653");
    assert_eq!(site.vsctl("get-controller br0"), "tcp:1.2.3.4:6653");
    site.vsctl("set-manager ptcp:6640");
    assert_eq!(site.vsctl("get-manager"), "ptcp:6640");
    site.vsctl("add-bond br0 bond0 e1 e2");
    site.vsctl("br-set-external-id br0 k v");
    assert_eq!(site.vsctl("br-get-external-id br0 k"), "v");
    site.vsctl("del-port br0 bond0");
    assert!(site.vsctl_fails("add-br br0").contains("already exists"));
    assert!(site.vsctl_fails("set Port p1 tag=5000").contains("not in the valid range 0 to 4095"));
    assert!(site.vsctl_fails("set Bridge br0 fail_mode=maybe").contains("not one of the allowed values"));
    site.vsctl("add-br br1 -- add-port br1 p2");
    site.vsctl("emer-reset");
    site.vsctl("del-br br0");
    assert_eq!(site.vsctl("list-br"), "br1");
    assert_eq!(site.vsctl("--bare --columns=name list Interface").split_whitespace().count(), 2);
}

#[test]
fn values_print_as_ovs_vsctl_prints_them() {
    let Some(site) = Site::start("text") else { return };
    site.vsctl("init");
    let strings = [
        "plain",
        "",
        "with space",
        "true",
        "false",
        "5",
        "-5",
        "1.5",
        "a.b-c_d",
        "_x",
        "-x",
        ".x",
        "a:b",
        "a/b",
        "a=b",
        "a,b",
        "[x]",
        "{x}",
        "ë",
        "quote\"d",
        "back\\slash",
        "line\nbreak",
        "tab\t",
        "\u{1}",
        "00000000-1111-2222-3333-444444444444",
        "00:11:22:33:44:55",
        "10.0.0.1",
        "x!",
        "truex",
        "A1",
        "1a",
        "a\u{7f}",
    ];
    let pairs: Vec<(&str, &str)> = strings.iter().map(|text| (*text, *text)).collect();
    let map = Datum::string_map(pairs);
    let set = Datum::set(strings.iter().map(|text| Atom::from(*text)));
    let row = json!({"external_ids": datum_to_json(&map), "iface_types": datum_to_json(&set)});
    let update = json!(["Open_vSwitch", {"op": "update", "table": "Open_vSwitch", "where": [], "row": row}]);
    assert_eq!(site.client("transact", &[&update.to_string()]), "[{\"count\":1}]\n");
    assert_eq!(site.vsctl("get Open_vSwitch . external_ids"), map.to_string());
    assert_eq!(site.vsctl("get Open_vSwitch . iface_types"), set.to_string());
    assert_eq!(site.vsctl("--bare --columns=iface_types list Open_vSwitch"), bare(&set).trim_end());
}

#[test]
fn ovs_vsctl_waits_until_a_bridge_appears() {
    let Some(site) = Site::start("wait-until") else { return };
    site.vsctl("init");
    let waiter =
        site.vsctl_command("wait-until Bridge br7 other_config:a=b").stderr(Stdio::piped()).spawn().unwrap();
    let mut waiter = Process(waiter);
    site.vsctl("add-br br7");
    assert!(waiter.0.try_wait().unwrap().is_none());
    site.vsctl("set Bridge br7 other_config:a=b");
    assert!(waiter.0.wait().unwrap().success());
}

#[test]
fn ovsdb_client_asks_everything() {
    let Some(site) = Site::start("client") else { return };
    site.vsctl("init -- add-br br0 -- add-port br0 p1 tag=7");
    assert_eq!(site.client("list-dbs", &[]), "Open_vSwitch\n_Server\n");
    let printed: Value = serde_json::from_str(&site.client("get-schema", &["Open_vSwitch"])).unwrap();
    assert!(DatabaseSchema::from_json(&printed).unwrap().same_as(schema::open_vswitch()));
    assert_eq!(site.client("get-schema-version", &["Open_vSwitch"]), "8.3.1\n");
    assert!(site.client("list-tables", &["Open_vSwitch"]).contains("CT_Timeout_Policy"));
    assert!(site.client("list-columns", &["Open_vSwitch", "Bridge"]).contains("flood_vlans"));
    assert!(site.client("dump", &["Open_vSwitch", "Port", "name", "tag"]).contains("p1   7"));
    let servers = site.client("dump", &["_Server", "Database", "name", "model", "leader", "connected"]);
    assert!(servers.contains("standalone Open_vSwitch"), "{servers}");
    let select = r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#;
    assert_eq!(site.client("transact", &[select]), "[{\"rows\":[{\"name\":\"br0\"}]}]\n");
    assert_eq!(site.client("query", &[select]), "[{\"rows\":[{\"name\":\"br0\"}]}]\n");
    site.client("wait", &["Open_vSwitch", "connected"]);
    let backup = site.client("backup", &["Open_vSwitch"]);
    let copy = site.directory.join("backup.db");
    std::fs::write(&copy, backup).unwrap();
    if let Some(ovsdb_tool) = tool("ovsdb-tool") {
        let answer = run(Command::new(ovsdb_tool).arg("query").arg(&copy).arg(select));
        assert_eq!(answer, "[{\"rows\":[{\"name\":\"br0\"}]}]\n");
    }
}

/// Lines of a client that goes on running.
struct Following {
    _process: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Following { _process: Process(child), lines }
    }

    fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        for line in &mut self.lines {
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("no {text:?} in {seen}");
    }
}

#[test]
fn ovsdb_client_monitors() {
    let Some(site) = Site::start("monitor") else { return };
    site.vsctl("init -- add-br br0 -- add-br other");
    let condition = r#"[["name","==","br0"]]"#;
    let columns = ["Bridge", "name,fail_mode"];
    for (method, condition) in
        [("monitor", None), ("monitor-cond", Some(condition)), ("monitor-cond-since", Some(condition))]
    {
        let mut arguments = vec!["--format=csv", "Open_vSwitch"];
        arguments.extend(condition);
        arguments.extend(columns);
        site.vsctl("clear Bridge br0 fail_mode");
        let mut following = Following::start(&mut site.client_command(method, &arguments));
        following.until("initial,br0");
        site.vsctl("set Bridge br0 fail_mode=secure");
        following.until("secure");
        site.vsctl("set Bridge br0 fail_mode=standalone");
        following.until("standalone");
        site.vsctl("del-br br0");
        following.until("delete");
        site.vsctl("add-br br0");
        following.until("insert,br0");
    }
}

#[test]
fn ovsdb_client_locks() {
    let Some(site) = Site::start("lock") else { return };
    let mut first = Following::start(&mut site.client_command("lock", &["L"]));
    first.until("\"locked\":true");
    let mut second = Following::start(&mut site.client_command("lock", &["L"]));
    second.until("\"locked\":false");
    let mut thief = Following::start(&mut site.client_command("steal", &["L"]));
    thief.until("\"locked\":true");
    first.until("stolen");
    drop(thief);
    first.until("locked");
    drop(first);
    second.until("locked");
}

/// The schema that we wrote down says what Debian's says.
#[test]
fn our_schema_is_the_installed_one() {
    let path = "/usr/share/openvswitch/vswitch.ovsschema";
    let Ok(text) = std::fs::read_to_string(path) else {
        assert!(std::env::var_os("TAPESTRY_REQUIRE_OVS").is_none(), "{path} is not installed");
        eprintln!("SKIPPED: {path} is not installed");
        return;
    };
    let installed = DatabaseSchema::parse_str(&text).unwrap();
    let ours = schema::open_vswitch();
    assert_eq!(installed.version, ours.version);
    assert_eq!(installed.tables.len(), 19);
    for (theirs, table) in installed.tables.iter().zip(&ours.tables) {
        assert_eq!(theirs, table);
    }
    assert!(installed.same_as(ours));
    let printed = DatabaseSchema::from_json(&ours.to_json()).unwrap();
    assert!(printed.same_as(ours), "printing and reading keeps the schema");
}
