//! Routes and addresses of the host, read as a whole.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Link, Netlink, NetlinkError};
use crate::interface::IfIndex;

/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` (rtnetlink(7)).
const TABLE_DEFAULT: u32 = 253;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// A routing table that every packet is looked up in. Others are only asked where policy rules say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingTable {
    /// The host's own addresses.
    Local,
    /// Where routes are added unless a table is named.
    Main,
    /// Asked last.
    Default,
}

impl RoutingTable {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number {
            TABLE_LOCAL => Some(Self::Local),
            TABLE_MAIN => Some(Self::Main),
            TABLE_DEFAULT => Some(Self::Default),
            _ => None,
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// To a link.
    Unicast,
    /// To the host itself.
    Local,
    /// Nowhere (`blackhole`, `unreachable`, `prohibit`, `throw`).
    Unreachable,
}

/// A route of the kernel. Of several next hops the first that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub destination: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_length: u8,
    /// The table it is in.
    pub table: RoutingTable,
    /// Where it leads.
    pub kind: RouteKind,
    /// The link to send by.
    pub link: Option<IfIndex>,
    /// The next hop, which over IPv4 may be an IPv6 address (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// The lower goes before.
    pub metric: u32,
    /// The longest packet in bytes, if it has a bound of its own.
    pub mtu: Option<u32>,
}

/// An address of the host from which packets can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link it is on.
    pub link: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix of its network, in bits.
    pub prefix_length: u8,
}

/// All that decides about routes, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// The links, by index.
    pub links: Vec<Link>,
    /// The addresses, in the kernel's order.
    pub addresses: Vec<Address>,
    /// The routes, in the kernel's order.
    pub routes: Vec<Route>,
}

impl Netlink {
    /// The addresses of both families, without those that are not (yet) good to send from: tentative, duplicate or
    /// deprecated ones (RFC 4862).
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.list("list addresses", &request, |answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address(&message),
            _ => None,
        })
    }

    /// The routes of both families in the tables that every packet is looked up in. Those for multicast and broadcast, for
    /// one type of service or from certain sources only are left out.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let request = RouteNetlinkMessage::GetRoute(message);
            all.extend(self.list("list routes", &request, |answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => route(&message),
                _ => None,
            })?);
        }
        Ok(all)
    }

    /// Links, addresses and routes.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn routing(&mut self) -> Result<Routing, NetlinkError> {
        Ok(Routing { links: self.links()?, addresses: self.addresses()?, routes: self.routes()? })
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let unfit =
        AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed | AddressHeaderFlags::Deprecated;
    let optimistic = message
        .attributes
        .iter()
        .any(|a| matches!(a, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Optimistic)));
    if message.header.flags.intersects(unfit) && !optimistic {
        return None;
    }
    // On a point-to-point link `Address` is the other end's.
    let own = |a: &AddressAttribute| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    };
    let any = |a: &AddressAttribute| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    let attributes = &message.attributes;
    Some(Address {
        link: IfIndex::new(message.header.index)?,
        address: attributes.iter().find_map(own).or_else(|| attributes.iter().find_map(any))?,
        prefix_length: message.header.prefix_len,
    })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            RouteKind::Unreachable
        }
        _ => return None,
    };
    if header.source_prefix_length != 0 || header.tos != 0 {
        return None;
    }
    if header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut route = Route {
        destination,
        prefix_length: header.destination_prefix_length,
        table: RoutingTable::Main,
        kind,
        link: None,
        gateway: None,
        source: None,
        metric: 0,
        mtu: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => route.destination = ip(address)?,
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Metrics(metrics) => route.mtu = metrics.iter().find_map(mtu),
            RouteAttribute::MultiPath(hops) => {
                let works = |hop: &&RouteNextHop| !hop.flags.contains(RouteNextHopFlags::Dead);
                let first = hops.iter().find(works)?;
                route.link = IfIndex::new(first.interface_index);
                route.gateway = first.attributes.iter().find_map(gateway);
            }
            RouteAttribute::Oif(index) => route.link = IfIndex::new(*index),
            other => route.gateway = route.gateway.or_else(|| gateway(other)),
        }
    }
    route.table = RoutingTable::from_number(table)?;
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(bytes) => Some(*bytes),
        _ => None,
    }
}
