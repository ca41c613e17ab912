//! The server's sessions in virtual time: limits, probes, locks, waits, and our client against our server.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use base::time::Instant;
use ovsdb::client::{Client, ClientEvent, ClientOptions, RowRef, Transaction, outcome};
use ovsdb::database::Database;
use ovsdb::replica::Replica;
use ovsdb::rpc::{SplitError, StreamLimits};
use ovsdb::schema;
use ovsdb::session::{Server, ServerLimits, SessionError, SessionId};
use ovsdb::value::Datum;
use serde_json::{Value, json};
use support::{drain, send};

fn open_vswitch() -> Database {
    Database::new(Arc::new(schema::open_vswitch().clone()))
}

fn server() -> Server {
    support::server(open_vswitch(), None)
}

fn transact(id: u64, operations: Value) -> Value {
    let mut params = vec![json!("Open_vSwitch")];
    params.extend(operations.as_array().unwrap().iter().cloned());
    json!({ "method": "transact", "id": id, "params": params })
}

fn add_queue(id: u64, dscp: i64) -> Value {
    transact(id, json!([{"op": "insert", "table": "Queue", "row": {"dscp": dscp}}]))
}

#[test]
fn long_deep_and_malformed_messages_end_their_session_only() {
    let limits = ServerLimits {
        stream: StreamLimits { message_bytes_max: 1000, depth_max: 20 },
        input_bytes_max: 1500,
        ..ServerLimits::default()
    };
    let mut server = support::server_with(open_vswitch(), None, limits);
    let good = server.connect(None, Instant::ZERO).unwrap();
    let mut refuse = |bytes: &[u8]| {
        let bad = server.connect(None, Instant::ZERO).unwrap();
        let error = server.receive(bad, bytes, Instant::ZERO).unwrap_err();
        assert!(server.output(bad).is_empty());
        assert!(matches!(server.receive(bad, b"{}", Instant::ZERO), Err(SessionError::Unknown)));
        error
    };
    let endless = format!("{{\"method\":\"{}", "x".repeat(2000));
    assert!(matches!(refuse(endless.as_bytes()), SessionError::Stream(SplitError::TooLong(1000))));
    let deep = format!("{{\"a\":{}", "[".repeat(50));
    assert!(matches!(refuse(deep.as_bytes()), SessionError::Stream(SplitError::TooDeep(20))));
    assert!(matches!(refuse(b"[1]"), SessionError::Stream(SplitError::NotObject(b'['))));
    assert!(matches!(refuse(b"{]"), SessionError::Stream(SplitError::NotJson(_))));
    assert!(matches!(refuse(b"{\"id\":3}"), SessionError::Message(_)));
    assert!(matches!(refuse(b"{\"id\":3,\"method\":\"echo\",\"params\":{}}"), SessionError::Message(_)));
    assert!(matches!(refuse(b"{\"id\":3,\"result\":1,\"error\":null}"), SessionError::UnexpectedReply));
    // Two clients that each stay below the limit of a message share the limit of all.
    let slow = server.connect(None, Instant::ZERO).unwrap();
    server.receive(slow, format!("{{\"{}", "x".repeat(900)).as_bytes(), Instant::ZERO).unwrap();
    let slower = server.connect(None, Instant::ZERO).unwrap();
    let error =
        server.receive(slower, format!("{{\"{}", "x".repeat(900)).as_bytes(), Instant::ZERO).unwrap_err();
    assert!(matches!(error, SessionError::InputFull(1500)));
    let answers = send(&mut server, good, json!({"method": "echo", "id": 1, "params": [1]}), Instant::ZERO);
    assert_eq!(answers, [json!({"id": 1, "result": [1], "error": null})]);
}

#[test]
fn sessions_are_counted() {
    let limits = ServerLimits { sessions_max: 2, ..ServerLimits::default() };
    let mut server = support::server_with(open_vswitch(), None, limits);
    let first = server.connect(None, Instant::ZERO).unwrap();
    server.connect(None, Instant::ZERO).unwrap();
    assert!(matches!(server.connect(None, Instant::ZERO), Err(SessionError::TooMany)));
    server.disconnect(first);
    server.connect(None, Instant::ZERO).unwrap();
}

