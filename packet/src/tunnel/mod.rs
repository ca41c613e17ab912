//! Tunnel headers: pushed in front of a frame ([`push()`]), checked and stripped ([`pop()`]), and the answer to a sender whose
//! packet does not fit ([`too_big()`]).
//!
//! VXLAN (RFC 7348) with group policy (draft-smith-vxlan-group-policy), Geneve (RFC 8926), GRE (RFC 2784, 2890) with
//! Ethernet in it, and the format of flannel's UDP backend: a bare IPv4 packet in UDP. Which tunnel a frame goes to or came
//! from, routes and neighbours belong to the switch; sockets and devices to `datapath`. Everything a header needs that does
//! not stand in the frame is in a [`TunnelPush`]; everything a header says is put in the `TUN_*` slots of a key.
//!
//! Congestion marks follow RFC 6040 in both directions. Reserved bits that the RFCs tell to ignore are ignored, all
//! else that is wrong in a header is a [`TunnelError`] and leaves the frame as it was, but for a partial checksum, which may
//! have been completed.

mod ecn;
mod options;
mod outer;
mod pop;
mod push;
mod too_big;

use std::fmt;
use std::net::IpAddr;

pub use ecn::{decapsulated, encapsulated};
pub use options::{GeneveMap, GeneveMapError, GeneveOption};
pub use pop::pop;
pub(crate) use pop::{GRE_CHECKSUM, GRE_SEQUENCE};
pub use push::{inner_mtu, overhead, push, push_uncut};
pub use too_big::too_big;

/// UDP port of VXLAN (IANA, RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// UDP port of Geneve (IANA, RFC 8926 section 3.3).
pub const GENEVE_PORT: u16 = 6081;
/// Default UDP port of flannel's UDP backend.
pub const FLANNEL_PORT: u16 = 8285;
/// Most bytes of Geneve options: the length field counts 6 bits of words (RFC 8926 section 3.4).
pub const GENEVE_OPTIONS_MAX: usize = 63 * 4;
/// Source ports of tunnel packets: the dynamic range (RFC 6335), as RFC 7348 section 5 and RFC 8926 section 3.3 advise.
/// Open vSwitch takes the wider 32768–61000, the default of Linux for local ports.
pub const SOURCE_PORT_MIN: u16 = 49_152;
/// TTL of the outer header where the frame has none to inherit, and where nothing else is configured.
pub const TTL_DEFAULT: u8 = 64;

/// What stands between the outer IP header and the inner frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TunnelProtocol {
    /// RFC 7348: 8 bytes in UDP; the VNI has 24 bits.
    Vxlan,
    /// RFC 8926: 8 bytes and options in UDP; the VNI has 24 bits.
    Geneve,
    /// RFC 2784 and 2890: 4 to 12 bytes in IP; the key has 32 bits or is absent.
    Gre,
    /// flannel's UDP backend: nothing. The inner frame loses its Ethernet header and must be IPv4.
    Flannel,
}

impl TunnelProtocol {
    /// The UDP destination port unless another is configured; 0 for GRE, which has none.
    pub const fn default_port(self) -> u16 {
        match self {
            TunnelProtocol::Vxlan => VXLAN_PORT,
            TunnelProtocol::Geneve => GENEVE_PORT,
            TunnelProtocol::Gre => 0,
            TunnelProtocol::Flannel => FLANNEL_PORT,
        }
    }

    /// Whether the header is carried in UDP.
    pub const fn is_udp(self) -> bool {
        !matches!(self, TunnelProtocol::Gre)
    }
}

/// A field of the outer header: given, or taken from the inner one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Inherit<T> {
    /// This value.
    Value(T),
    /// That of the inner IP header; where the frame has none, 0 for the TOS and [`TTL_DEFAULT`] for the TTL.
    Inherit,
}

