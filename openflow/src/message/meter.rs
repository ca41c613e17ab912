//! What switches say about meters. The request that changes them is [`flowtable::meter::MeterMod`].

use super::PacketCount;
use flowtable::MeterId;
use flowtable::meter::MeterConfig;
use std::time::Duration;

/// A meter (`ofp_meter_config`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterDesc {
    /// Its number.
    pub meter: MeterId,
    /// What it does.
    pub config: MeterConfig,
}

/// Statistics of a meter (`ofp_meter_stats`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterStats {
    /// Its number.
    pub meter: MeterId,
    /// Rules that name it.
    pub flows: u32,
    /// What came.
    pub input: PacketCount,
    /// Its age.
    pub duration: Duration,
    /// What its bands did something to, in their order.
    pub bands: Vec<PacketCount>,
}
