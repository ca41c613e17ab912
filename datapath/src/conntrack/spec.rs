//! What a `ct()` action asks for and what it gets: the vocabulary between programs and the tracker (ovs-actions(7),
//! ovs-fields(7)).

use super::connection::Connection;
use super::tuple::{Direction, Zone};
use crate::drop::Drop;
use std::net::IpAddr;
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

/// One `ct()` action.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CtSpec {
    /// The zone.
    pub zone: Zone,
    /// The connection is kept beyond this packet.
    pub commit: bool,
    /// A connection that stands the other way round is ended and begun anew; only with `commit`.
    pub force: bool,
    /// Translation; `None` never translates, whatever the connection was committed with.
    pub nat: Option<NatSpec>,
    /// `exec(set_field:value/mask->ct_mark)`: value, mask.
    pub mark: Option<(u32, u32)>,
    /// `exec(set_field:value/mask->ct_label)`: value, mask.
    pub label: Option<(u128, u128)>,
    /// The application layer gateway of a connection committed here.
    pub alg: Option<Alg>,
    /// The timeouts of a connection committed here; `None` for those of its zone.
    pub timeout: Option<TimeoutPolicyId>,
}

/// An application layer gateway: a reader of control connections that foresees the connections they agree on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alg {
    /// FTP (RFC 959, RFC 2428).
    Ftp,
    /// TFTP (RFC 1350).
    Tftp,
}

impl Alg {
    /// As it stands in `alg=`.
    pub const fn name(self) -> &'static str {
        match self {
            Alg::Ftp => "ftp",
            Alg::Tftp => "tftp",
        }
    }
}

/// Names a set of timeouts in [`CtConfig::policies`](super::CtConfig::policies).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimeoutPolicyId(pub u32);

impl TimeoutPolicyId {
    /// The largest that a connection can have of its own; zones may have any.
    pub const MAX: TimeoutPolicyId = TimeoutPolicyId(u16::MAX as u32 - 1);
}

/// Which end of a new connection is translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NatKind {
    /// The source of the original direction.
    Src,
    /// The destination of the original direction.
    Dst,
}

/// How a port is chosen from a range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum PortSelection {
    /// The packet's own port if it is in the range and free, else any.
    #[default]
    Default,
    /// By a hash of the tuple.
    Hash,
    /// By chance.
    Random,
}

/// The `nat` argument. Made by [`NatSpec::new`], so that ranges are never inverted nor of two families.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct NatSpec {
    /// `None` is bare `nat`: apply what the connection has.
    pub kind: Option<NatKind>,
    /// First address; `None` keeps the address.
    pub min_ip: Option<IpAddr>,
    /// Last address; `None` if there is only one.
    pub max_ip: Option<IpAddr>,
    /// First port; `None` keeps the port unless the tuple is taken.
    pub min_port: Option<u16>,
    /// Last port; `None` if there is only one.
    pub max_port: Option<u16>,
    /// How the port is chosen.
    pub selection: PortSelection,
    /// The address is chosen by the packet's address alone and the same way after a restart.
    pub persistent: bool,
}

/// Why a translation cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NatSpecError {
    /// First address after the last.
    #[error("the address range is inverted")]
    InvertedAddresses,
    /// One address of IPv4, one of IPv6.
    #[error("the address range is of two families")]
    MixedFamilies,
    /// First port after the last.
    #[error("the port range is inverted")]
    InvertedPorts,
    /// A range that begins with port 0.
    #[error("port 0 is no port")]
    PortZero,
    /// An end of a range without its beginning, or a range without `src` or `dst`.
    #[error("a range without a beginning or without src or dst")]
    Incomplete,
}

impl NatSpec {
    /// Bare `nat`.
    pub fn apply() -> NatSpec {
        NatSpec::default()
    }

