//! What is reported, and that nothing is when nothing differs.

use super::*;
use crate::database::testing::Rows;
use serde_json::json;

fn rows() -> Rows {
    let mut rows = Rows::new();
    rows.bridge("br0", json!({}), &[("p1", json!({}), json!({}))]);
    rows
}

fn status() -> Status {
    let p1 = InterfaceStatus {
        ofport: Some(3),
        mac_in_use: Some(MacAddr(0x0200_0000_0001)),
        mtu: Some(1_500),
        admin_up: Some(true),
        link_up: Some(false),
        link_speed: Some(10_000_000),
        ifindex: Some(4),
        link_resets: Some(1),
        status: [("driver_name".to_owned(), "tun".to_owned())].into(),
        statistics: Some([("rx_packets".into(), 5u64), ("tx_packets".into(), u64::MAX)].into()),
        ..InterfaceStatus::default()
    };
    Status {
        interfaces: [("p1".to_owned(), p1)].into(),
        datapath_ids: [("br0".to_owned(), 0xabcd)].into(),
        identity: Identity {
            version: "3.1.0".to_owned(),
            system_type: "debian".to_owned(),
            system_version: "12".to_owned(),
            iface_types: vec!["tap"],
            datapath_types: vec!["netdev"],
        },
        cur_cfg: 6,
        ..Status::default()
    }
}

/// A value as the schema's text shows it.
fn shown(rows: &Rows, table: &str, name: &str, column: &str) -> String {
    let row = rows.replica.find(table, "name", name).expect("the row");
    let value: Value = row.get(column).expect("the column").into();
    value.to_string()
}

