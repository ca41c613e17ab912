//! What reassembly may hold, and who answers for it.

use std::time::Duration;

/// Fragments held at most unless configured otherwise: ipf-set-max-nfrags of ovs-dpctl(8).
pub const FRAGMENTS_DEFAULT: usize = 1_000;
/// Most that it can be configured to; ovs-dpctl(8) has the same.
pub const FRAGMENTS_MAX: usize = 5_000;
/// Least IPv4 packet size of a fragment that is not the last, in bytes, unless configured otherwise (ovs-dpctl(8),
/// ipf-set-min-frag).
pub const MIN_V4_DEFAULT: usize = 1_200;
/// The same for IPv6: no link of less than 1,280 bytes carries it (RFC 8200 section 5).
pub const MIN_V6_DEFAULT: usize = 1_280;
/// Least that either can be configured to.
pub const MIN_SIZE_MIN: usize = 400;
/// How long a datagram may be incomplete. Linux waits as long; Open vSwitch 15 s, RFC 8200 section 4.5 says 60 s.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Fragments of one datagram: the longest packet in fragments of [`MIN_SIZE_MIN`] bytes needs 175.
pub const DATAGRAM_FRAGMENTS_MAX: usize = 176;

/// Bytes that a held fragment takes besides its own: headroom, frame state, and its place in the tables.
pub const FRAGMENT_OVERHEAD: usize = 512;
/// Bytes that a datagram takes besides its fragments.
pub const DATAGRAM_OVERHEAD: usize = 512;

/// Bytes that [`FRAGMENTS_DEFAULT`] fragments may take: enough for all of them at an Ethernet MTU, and more.
const BYTES_PER_FRAGMENT: usize = 4_096;

/// How much may be held; each of the three is a limit of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentBudget {
    /// Incomplete datagrams, those given up but not yet forgotten among them.
    pub datagrams: usize,
    /// Fragments.
    pub fragments: usize,
    /// Bytes of memory, overhead counted.
    pub bytes: usize,
}

impl FragmentBudget {
    /// For so many fragments: as many datagrams, and 4 KiB a fragment, but room for one datagram of the greatest size.
    pub const fn of(fragments: usize) -> FragmentBudget {
        let one = 65_535 + DATAGRAM_OVERHEAD + DATAGRAM_FRAGMENTS_MAX * FRAGMENT_OVERHEAD;
        let bytes = fragments * BYTES_PER_FRAGMENT;
        FragmentBudget { datagrams: fragments, fragments, bytes: if bytes > one { bytes } else { one } }
    }
}

/// Limits of reassembly, for each worker.
///
/// A source is an address at an ingress port: whoever forges addresses takes from the share of its own port, never from
/// the share of somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentLimits {
    /// Everything together. When it is used up the port that holds most bytes loses its oldest datagram.
    pub total: FragmentBudget,
    /// One ingress port, which beyond it loses its own oldest datagram.
    pub port: FragmentBudget,
    /// One source address at one port, which beyond it loses its own oldest datagram.
    pub source: FragmentBudget,
    /// Fragments of one datagram.
    pub per_datagram: usize,
    /// How long a datagram may be incomplete, from its first fragment on.
    pub timeout: Duration,
    /// Least IPv4 packet size of a fragment that is not the last, in bytes.
    pub min_v4: usize,
    /// The same for IPv6, in bytes, IPv6 header counted.
    pub min_v6: usize,
    /// Whether IPv4 fragments are put together at all; else they are refused with [`Drop::Fragment`](crate::Drop::Fragment).
    pub is_v4_enabled: bool,
    /// The same for IPv6.
    pub is_v6_enabled: bool,
}

impl FragmentLimits {
    /// The default limits scaled to so many fragments, at most [`FRAGMENTS_MAX`]: a quarter of them a port, an eighth a
    /// source, but as many as the greatest datagram has at the default least size.
    pub fn of(fragments: usize) -> FragmentLimits {
        let fragments = fragments.min(FRAGMENTS_MAX);
        let part = |n| fragments.div_ceil(n).max(65_535usize.div_ceil(MIN_V4_DEFAULT)).min(fragments);
        FragmentLimits {
            total: FragmentBudget::of(fragments),
            port: FragmentBudget::of(part(4)),
            source: FragmentBudget::of(part(8)),
            per_datagram: DATAGRAM_FRAGMENTS_MAX,
            timeout: TIMEOUT_DEFAULT,
            min_v4: MIN_V4_DEFAULT,
            min_v6: MIN_V6_DEFAULT,
            is_v4_enabled: true,
            is_v6_enabled: true,
        }
    }
}

impl Default for FragmentLimits {
    fn default() -> Self {
        FragmentLimits::of(FRAGMENTS_DEFAULT)
    }
}
