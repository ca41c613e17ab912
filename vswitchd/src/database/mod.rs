//! The Open_vSwitch database: what it wants of the switch ([`read`]), and what the switch reports back ([`write`]).

pub mod link;
pub mod read;
#[cfg(test)]
mod testing;
pub mod write;

use ovsdb::replica::{Replica, RowView};
use ovsdb::value::Atom;

/// Keys of `Open_vSwitch:datapaths` that stand for our one datapath.
const DATAPATHS: [&str; 2] = ["system", "netdev"];

/// The rows of the Datapath table that are about our datapath; `netdev`, whose word is the last, comes last.
fn datapaths<'a>(replica: &'a Replica, root: &RowView<'a>) -> impl Iterator<Item = RowView<'a>> {
    let rows = root.map("datapaths");
    DATAPATHS.iter().filter_map(move |name| match rows?.get(&Atom::from((*name).to_owned()))? {
        Atom::Uuid(id) => replica.get("Datapath", *id),
        _ => None,
    })
}
