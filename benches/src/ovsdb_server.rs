//! An OVSDB server in memory with a bridge of so many ports, and a client that watches it as a daemon does.

use base::Instant;
use ovsdb::database::Database;
use ovsdb::schema;
use ovsdb::session::{Server, ServerLimits, ServerOptions, SessionId};
use serde_json::{Value, json};
use std::sync::Arc;

/// Name of the row that [`OvsdbServer::add_port`] makes.
const PORT_UUID: &str = "11111111-2222-4333-8444-555555555555";

/// A server without a journal, so that no disk is measured.
pub struct OvsdbServer {
    server: Server,
    writer: SessionId,
    watcher: SessionId,
    add: Vec<u8>,
    remove: Vec<u8>,
}

fn transact(operations: &[Value]) -> Vec<u8> {
    let mut params = vec![json!("Open_vSwitch")];
    params.extend_from_slice(operations);
    json!({"method": "transact", "id": 1, "params": params}).to_string().into_bytes()
}

fn mutate_bridge(mutation: &Value) -> Value {
    json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]], "mutations": [mutation]})
}

/// What ovs-vsctl add-port asks for, in the essentials.
fn add_port(name: &str, port: &Value) -> Vec<Value> {
    let mut insert = json!({
        "op": "insert", "table": "Port",
        "row": {"name": name, "interfaces": ["set", [["named-uuid", "i"]]]},
    });
    let reference = match port {
        Value::String(uuid) => {
            insert["uuid"] = json!(uuid);
            json!(["uuid", uuid])
        }
        _ => {
            insert["uuid-name"] = json!("p");
            json!(["named-uuid", "p"])
        }
    };
    vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": name, "type": "dummy"}}),
        insert,
        mutate_bridge(&json!(["ports", "insert", ["set", [reference]]])),
    ]
}

impl OvsdbServer {
    /// With so many ports in its bridge.
    pub fn new(ports: usize) -> OvsdbServer {
        let mut state = 1u128;
        let options = ServerOptions {
            entropy: Box::new(move || {
                state = state.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x9e37_79b9_7f4a_7c15);
                state ^ state >> 57
            }),
            wall_clock_ms: Box::new(|| 1_700_000_000_000),
            limits: ServerLimits::default(),
        };
        let mut server = Server::new(options);
        server.add_database(Database::new(Arc::new(schema::open_vswitch().clone())), None);
        let writer = server.connect(None, Instant::ZERO).unwrap();
        let watcher = server.connect(None, Instant::ZERO).unwrap();
        let remove = mutate_bridge(&json!(["ports", "delete", ["set", [["uuid", PORT_UUID]]]]));
        let mut made = OvsdbServer {
            server,
            writer,
            watcher,
            add: transact(&add_port("extra", &json!(PORT_UUID))),
            remove: transact(&[remove]),
        };
        made.request(&transact(&[
            json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br0"}}),
            json!({"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["set", [["named-uuid", "b"]]]}}),
        ]));
        for n in 0..ports {
            made.request(&transact(&add_port(&format!("p{n}"), &Value::Null)));
        }
        let tables = json!({"Bridge": {}, "Port": {}, "Interface": {}});
        let watch = json!({"method": "monitor", "id": 0, "params": ["Open_vSwitch", 0, tables]});
        made.server.receive(watcher, watch.to_string().as_bytes(), Instant::ZERO).unwrap();
        made.poll();
        made
    }

    fn request(&mut self, bytes: &[u8]) -> (usize, usize) {
        self.server.receive(self.writer, bytes, Instant::ZERO).unwrap();
        self.poll()
    }

    /// Bytes of reply and notification.
    fn poll(&mut self) -> (usize, usize) {
        self.server.poll(Instant::ZERO);
        let (reply, notification) =
            (self.server.output(self.writer).len(), self.server.output(self.watcher).len());
        self.server.consume_output(self.writer, reply);
        self.server.consume_output(self.watcher, notification);
        (reply, notification)
    }

    /// Adds a port: three operations, a reply and a notification. Returns the bytes of both.
    pub fn add_port(&mut self) -> (usize, usize) {
        let request = std::mem::take(&mut self.add);
        let sizes = self.request(&request);
        self.add = request;
        sizes
    }

    /// Takes the port out again.
    pub fn remove_port(&mut self) -> (usize, usize) {
        let request = std::mem::take(&mut self.remove);
        let sizes = self.request(&request);
        self.remove = request;
        sizes
    }

    /// Rows of a table.
    pub fn row_count(&self, table: &str) -> usize {
        let database = self.server.database("Open_vSwitch").unwrap();
        database.row_count(database.schema().table_index(table).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_comes_and_goes() {
        let mut server = OvsdbServer::new(10);
        assert_eq!((server.row_count("Bridge"), server.row_count("Port")), (1, 10));
        for _ in 0..3 {
            let (_, notification) = server.add_port();
            assert!(notification > 0, "the watcher is told");
            assert_eq!((server.row_count("Port"), server.row_count("Interface")), (11, 11));
            server.remove_port();
            assert_eq!((server.row_count("Port"), server.row_count("Interface")), (10, 10));
        }
    }
}
