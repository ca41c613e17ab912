//! Meters (OpenFlow 1.3.5 §5.7).

/// Number of a meter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MeterId(pub u32);

impl MeterId {
    /// Highest number that a meter can have (`OFPM_MAX`).
    pub const MAX: MeterId = MeterId(0xffff_0000);
    /// The meter of the slow path, which cannot be named by rules (`OFPM_SLOWPATH`).
    pub const SLOWPATH: MeterId = MeterId(0xffff_fffd);
    /// The meter of frames for controllers (`OFPM_CONTROLLER`).
    pub const CONTROLLER: MeterId = MeterId(0xffff_fffe);
    /// Every meter, in requests (`OFPM_ALL`).
    pub const ALL: MeterId = MeterId(0xffff_ffff);
}
