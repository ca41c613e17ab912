//! Flows and ports of a bridge: an OpenFlow controller for a moment, on the socket that the switch keeps for tools.
//!
//! OpenFlow 1.4 is preferred, because in it every action comes back as it was written and bundles exist; other versions
//! are taken where a bridge allows no other, and 1.0 for what only it can say: flooding, and setting a VLAN tag whether or
//! not there is one.

mod connection;
mod dump;
mod flows;
mod packets;
mod ports;
mod text;

use anyhow::bail;

use crate::args::Command;
use crate::clock::Deadline;
use crate::console::{Answer, Paint};
use crate::rundir::RunDir;

pub use packets::monitor;
pub use ports::counters;
pub use text::BadText;

/// Runs a command about flows or ports, but for `monitor`.
///
/// # Errors
/// Anything that kept it from being done, in words for the user.
pub fn run(command: &Command, rundir: &RunDir, deadline: Deadline, paint: Paint) -> anyhow::Result<Answer> {
    match command {
        Command::AddFlow(args) => flows::add(args, rundir, deadline),
        Command::AddFlows(args) => flows::add_file(args, rundir, deadline),
        Command::ModFlows(args) => flows::modify(args, rundir, deadline),
        Command::DelFlows(args) => flows::delete(args, rundir, deadline),
        Command::DumpFlows(args) => dump::dump(args, rundir, deadline),
        Command::Tables(args) => dump::tables(args, rundir, deadline, paint),
        Command::ShowPorts(args) => ports::show(args, rundir, deadline, paint),
        Command::DumpPorts(args) => ports::dump(args, rundir, deadline, paint),
        Command::ModPort(args) => ports::modify(args, rundir, deadline),
        Command::PacketOut(args) => packets::send(args, rundir, deadline),
        other => bail!("{other:?} is not about flows"),
    }
}