    /// A translation of new connections. An all-zero first address stands for the packet's own (`nat(src=0.0.0.0)`).
    ///
    /// # Errors
    /// [`NatSpecError`] for ranges that are inverted, of two families, begin with port 0, or have no beginning.
    pub fn new(
        kind: NatKind,
        addresses: (Option<IpAddr>, Option<IpAddr>),
        ports: (Option<u16>, Option<u16>),
        selection: PortSelection,
        persistent: bool,
    ) -> Result<NatSpec, NatSpecError> {
        let spec = NatSpec {
            kind: Some(kind),
            min_ip: addresses.0,
            max_ip: addresses.1,
            min_port: ports.0,
            max_port: ports.1,
            selection,
            persistent,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Whether the fields go together, for values that were not made by [`new`](Self::new).
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), NatSpecError> {
        match (self.min_ip, self.max_ip) {
            (None, Some(_)) => return Err(NatSpecError::Incomplete),
            (Some(min), Some(max)) if min.is_ipv6() != max.is_ipv6() => {
                return Err(NatSpecError::MixedFamilies);
            }
            (Some(min), Some(max)) if min > max => return Err(NatSpecError::InvertedAddresses),
            _ => {}
        }
        match (self.min_port, self.max_port) {
            (None, Some(_)) => return Err(NatSpecError::Incomplete),
            (Some(0), _) => return Err(NatSpecError::PortZero),
            (Some(min), Some(max)) if min > max => return Err(NatSpecError::InvertedPorts),
            _ => {}
        }
        if self.kind.is_none() && (self.min_ip.is_some() || self.min_port.is_some()) {
            return Err(NatSpecError::Incomplete);
        }
        Ok(())
    }
}

/// The bits of `ct_state` (ovs-fields(7)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CtState(pub u32);

impl CtState {
    /// Not seen by a tracker.
    pub const NONE: CtState = CtState(0);
    /// Of a connection that no reply was seen of yet, or that is not committed.
    pub const NEW: CtState = CtState(0x01);
    /// Of a committed connection that packets of both directions were seen of.
    pub const EST: CtState = CtState(0x02);
    /// Related to a committed connection.
    pub const REL: CtState = CtState(0x04);
    /// In the reply direction of a committed connection.
    pub const RPL: CtState = CtState(0x08);
    /// Not to be made sense of.
    pub const INV: CtState = CtState(0x10);
    /// Went through the tracker.
    pub const TRK: CtState = CtState(0x20);
    /// Its source was translated.
    pub const SNAT: CtState = CtState(0x40);
    /// Its destination was translated.
    pub const DNAT: CtState = CtState(0x80);

    /// The names, in the order of the bits.
    pub const NAMES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: CtState) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn any(self, other: CtState) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of `other` only.
    #[inline]
    #[must_use]
    pub const fn only(self, other: CtState) -> CtState {
        CtState(self.0 & other.0)
    }
}

impl BitOr for CtState {
    type Output = CtState;
    #[inline]
    fn bitor(self, other: CtState) -> CtState {
        CtState(self.0 | other.0)
    }
}

impl BitOrAssign for CtState {
    #[inline]
    fn bitor_assign(&mut self, other: CtState) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for CtState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = CtState::NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 != 0);
        f.write_str(&set.map(|(_, name)| *name).collect::<Vec<_>>().join("|"))
    }
}

/// What a program was composed under: everything that a table can see of the connection and that is not in the 5-tuple.
/// The state bits in the low half; in the high half a revision that no two connections share and that changes with mark
/// and label, 0 for packets without a committed connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CtClass(pub u64);

impl CtClass {
    /// From its parts.
    #[inline]
    pub const fn new(state: CtState, revision: u32) -> CtClass {
        CtClass((revision as u64) << 32 | state.0 as u64)
    }

    /// The state bits.
    #[inline]
    pub const fn state(self) -> CtState {
        CtState(self.0 as u32)
    }

    /// The revision.
    #[inline]
    pub const fn revision(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl std::fmt::Debug for CtClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}#{}", self.state(), self.revision())
    }
}

/// What one pass through the tracker found.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// What the rest of the program depends on.
    pub class: CtClass,
    /// The state bits, as in `class`.
    pub state: CtState,
    /// The connection, if it was there before the packet, the packet was found by its own tuple, and what comes next will
    /// hardly change its state (it is established, or sends one way without a state machine): then a cached flow may hold
    /// it and call [`track_held`](super::ConnTracker::track_held). Not for ICMP errors and control connections.
    pub hold: Option<(Arc<Connection>, Direction)>,
    /// Set if the packet must not go on: it was to be translated and could not be.
    pub drop: Option<Drop>,
    /// Connections made for the packet, those among them whose tuples another has, and ended to make room: its work.
    pub changes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(ips: (Option<&str>, Option<&str>), ports: (Option<u16>, Option<u16>)) -> Result<(), NatSpecError> {
        let ip = |s: Option<&str>| s.map(|s| s.parse().unwrap());
        NatSpec::new(NatKind::Src, (ip(ips.0), ip(ips.1)), ports, PortSelection::Default, false).map(|_| ())
    }

    #[test]
    fn impossible_ranges_are_refused() {
        use NatSpecError::*;
        assert_eq!(nat((Some("10.0.0.1"), Some("10.0.0.9")), (Some(1), Some(9))), Ok(()));
        assert_eq!(nat((Some("10.0.0.9"), Some("10.0.0.1")), (None, None)), Err(InvertedAddresses));
        assert_eq!(nat((Some("10.0.0.1"), Some("::1")), (None, None)), Err(MixedFamilies));
        assert_eq!(nat((None, Some("10.0.0.1")), (None, None)), Err(Incomplete));
        assert_eq!(nat((Some("10.0.0.1"), None), (Some(9), Some(1))), Err(InvertedPorts));
        assert_eq!(nat((Some("10.0.0.1"), None), (Some(0), Some(1))), Err(PortZero));
        let bare = NatSpec { min_port: Some(1), ..NatSpec::apply() };
        assert_eq!(bare.check(), Err(Incomplete));
    }
}
