//! A database in memory for tests: rows written by transactions, read through a replica.

use super::link::DATABASE;
use base::Instant;
use ovsdb::client::{Transaction, outcome};
use ovsdb::database::Database;
use ovsdb::replica::Replica;
use ovsdb::session::{LocalId, Server, ServerLimits, ServerOptions};
use serde_json::{Value, json};
use std::sync::Arc;

/// See the module's text.
pub struct Rows {
    server: Server,
    view: LocalId,
    /// The rows.
    pub replica: Replica,
}

impl Rows {
    /// A database with an empty root row.
    pub fn new() -> Rows {
        let mut last = 0u128;
        let options = ServerOptions {
            entropy: Box::new(move || {
                last += 1;
                last
            }),
            wall_clock_ms: Box::new(|| 0),
            limits: ServerLimits::default(),
        };
        let mut server = Server::new(options);
        server.add_database(Database::new(Arc::new(ovsdb::schema::open_vswitch().clone())), None);
        let (view, replica) = server.subscribe_local(DATABASE).expect("a view");
        let mut rows = Rows { server, view, replica };
        rows.run(&[json!({"op": "insert", "table": "Open_vSwitch", "row": {}})]);
        rows
    }

    /// Runs a transaction that succeeds.
    pub fn run(&mut self, operations: &[Value]) {
        let results = self.server.transact_local(DATABASE, operations, Instant::ZERO).expect("the database");
        outcome(&results).unwrap_or_else(|e| panic!("{operations:?}: {e}"));
        self.server.refresh_local(self.view, &mut self.replica).expect("the view");
    }

    /// Runs the switch's own transaction.
    pub fn write(&mut self, transaction: &Transaction) {
        self.run(transaction.operations());
    }

    /// Sets columns of the root row.
    pub fn root(&mut self, columns: Value) {
        self.run(&[json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": columns})]);
    }

    /// Adds a bridge with its own port and these: name, columns of the Port row, columns of the Interface row.
    pub fn bridge(&mut self, name: &str, columns: Value, ports: &[(&str, Value, Value)]) {
        let own = [(name, json!({}), json!({"type": "internal"}))];
        let mut operations = Vec::new();
        let mut ids = Vec::new();
        for (i, (port, port_columns, interface_columns)) in own.iter().chain(ports).enumerate() {
            let with = |columns: &Value, more: &[(&str, Value)]| {
                let mut row = columns.clone();
                more.iter().for_each(|(k, v)| row[k] = v.clone());
                row
            };
            let row = with(interface_columns, &[("name", json!(port))]);
            operations.push(
                json!({"op": "insert", "table": "Interface", "uuid-name": format!("i{i}"), "row": row}),
            );
            let interface = json!(["named-uuid", format!("i{i}")]);
            let row = with(port_columns, &[("name", json!(port)), ("interfaces", interface)]);
            operations
                .push(json!({"op": "insert", "table": "Port", "uuid-name": format!("p{i}"), "row": row}));
            ids.push(json!(["named-uuid", format!("p{i}")]));
        }
        let mut row = columns;
        row["name"] = json!(name);
        row["ports"] = json!(["set", ids]);
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": row}));
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["set", [["named-uuid", "b"]]]]]}));
        self.run(&operations);
    }

    /// Inserts a row and a reference to it into a set column of another: table, name and column.
    pub fn insert_into(&mut self, (table, name, column): (&str, &str, &str), new: &str, row: Value) {
        self.run(&[
            json!({"op": "insert", "table": new, "uuid-name": "n", "row": row}),
            json!({"op": "mutate", "table": table, "where": [["name", "==", name]],
                   "mutations": [[column, "insert", ["set", [["named-uuid", "n"]]]]]}),
        ]);
    }
}
