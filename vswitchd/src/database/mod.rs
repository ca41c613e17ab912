//! The Open_vSwitch database: what it wants of the switch ([`read`]), and what the switch reports back ([`write`]).

pub mod link;
pub mod read;
#[cfg(test)]
mod testing;
pub mod write;