#[test]
fn a_client_that_stops_reading_is_dropped() {
    let limits = ServerLimits { output_bytes_max: 10_000, ..ServerLimits::default() };
    let mut server = support::server_with(open_vswitch(), None, limits);
    let deaf = server.connect(None, Instant::ZERO).unwrap();
    let watch = json!({"method": "monitor", "id": 0, "params": ["Open_vSwitch", 0, {"Queue": {}}]});
    server.receive(deaf, watch.to_string().as_bytes(), Instant::ZERO).unwrap();
    let writer = server.connect(None, Instant::ZERO).unwrap();
    let mut dropped = None;
    for round in 0..1000 {
        let answers = send(&mut server, writer, add_queue(round, 5), Instant::ZERO);
        assert!(answers[0]["result"][0]["uuid"].is_array());
        if let Some(closed) = server.take_closed().pop() {
            dropped = Some(closed);
            break;
        }
        assert!(server.output(deaf).len() < 12_000);
    }
    let (id, error) = dropped.expect("the deaf client is dropped");
    assert_eq!(id, deaf);
    assert!(matches!(error, SessionError::OutputFull(10_000)));
    assert!(server.output(deaf).is_empty());
}

#[test]
fn silent_clients_are_probed_then_dropped() {
    let mut server = server();
    let probe = Duration::from_secs(5);
    let alive = server.connect(Some(probe), Instant::ZERO).unwrap();
    let dead = server.connect(Some(probe), Instant::ZERO).unwrap();
    let unprobed = server.connect(None, Instant::ZERO).unwrap();
    assert_eq!(server.next_deadline(), Some(Instant::from_secs(5)));
    server.poll(Instant::from_millis(4_999));
    assert!(server.output(alive).is_empty());
    server.poll(Instant::from_secs(5));
    let probes = drain(&mut server, alive);
    assert_eq!(probes, [json!({"method": "echo", "id": "echo", "params": []})]);
    assert!(server.output(unprobed).is_empty());
    server.receive(alive, br#"{"id":"echo","result":[],"error":null}"#, Instant::from_secs(6)).unwrap();
    server.poll(Instant::from_secs(10));
    let closed = server.take_closed();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].0, dead);
    assert_eq!(server.next_deadline(), Some(Instant::from_secs(11)));
}

#[test]
fn locks_pass_on_when_their_owner_leaves() {
    let mut server = server();
    let [a, b, c] = [(); 3].map(|()| server.connect(None, Instant::ZERO).unwrap());
    let ask = |server: &mut Server, who, method: &str| {
        send(server, who, json!({"method": method, "id": 1, "params": ["L"]}), Instant::ZERO).pop().unwrap()
    };
    let assertion = transact(2, json!([{"op": "assert", "lock": "L"}]));
    assert_eq!(ask(&mut server, a, "lock")["result"]["locked"], true);
    assert_eq!(ask(&mut server, b, "lock")["result"]["locked"], false);
    assert_eq!(send(&mut server, b, assertion.clone(), Instant::ZERO)[0]["result"][0]["error"], "not owner");
    server.disconnect(a);
    assert_eq!(drain(&mut server, b)[0]["method"], "locked");
    assert_eq!(send(&mut server, b, assertion.clone(), Instant::ZERO)[0]["result"], json!([{}]));
    assert_eq!(ask(&mut server, c, "steal")["result"]["locked"], true);
    assert_eq!(drain(&mut server, b)[0]["method"], "stolen");
    assert_eq!(send(&mut server, b, assertion, Instant::ZERO)[0]["result"][0]["error"], "not owner");
    ask(&mut server, c, "unlock");
    assert_eq!(drain(&mut server, b)[0]["method"], "locked");
}

