//! The `_Server` database, by which clients learn what else is served (ovsdb-server(5)).

use std::sync::Arc;

use super::Server;
use crate::database::{Commit, Row, RowDelta};
use crate::schema::{self, DatabaseSchema, default_columns};
use crate::uuid::Uuid;
use crate::value::{Atom, Datum};

impl Server {
    /// Adds the row that describes a database, or replaces it.
    pub(super) fn announce(&mut self, described: &DatabaseSchema) {
        let own = schema::server();
        let Some(table) = own.table_index("Database") else { return };
        let table_schema = own.table_at(table);
        let mut columns = default_columns(table_schema);
        let mut set = |name: &str, value: Atom| {
            if let Some(slot) = table_schema.column_index(name).and_then(|index| columns.get_mut(index.0)) {
                *slot = Datum::scalar(value);
            }
        };
        set("name", Atom::from(described.name.as_str()));
        set("model", Atom::from("standalone"));
        set("connected", Atom::from(true));
        set("leader", Atom::from(true));
        set("schema", Atom::from(described.to_json().to_string()));
        let row = Arc::new(Row { version: Uuid::random(&mut *self.options.entropy), columns });
        let Some(hosted) = self.databases.get_mut(&own.name) else { return };
        let name = Datum::scalar(described.name.as_str());
        let name_at = table_schema.column_index("name");
        let found = hosted
            .database
            .rows(table)
            .find(|(_, row)| name_at.and_then(|index| row.columns.get(index.0)) == Some(&name))
            .map(|(uuid, row)| (uuid, row.clone()));
        let (uuid, old) = match found {
            Some((uuid, old)) => (uuid, Some(old)),
            None => (Uuid::random(&mut *self.options.entropy), None),
        };
        let commit =
            Arc::new(Commit { changes: vec![RowDelta { table, uuid, old, new: Some(row) }], comment: None });
        hosted.database.apply(&commit);
        self.publish(&own.name, &commit);
    }
}