#[test]
fn every_column_is_written_once() {
    let (mut rows, status) = (rows(), status());
    let transaction = report(&rows.replica, &status);
    rows.write(&transaction);
    assert!(report(&rows.replica, &status).is_empty(), "nothing differs any more");
    let p1 = |column| shown(&rows, "Interface", "p1", column);
    assert_eq!((p1("ofport"), p1("error")), ("3".into(), r#"["set",[]]"#.into()));
    assert_eq!((p1("admin_state"), p1("link_state")), (r#""up""#.into(), r#""down""#.into()));
    assert_eq!((p1("mac_in_use"), p1("mtu")), (r#""02:00:00:00:00:01""#.into(), "1500".into()));
    assert_eq!((p1("link_speed"), p1("duplex")), ("10000000".into(), r#""full""#.into()));
    assert_eq!((p1("ifindex"), p1("link_resets")), ("4".into(), "1".into()));
    assert_eq!(p1("status"), r#"["map",[["driver_name","tun"]]]"#);
    // A counter beyond what the database can say stays at the most that it can.
    assert_eq!(p1("statistics"), format!(r#"["map",[["rx_packets",5],["tx_packets",{}]]]"#, i64::MAX));
    assert_eq!(shown(&rows, "Bridge", "br0", "datapath_id"), r#""000000000000abcd""#);
    let root = rows.replica.singleton("Open_vSwitch").expect("the root row");
    assert_eq!((root.integer("cur_cfg"), root.string("ovs_version")), (Some(6), Some("3.1.0")));
    assert_eq!((root.string("system_type"), root.string("system_version")), (Some("debian"), Some("12")));
}

#[test]
fn only_what_differs_is_written() {
    let (mut rows, mut status) = (rows(), status());
    rows.write(&report(&rows.replica, &status));
    status.cur_cfg = 7;
    status.interfaces.get_mut("p1").expect("p1").link_up = Some(true);
    let transaction = report(&rows.replica, &status);
    let columns: Vec<Vec<&String>> = transaction
        .operations()
        .iter()
        .map(|o| o["row"].as_object().expect("a row").keys().collect())
        .collect();
    assert_eq!(columns, [["link_state"], ["cur_cfg"]]);
}

#[test]
fn what_a_closed_device_said_goes_but_its_counters_stay() {
    let (mut rows, mut status) = (rows(), status());
    rows.write(&report(&rows.replica, &status));
    let gone =
        InterfaceStatus { ofport: Some(-1), error: Some("it went".into()), ..InterfaceStatus::default() };
    status.interfaces.insert("p1".to_owned(), gone);
    rows.write(&report(&rows.replica, &status));
    let p1 = |column| shown(&rows, "Interface", "p1", column);
    assert_eq!((p1("ofport"), p1("error")), ("-1".into(), r#""it went""#.into()));
    for column in ["mac_in_use", "mtu", "admin_state", "link_state", "link_speed", "duplex", "ifindex"] {
        assert_eq!(p1(column), r#"["set",[]]"#, "{column}");
    }
    assert!(p1("statistics").contains("rx_packets"));
}

#[test]
fn rows_that_are_no_interface_have_their_error() {
    let (mut rows, mut status) = (rows(), status());
    let id = rows.replica.find("Interface", "name", "p1").expect("p1").uuid();
    status.interface_errors.insert(id, "no such thing".to_owned());
    rows.write(&report(&rows.replica, &status));
    assert_eq!(shown(&rows, "Interface", "p1", "error"), r#""no such thing""#);
    assert_eq!(shown(&rows, "Interface", "p1", "ofport"), "-1");
}

#[test]
fn what_somebody_said_of_the_system_stays() {
    let mut rows = rows();
    rows.root(json!({"system_type": "mine", "system_version": "1"}));
    rows.write(&report(&rows.replica, &status()));
    let root = rows.replica.singleton("Open_vSwitch").expect("the root row");
    assert_eq!((root.string("system_type"), root.string("system_version")), (Some("mine"), Some("1")));
}

#[test]
fn controllers_of_two_bridges_with_one_target_are_told_apart() {
    let mut rows = rows();
    rows.bridge("br1", json!({}), &[]);
    for bridge in ["br0", "br1"] {
        rows.insert_into(("Bridge", bridge, "controller"), "Controller", json!({"target": "tcp:127.0.0.1"}));
    }
    let mut status = status();
    let key = |bridge: &str| (bridge.to_owned(), "tcp:127.0.0.1".to_owned());
    let there = ControllerStatus {
        is_connected: true,
        role: Some("master"),
        status: [("state".to_owned(), "ACTIVE".to_owned())].into(),
    };
    status.controllers.insert(key("br0"), there);
    status.controllers.insert(key("br1"), ControllerStatus::default());
    rows.write(&report(&rows.replica, &status));
    let connected = |bridge: &str| {
        let row = rows.replica.find("Bridge", "name", bridge).expect("the bridge");
        let id = row.uuids("controller").next().expect("a controller");
        let row = rows.replica.get("Controller", id).expect("its row");
        (row.boolean("is_connected"), row.string("role"))
    };
    assert_eq!((connected("br0"), connected("br1")), ((Some(true), Some("master")), (Some(false), None)));
}

#[test]
fn a_controller_that_is_connected_to_no_more_is_not_said_to_be() {
    for target in ["ssl:127.0.0.1", "ptcp:6653"] {
        let (mut rows, mut status) = (rows(), status());
        rows.insert_into(("Bridge", "br0", "controller"), "Controller", json!({"target": "tcp:127.0.0.1"}));
        let there = ControllerStatus {
            is_connected: true,
            role: Some("master"),
            status: [("state".to_owned(), "ACTIVE".to_owned())].into(),
        };
        status.controllers.insert(("br0".to_owned(), "tcp:127.0.0.1".to_owned()), there);
        rows.write(&report(&rows.replica, &status));
        let said = |rows: &Rows| {
            let row = rows.replica.rows("Controller").next().expect("a row");
            let state = row.map_get("status", "state").map(str::to_owned);
            (row.boolean("is_connected"), row.string("role").map(str::to_owned), state)
        };
        assert_eq!(said(&rows), (Some(true), Some("master".to_owned()), Some("ACTIVE".to_owned())));
        rows.run(&[json!({"op": "update", "table": "Controller", "where": [], "row": {"target": target}})]);
        status.controllers.clear();
        rows.write(&report(&rows.replica, &status));
        assert_eq!(said(&rows), (Some(false), None, None), "{target}");
        assert!(report(&rows.replica, &status).is_empty());
    }
}

#[test]
fn datapaths_are_told_what_theirs_can_do() {
    let (mut rows, status) = (rows(), status());
    rows.run(&[
        serde_json::json!({"op": "insert", "table": "Datapath", "uuid-name": "d", "row": {"datapath_version": "0"}}),
        serde_json::json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["datapaths", "insert", ["map", [["netdev", ["named-uuid", "d"]]]]]]}),
    ]);
    rows.write(&report(&rows.replica, &status));
    let row = rows.replica.rows("Datapath").next().expect("a row");
    assert_eq!(row.map_get("capabilities", "ct_timeout"), Some("true"));
    assert!(report(&rows.replica, &status).is_empty());
}