fn wait_for(id: u64, dscp: i64, timeout: Option<u64>) -> Value {
    let mut wait = json!({"op": "wait", "table": "Queue", "where": [["dscp", "==", dscp]], "columns": ["dscp"],
        "until": "==", "rows": [{"dscp": dscp}]});
    if let Some(ms) = timeout {
        wait["timeout"] = json!(ms);
    }
    transact(id, json!([wait, {"op": "insert", "table": "Queue", "row": {"dscp": dscp + 1}}]))
}

#[test]
fn waits_end_by_change_timeout_or_cancel() {
    let mut server = server();
    let [a, b] = [(); 2].map(|()| server.connect(None, Instant::ZERO).unwrap());
    // A chain: 1 waits for 10 and makes 11, 2 waits for 11.
    assert!(send(&mut server, a, wait_for(2, 11, None), Instant::ZERO).is_empty());
    assert!(send(&mut server, a, wait_for(1, 10, None), Instant::ZERO).is_empty());
    assert!(send(&mut server, a, wait_for(3, 50, Some(700)), Instant::ZERO).is_empty());
    assert!(send(&mut server, a, wait_for(4, 51, None), Instant::ZERO).is_empty());
    assert_eq!(server.next_deadline(), Some(Instant::from_millis(700)));
    let duplicate = send(&mut server, a, wait_for(4, 52, None), Instant::ZERO);
    assert_eq!(duplicate[0]["error"]["details"], "transact: duplicate request ID");
    send(&mut server, b, add_queue(9, 10), Instant::from_millis(5));
    let ids: Vec<Value> = drain(&mut server, a).iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [1, 2]);
    server.poll(Instant::from_millis(700));
    let late = drain(&mut server, a);
    assert_eq!(late[0]["id"], 3);
    assert_eq!(late[0]["result"][0]["details"], "\"wait\" timed out after 700 ms");
    let canceled =
        send(&mut server, a, json!({"method": "cancel", "id": null, "params": [4]}), Instant::ZERO);
    assert_eq!(canceled, [json!({"id": 4, "result": null, "error": "canceled"})]);
    assert_eq!(server.next_deadline(), None);
}

/// Carries bytes between a client and its session, in small pieces.
fn pump(server: &mut Server, id: SessionId, client: &mut Client, refuse: &[&str]) {
    loop {
        let up = client.output().to_vec();
        client.consume_output(up.len());
        let mut text = String::from_utf8(up).unwrap();
        for method in refuse {
            text = text.replace(&format!("\"{method}\""), "\"no_such_method\"");
        }
        for piece in text.as_bytes().chunks(7) {
            server.receive(id, piece, Instant::ZERO).unwrap();
        }
        server.poll(Instant::ZERO);
        let down = server.output(id).to_vec();
        server.consume_output(id, down.len());
        if text.is_empty() && down.is_empty() {
            return;
        }
        for piece in down.chunks(501) {
            client.receive(piece, Instant::ZERO).unwrap();
        }
    }
}

fn rows(replica: &Replica) -> Vec<String> {
    ["Open_vSwitch", "Bridge", "Port", "Interface"]
        .into_iter()
        .flat_map(|table| {
            replica.rows(table).map(move |row| {
                let columns: Vec<String> =
                    row.columns().map(|(c, datum)| format!("{}={datum}", c.name)).collect();
                format!("{table} {} {columns:?}", row.uuid())
            })
        })
        .collect()
}

