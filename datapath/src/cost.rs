//! What frames make a worker do: counted, not timed, so that turns go by work (`worker::turns`) and a simulator can repeat them.
//!
//! A unit is a tenth of [`FRAME`]. The weights are ratios of measured times (docs/performance.md, "Turns"), which count caches and
//! locks as instructions do not; what memory far away costs cannot be counted. Where a frame may make the worker do a thing often,
//! such as try the ports of a translation, each time counts.

/// A frame between ports in memory that hits a cached flow with one output.
pub const FRAME: u32 = 10;
/// The same where the kernel moves it, which is nearly all that it costs: TAPs, packet and AF_XDP sockets, tunnels.
pub const KERNEL_FRAME: u32 = 500;
/// More for a pass of a chain: a connection's state machine, and its translation.
pub const LINK: u32 = 5;
/// More for a frame that must be handled by itself, whatever becomes of it.
pub const LONG_WAY: u32 = 10;
/// More for each further look-up of a frame, after a recirculation.
pub const LOOK_UP: u32 = 20;
/// A translation, but for the tables that it asks.
pub const TRANSLATION: u32 = 100;
/// A table that a translation asks.
pub const TABLE: u32 = 40;
/// A side effect of a translation: a lock, and an entry made or moved.
pub const EFFECT: u32 = 40;
/// A flow that gets a place in the cache.
pub const INSERTION: u32 = 40;
/// A pass through the tracker with a look-up.
pub const TRACK: u32 = 20;
/// A connection that is made, though another may have its tuple, or ended to make room.
pub const CONNECTION: u32 = 80;
/// A fragment that is put to others.
pub const FRAGMENT: u32 = 20;
/// A copy for a controller.
pub const COPY: u32 = 20;
