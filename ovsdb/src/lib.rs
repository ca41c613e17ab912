//! OVSDB (RFC 7047, with the extensions of ovsdb-server(7)): the configuration database of a switch.
//!
//! | module | is |
//! | --- | --- |
//! | [`value`] | atoms, sets and maps; JSON both ways |
//! | [`schema`] | database schemas; those of `Open_vSwitch` and `_Server` |
//! | [`database`] | rows, transactions, integrity |
//! | [`log`] | the journal on disk; the only part that touches files |
//! | [`rpc`] | JSON-RPC over a byte stream |
//! | [`session`] | the server: sessions, monitors, locks, group commit |
//! | [`client`] | the client's end, and writing transactions |
//! | [`replica`] | a copy of a database that follows it, in the process or over a connection |
//! | [`text`] | values as `ovs-vsctl` prints and reads them |
//!
//! It knows no sockets, threads, clocks or switch: bytes, time and randomness are arguments, and whoever hosts it decides
//! what the rows mean.
//!
//! Invariants:
//! - A reply leaves only after the journal record of its transaction is durable; a transaction that cannot be written
//!   changes nothing.
//! - A database always satisfies its schema: types, constraints, references, unique indexes, row counts.
//! - Whatever bytes a client sends, at most its own session ends.
//! - What a client can make the server hold is bounded ([`session::ServerLimits`]).

pub mod client;
pub mod database;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod log;
mod members;
pub mod replica;
pub mod rpc;
pub mod schema;
pub mod session;
pub mod text;
pub mod uuid;
pub mod value;