#[test]
fn a_remote_replica_equals_a_local_one_whatever_the_server_understands() {
    let refusals: [&[&str]; 3] = [&[], &["monitor_cond_since"], &["monitor_cond_since", "monitor_cond"]];
    for refuse in refusals {
        let mut server = server();
        let (local_id, mut local) = server.subscribe_local("Open_vSwitch").unwrap();
        let id = server.connect(None, Instant::ZERO).unwrap();
        let options = ClientOptions { lock: Some("L".into()), ..ClientOptions::whole("Open_vSwitch") };
        let mut client = Client::new(options, None, Instant::ZERO);
        pump(&mut server, id, &mut client, refuse);
        let events: Vec<ClientEvent> = std::iter::from_fn(|| client.next_event()).collect();
        assert_eq!(events, [ClientEvent::Lock { held: true }, ClientEvent::Ready], "{refuse:?}");

        let mut make = Transaction::new();
        let interface = make.insert("Interface", [("name", json!("p1")), ("type", json!("internal"))]);
        let port = make
            .insert("Port", [("name", json!("p1")), ("interfaces", (&interface).into()), ("tag", json!(5))]);
        let bridge = make.insert("Bridge", [("name", json!("br0")), ("ports", (&port).into())]);
        make.insert("Open_vSwitch", [("bridges", Value::from(&bridge))]);
        let call = client.transact(make.operations());
        pump(&mut server, id, &mut client, refuse);
        let events: Vec<ClientEvent> = std::iter::from_fn(|| client.next_event()).collect();
        assert_eq!(events[0], ClientEvent::Changed, "the change is seen before the answer");
        let ClientEvent::Transacted { call: answered, results } = &events[1] else { panic!("{events:?}") };
        assert_eq!(*answered, call);
        outcome(results).unwrap();

        assert!(server.refresh_local(local_id, &mut local).unwrap());
        assert_eq!(local.take_changes().len(), 4);
        assert_eq!(rows(client.replica().unwrap()), rows(&local));
        let bridge = local.find("Bridge", "name", "br0").unwrap();
        let port = local.get("Port", bridge.uuids("ports").next().unwrap()).unwrap();
        assert_eq!((port.string("name"), port.integer("tag")), (Some("p1"), Some(5)));

        let mut change = Transaction::new();
        let row = RowRef::Uuid(bridge.uuid());
        change.verify("Bridge", &row, "name", &Datum::scalar("br0"));
        change.set_key("Bridge", &row, "other_config", "mac-table-size", "100");
        change.update("Port", &RowRef::Uuid(port.uuid()), [("tag", Value::from(Datum::empty()))]);
        let results = server.transact_local("Open_vSwitch", change.operations(), Instant::ZERO).unwrap();
        outcome(&results).unwrap();
        pump(&mut server, id, &mut client, refuse);
        server.refresh_local(local_id, &mut local).unwrap();
        assert_eq!(rows(client.replica().unwrap()), rows(&local));
        let changes = client.replica_mut().unwrap().take_changes();
        assert!(changes.len() >= 2);

        let delete = json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations":
            [["bridges", "delete", ["uuid", local.find("Bridge", "name", "br0").unwrap().uuid().to_string()]]]});
        outcome(&server.transact_local("Open_vSwitch", &[delete], Instant::ZERO).unwrap()).unwrap();
        pump(&mut server, id, &mut client, refuse);
        server.refresh_local(local_id, &mut local).unwrap();
        assert_eq!(rows(client.replica().unwrap()), rows(&local));
        assert_eq!(local.rows("Interface").count(), 0);

        // A new connection takes over the rows: only differences show.
        let mut again =
            Client::new(ClientOptions::whole("Open_vSwitch"), client.into_replica(), Instant::ZERO);
        let id = server.connect(None, Instant::ZERO).unwrap();
        pump(&mut server, id, &mut again, &[]);
        again.replica_mut().unwrap().take_changes();
        assert_eq!(rows(again.replica().unwrap()), rows(&local));
    }
}

#[test]
fn an_unknown_database_is_an_error_of_the_client() {
    let mut server = server();
    let id = server.connect(None, Instant::ZERO).unwrap();
    let mut client = Client::new(ClientOptions::whole("Nope"), None, Instant::ZERO);
    server.receive(id, client.output(), Instant::ZERO).unwrap();
    let error = client.receive(server.output(id), Instant::ZERO).unwrap_err();
    assert!(error.to_string().contains("unknown database"), "{error}");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let mut client = Client::new(ClientOptions::whole("Open_vSwitch"), None, Instant::ZERO);
    assert_eq!(client.poll(Instant::from_millis(4_999)), Ok(()));
    let before = client.output().len();
    client.poll(Instant::from_secs(5)).unwrap();
    assert!(client.output().len() > before);
    assert!(client.poll(Instant::from_secs(9)).is_ok());
    assert!(client.poll(Instant::from_secs(10)).is_err());
}