/// All that a push needs that is not in the frame. Programs share it behind an `Arc`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TunnelPush {
    /// Which header.
    pub protocol: TunnelProtocol,
    /// Source of the outer Ethernet header; zeros where the host routes.
    pub eth_src: [u8; 6],
    /// Destination of the outer Ethernet header; zeros where the host routes.
    pub eth_dst: [u8; 6],
    /// Outer source address; of the same family as `dst`.
    pub src: IpAddr,
    /// Outer destination address.
    pub dst: IpAddr,
    /// Outer TOS or traffic class. Of a value only the DSCP counts; the ECN bits follow RFC 6040.
    pub tos: Inherit<u8>,
    /// Outer TTL or hop limit.
    pub ttl: Inherit<u8>,
    /// Don't Fragment in the outer IPv4 header; nothing over IPv6.
    pub df: bool,
    /// Fill the checksum of the UDP header, or add one to the GRE header. [`TunnelPush::new`] sets it for UDP over IPv6,
    /// where no checksum is an exception that receivers must have been told of (RFC 6935, 6936).
    pub csum: bool,
    /// UDP destination port; not used by GRE.
    pub dst_port: u16,
    /// VNI (24 bits, 0 if `None`) or GRE key (32 bits, absent if `None`). Higher bits are ignored, as Open vSwitch does.
    pub vni: Option<u64>,
    /// VXLAN group policy: id, and the D (0x40) and A (0x08) flags. `None` sends plain VXLAN.
    pub gbp: Option<(u16, u8)>,
    /// The O bit of Geneve.
    pub oam: bool,
    /// Geneve options as on the wire, see [`GeneveMap::encode`]; at most [`GENEVE_OPTIONS_MAX`] bytes.
    pub options: Box<[u8]>,
    /// Largest outer IP packet, in bytes with its header; longer ones are [`TunnelError::TooBig`].
    pub mtu: u16,
}

impl TunnelPush {
    /// Between two addresses with the defaults of ovs-vswitchd.conf.db(5): TOS 0, TTL 64, Don't Fragment, the protocol's
    /// port, checksum over IPv6 only; for a link MTU of 1500.
    pub fn new(protocol: TunnelProtocol, src: IpAddr, dst: IpAddr) -> TunnelPush {
        TunnelPush {
            protocol,
            eth_src: [0; 6],
            eth_dst: [0; 6],
            src,
            dst,
            tos: Inherit::Value(0),
            ttl: Inherit::Value(TTL_DEFAULT),
            df: true,
            csum: dst.is_ipv6() && protocol.is_udp(),
            dst_port: protocol.default_port(),
            vni: None,
            gbp: None,
            oam: false,
            options: Box::default(),
            mtu: 1500,
        }
    }
}

/// Why a header was not pushed or popped; each is a drop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TunnelError {
    /// The frame is still to be cut into segments.
    SuperFrame,
    /// Pushing: the outer packet would be longer than the tunnel's MTU.
    TooBig,
    /// Pushing: one outer address is IPv4 and the other IPv6.
    Addresses,
    /// Pushing: the frame has no IPv4 packet, and the protocol carries nothing else.
    NotIpv4,
    /// The frame is not a packet of the tunnel's protocol.
    NotTunnel,
    /// A length field says more than there is, or less than a header needs.
    Length,
    /// The packet is a fragment.
    Fragment,
    /// The checksum of the outer IPv4, UDP or GRE header is wrong.
    Checksum,
    /// The version of the tunnel header is not 0.
    Version,
    /// Flags that may not be ignored are set, or the I flag of VXLAN is not.
    Flags,
    /// The payload is not what the tunnel carries.
    Payload,
    /// Geneve options overrun their space, or there is too much of them.
    Options,
    /// A Geneve option marked critical is not mapped, or has another length than the mapping says.
    CriticalOption,
    /// The network marked congestion and the inner packet cannot say so (RFC 6040 section 4.2).
    Congestion,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelError::SuperFrame => "frame is still to be segmented",
            TunnelError::TooBig => "packet does not fit the MTU of the tunnel",
            TunnelError::Addresses => "outer addresses of two families",
            TunnelError::NotIpv4 => "tunnel carries IPv4 only",
            TunnelError::NotTunnel => "not a packet of the tunnel's protocol",
            TunnelError::Length => "lengths of the outer headers contradict each other",
            TunnelError::Fragment => "outer packet is a fragment",
            TunnelError::Checksum => "wrong checksum in the outer headers",
            TunnelError::Version => "unknown version of the tunnel header",
            TunnelError::Flags => "bad flags in the tunnel header",
            TunnelError::Payload => "payload is not what the tunnel carries",
            TunnelError::Options => "malformed Geneve options",
            TunnelError::CriticalOption => "unknown critical Geneve option",
            TunnelError::Congestion => "congestion mark that the inner packet cannot carry",
        })
    }
}

impl std::error::Error for TunnelError {}
