//! Routes of the host: a picture of the kernel's tables, and routes that an administrator added for tunnels alone.
//!
//! The order of preference is OVS's: each route has a priority, the length of its prefix (an IPv4 prefix counted as if it
//! were IPv4-mapped) plus [`LOCAL_BONUS`] in the local table or [`USER_BONUS`] for an administrator's own. So the kernel's order
//! of tables holds, local before main before default, and a user's route goes before one of the main table that is up to 32
//! bits longer. Other tables belong to policy rules,
//! which are not modelled. Unlike OVS, of two routes to one prefix the one with the lower metric counts, routes over
//! several next hops count with their first, unreachable destinations are not sent to the next shorter prefix, and a route
//! whose own network has no address of the device takes another address of it.

use base::Instant;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// Added to the priority of routes of the local table: they go before all others.
pub const LOCAL_BONUS: i32 = 256;
/// Added to the priority of an administrator's own routes.
pub const USER_BONUS: i32 = 32;
/// Added to the priority of routes of the default table, so that any of the main table goes before.
const DEFAULT_TABLE_MALUS: i32 = -256;
/// The most routes taken from the kernel; the rest of a longer list is left out.
pub const KERNEL_ROUTES_MAX: usize = 1 << 18;
/// The most routes that an administrator can add.
pub const USER_ROUTES_MAX: usize = 1_024;
/// The most destinations of which a path MTU is remembered.
pub const PATHS_MAX: usize = 1_024;
/// How long a path MTU is believed (RFC 1191 section 6.3, RFC 8201 section 4).
pub const PATH_MTU_AGE: Duration = Duration::from_secs(600);
/// The least path MTU over IPv4 that is believed, as by Linux: who forges a lesser one only wants to do harm.
const PATH_MTU_MIN: u32 = 552;
/// Bits by which an IPv4 prefix is longer as an IPv4-mapped one (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A device of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelLink {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Longest IP packet it takes, in bytes.
    pub mtu: u32,
}

/// An address of the host that packets may be sent from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelAddress {
    /// The device it is on.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix of its network, in bits.
    pub prefix_len: u8,
}

/// The table that a route of the kernel is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelTable {
    /// Addresses of the host itself (`RT_TABLE_LOCAL`).
    Local,
    /// Where routes are added (`RT_TABLE_MAIN`).
    Main,
    /// Asked last (`RT_TABLE_DEFAULT`).
    Default,
}

/// Where a route of the kernel leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelRouteKind {
    /// To a device.
    Unicast,
    /// To the host itself.
    Local,
    /// Nowhere: blackhole, unreachable, prohibit or throw.
    Unreachable,
}

/// A route of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelRoute {
    /// The network; bits behind the prefix are ignored.
    pub destination: IpAddr,
    /// Length of its prefix, in bits.
    pub prefix_len: u8,
    /// The table it is in.
    pub table: KernelTable,
    /// Where it leads.
    pub kind: KernelRouteKind,
    /// The device to send by.
    pub link: Option<u32>,
    /// The next hop; none on the link itself.
    pub gateway: Option<IpAddr>,
    /// The source address that the route prefers.
    pub source: Option<IpAddr>,
    /// Of routes to one prefix, the lowest counts.
    pub metric: u32,
    /// A bound on packets, in bytes, if the route has one of its own.
    pub mtu: Option<u32>,
}

/// All that the kernel said at one moment, in its order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelState {
    /// Devices.
    pub links: Vec<KernelLink>,
    /// Addresses.
    pub addresses: Vec<KernelAddress>,
    /// Routes.
    pub routes: Vec<KernelRoute>,
}

/// How to reach a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The device to send by.
    pub device: Arc<str>,
    /// The next hop; none if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// The address to send from.
    pub source: IpAddr,
    /// Longest outer packet, in bytes: of the route if it says, else of the device.
    pub mtu: Option<u32>,
    /// Whether the destination is an address of the host itself.
    pub local: bool,
    /// What it was preferred by. See the module's text.
    pub priority: i32,
}

/// Why a route cannot be added or removed; the text is OVS's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// There is no such device, or none of its addresses is in the network of the next hop.
    #[error("Error while inserting route.")]
    NoSource,
    /// [`USER_ROUTES_MAX`] routes are there.
    #[error("Error while inserting route: {USER_ROUTES_MAX} routes are the most.")]
    Full,
    /// There is no such route of the administrator's.
    #[error("Not found")]
    NotFound,
}

/// A network: address with the bits behind the prefix cleared, IPv4 as IPv4-mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Prefix {
    bits: u128,
    len: u8,
}

impl Prefix {
    /// The network of `address` with a prefix of `len` bits; none if the address has fewer.
    pub fn new(address: IpAddr, len: u8) -> Option<Prefix> {
        let len = match address {
            IpAddr::V4(_) if len <= 32 => len + MAPPED_BITS,
            IpAddr::V6(_) if len <= 128 => len,
            _ => return None,
        };
        Some(Prefix { bits: bits_of(address) & mask(len), len })
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        address_of(self.bits, self.is_v4())
    }

    fn is_v4(self) -> bool {
        self.len >= MAPPED_BITS && self.bits >> 32 == 0xffff
    }

    /// Length in bits, as people write it.
    pub fn length(self) -> u8 {
        if self.is_v4() { self.len - MAPPED_BITS } else { self.len }
    }

    fn contains(self, address: IpAddr) -> bool {
        bits_of(address) & mask(self.len) == self.bits
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn address_of(bits: u128, v4: bool) -> IpAddr {
    let address = Ipv6Addr::from_bits(bits);
    match address.to_ipv4_mapped() {
        Some(a) if v4 => a.into(),
        _ => address.into(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    User,
    Kernel,
}

/// What one prefix leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    /// `None` if nowhere.
    route: Option<Route>,
    origin: Origin,
    metric: u32,
    /// Place in the list that people see.
    place: usize,
}

/// Routes of one priority, and so of one length of prefix. By packet mark and network.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Level {
    priority: i32,
    len: u8,
    entries: BTreeMap<(u32, u128), Entry>,
}

/// A route that an administrator added.
#[derive(Clone, PartialEq, Eq, Debug)]
struct UserRoute {
    prefix: Prefix,
    mark: u32,
    route: Route,
}

/// The routes. A value: two are equal if they give the same answers and look the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteTable {
    /// By falling priority, of equals the longer prefix first.
    levels: Vec<Level>,
    user: Vec<UserRoute>,
    links: Vec<KernelLink>,
    addresses: Vec<KernelAddress>,
    /// Bounds that paths were found to have, and until when they are believed.
    paths: BTreeMap<IpAddr, (u32, Instant)>,
}

impl RouteTable {
    /// A table without routes.
    pub fn new() -> RouteTable {
        RouteTable::default()
    }

    /// Takes the kernel's routes in place of those it had before. The administrator's stay.
    pub fn set_kernel(&mut self, kernel: &KernelState) {
        self.levels.clear();
        (self.links, self.addresses) = (kernel.links.clone(), kernel.addresses.clone());
        for user in &mut self.user {
            user.route.mtu = mtu_of(&self.links, &user.route.device);
        }
        let sources = Sources::new(kernel);
        for (place, route) in kernel.routes.iter().take(KERNEL_ROUTES_MAX).enumerate() {
            let Some(prefix) = Prefix::new(route.destination, route.prefix_len) else { continue };
            let bonus = match route.table {
                KernelTable::Local => LOCAL_BONUS,
                KernelTable::Main => 0,
                KernelTable::Default => DEFAULT_TABLE_MALUS,
            };
            let priority = i32::from(prefix.len) + bonus;
            let leads = match route.kind {
                KernelRouteKind::Unreachable => None,
                _ => match sources.route(route, prefix, priority) {
                    Some(route) => Some(route),
                    None => continue,
                },
            };
            let entry = Entry { route: leads, origin: Origin::Kernel, metric: route.metric, place };
            self.level_mut(priority, prefix.len)
                .entries
                .entry((0, prefix.bits))
                .and_modify(|there| {
                    if entry.metric < there.metric {
                        there.clone_from(&entry);
                    }
                })
                .or_insert(entry);
        }
        self.insert_user();
    }

    /// The way to `dst` for unmarked packets, if there is one.
    pub fn lookup(&self, dst: IpAddr) -> Option<&Route> {
        self.lookup_marked(dst, 0)
    }

    /// The way to `dst` for packets marked with `mark`: only routes with that very mark count, as in OVS.
    pub fn lookup_marked(&self, dst: IpAddr, mark: u32) -> Option<&Route> {
        let bits = bits_of(dst);
        // The IPv6 default route and the like would have IPv4-mapped addresses in their networks.
        let len_min = if dst.is_ipv4() { MAPPED_BITS } else { 0 };
        let mut levels = self.levels.iter().filter(|l| l.len >= len_min);
        let found = levels.find_map(|l| l.entries.get(&(mark, bits & mask(l.len))));
        found?.route.as_ref()
    }

    /// The addresses of a device.
    pub fn addresses_of(&self, device: &str) -> impl Iterator<Item = IpAddr> + '_ {
        let link = self.links.iter().find(|l| l.name == device).map(|l| l.index);
        self.addresses.iter().filter(move |a| Some(a.link) == link).map(|a| a.address)
    }

    /// Longest packet to `dst` by `route`, in bytes: the route's own bound, or that of the path if it is known and less.
    pub fn mtu_to(&self, dst: IpAddr, route: &Route) -> Option<u32> {
        let path = self.paths.get(&dst).map(|(mtu, _)| *mtu);
        route.mtu.into_iter().chain(path).min()
    }

    /// Notes that the path to `dst` takes packets of `mtu` bytes and no longer ones, for [`PATH_MTU_AGE`]. Impossibly small
    /// values count as the least possible.
    pub fn note_path_mtu(&mut self, dst: IpAddr, mtu: u32, now: Instant) {
        // RFC 8200 section 5 for IPv6.
        let least = if dst.is_ipv4() { PATH_MTU_MIN } else { 1_280 };
        if self.paths.len() < PATHS_MAX || self.paths.contains_key(&dst) {
            self.paths.insert(dst, (mtu.max(least), now + PATH_MTU_AGE));
        }
    }

    /// Forgets path MTUs that have grown old.
    pub fn expire_paths(&mut self, now: Instant) {
        self.paths.retain(|_, (_, until)| *until > now);
    }

    /// When [`RouteTable::expire_paths`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.paths.values().map(|(_, until)| *until).min()
    }

    /// Adds a route for packets with `mark`, or changes the one to that network. The source is the address of the device
    /// whose network has the gateway, or else the destination.
    ///
    /// # Errors
    /// [`RouteError::NoSource`] or [`RouteError::Full`].
    pub fn add(
        &mut self,
        prefix: Prefix,
        mark: u32,
        device: &str,
        gateway: Option<IpAddr>,
    ) -> Result<(), RouteError> {
        let target = gateway.unwrap_or(prefix.address());
        let link = self.links.iter().find(|l| l.name == device).ok_or(RouteError::NoSource)?;
        let source = in_network_of(&self.addresses, link.index, target).ok_or(RouteError::NoSource)?;
        let route = Route {
            device: device.into(),
            gateway,
            source,
            mtu: Some(link.mtu),
            local: false,
            priority: i32::from(prefix.len) + USER_BONUS,
        };
        let new = UserRoute { prefix, mark, route };
        let full = self.user.len() >= USER_ROUTES_MAX;
        match self.user.iter_mut().find(|u| u.prefix == prefix && u.mark == mark) {
            Some(there) => *there = new,
            None if full => return Err(RouteError::Full),
            None => self.user.push(new),
        }
        self.insert_user();
        Ok(())
    }

    /// Removes a route that was added.
    ///
    /// # Errors
    /// [`RouteError::NotFound`], also for a route of the kernel.
    pub fn remove(&mut self, prefix: Prefix, mark: u32) -> Result<(), RouteError> {
        let at = self.user.iter().position(|u| u.prefix == prefix && u.mark == mark);
        self.user.remove(at.ok_or(RouteError::NotFound)?);
        self.insert_user();
        Ok(())
    }

    /// The list as `ovs/route/show` prints it.
    pub fn show(&self) -> String {
        let mut rows: Vec<(i32, u8, bool, usize, String)> = Vec::new();
        for level in &self.levels {
            // All routes of one length stand together, where the first of them belongs.
            let same = self.levels.iter().filter(|l| l.len == level.len);
            let rank = same.map(|l| l.priority).max().unwrap_or(level.priority);
            for ((mark, bits), entry) in &level.entries {
                let Some(route) = &entry.route else { continue };
                let cached = entry.origin == Origin::Kernel;
                let text = row(Prefix { bits: *bits, len: level.len }, *mark, route, cached);
                rows.push((-rank, level.len, cached, entry.place, text));
            }
        }
        rows.sort();
        let mut out = String::from("Route Table:\n");
        out.extend(rows.into_iter().map(|(.., text)| text));
        out
    }

    fn level_mut(&mut self, priority: i32, len: u8) -> &mut Level {
        // Of different tables a short prefix may have the priority of a longer one, which then goes before.
        let key = |l: &Level| (Reverse(l.priority), Reverse(l.len));
        let at = match self.levels.binary_search_by_key(&(Reverse(priority), Reverse(len)), key) {
            Ok(at) => at,
            Err(at) => {
                self.levels.insert(at, Level { priority, len, entries: BTreeMap::new() });
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or just put there")]
        &mut self.levels[at]
    }

    /// Puts the administrator's routes, as they are now, among the others.
    fn insert_user(&mut self) {
        for level in &mut self.levels {
            level.entries.retain(|_, e| e.origin == Origin::Kernel);
        }
        for (place, user) in self.user.clone().into_iter().enumerate() {
            let (priority, key) = (user.route.priority, (user.mark, user.prefix.bits));
            let entry = Entry { route: Some(user.route), origin: Origin::User, metric: 0, place };
            self.level_mut(priority, user.prefix.len).entries.insert(key, entry);
        }
        self.levels.retain(|l| !l.entries.is_empty());
    }
}

fn row(prefix: Prefix, mark: u32, route: &Route, cached: bool) -> String {
    let mut out = String::from(if cached { "Cached: " } else { "User: " });
    // Writing to a string cannot fail.
    let _ = write!(out, "{}/{}", prefix.address(), prefix.length());
    if mark != 0 {
        let _ = write!(out, " MARK {mark}");
    }
    let _ = write!(out, " dev {}", route.device);
    if let Some(gateway) = route.gateway {
        let _ = write!(out, " GW {gateway}");
    }
    let _ = write!(out, " SRC {}", route.source);
    if route.local {
        out.push_str(" local");
    }
    out.push('\n');
    out
}

fn mtu_of(links: &[KernelLink], device: &str) -> Option<u32> {
    links.iter().find(|l| l.name == device).map(|l| l.mtu)
}

/// The address of a device whose network has `target`; the longest such network if there are several.
fn in_network_of(addresses: &[KernelAddress], link: u32, target: IpAddr) -> Option<IpAddr> {
    let near = |a: &&KernelAddress| {
        a.link == link && Prefix::new(a.address, a.prefix_len).is_some_and(|p| p.contains(target))
    };
    // Of equals the first: max_by_key gives the last.
    addresses.iter().filter(near).rev().max_by_key(|a| a.prefix_len).map(|a| a.address)
}

/// Finds devices and source addresses for the kernel's routes.
struct Sources<'a> {
    kernel: &'a KernelState,
    devices: BTreeMap<u32, (Arc<str>, u32)>,
}

impl<'a> Sources<'a> {
    fn new(kernel: &'a KernelState) -> Self {
        let devices = kernel.links.iter().map(|l| (l.index, (l.name.as_str().into(), l.mtu))).collect();
        Sources { kernel, devices }
    }

    /// None if the device is gone or nothing can be sent from it.
    fn route(&self, route: &KernelRoute, prefix: Prefix, priority: i32) -> Option<Route> {
        let link = route.link?;
        let (device, mtu) = self.devices.get(&link)?;
        let local = route.kind == KernelRouteKind::Local;
        let source = match route.source {
            Some(source) => source,
            // Where the prefix is one address of the host, that address it is.
            None if local && prefix.len == 128 => prefix.address(),
            None => self.source(link, route.gateway, prefix)?,
        };
        Some(Route {
            device: Arc::clone(device),
            gateway: route.gateway,
            source,
            mtu: Some(route.mtu.unwrap_or(*mtu)),
            local,
            priority,
        })
    }

    /// An address to send from. A link-local one is only good for what is on the link (RFC 6724 section 5, rule 2).
    fn source(&self, link: u32, gateway: Option<IpAddr>, prefix: Prefix) -> Option<IpAddr> {
        let v4 = prefix.is_v4();
        let near = is_link_local(prefix.address());
        let fits = |a: &&KernelAddress| a.address.is_ipv4() == v4 && (v4 || is_link_local(a.address) == near);
        let addresses = &self.kernel.addresses;
        let by_network = |target| in_network_of(addresses, link, target);
        gateway
            .and_then(by_network)
            .filter(|a| v4 || is_link_local(*a) == near)
            .or_else(|| by_network(prefix.address()))
            .or_else(|| addresses.iter().filter(fits).find(|a| a.link == link).map(|a| a.address))
            .or_else(|| {
                // As the kernel: any address of the host that is not only good on its own device.
                let wide = |a: &&KernelAddress| fits(a) && !a.address.is_loopback() && !near;
                addresses.iter().find(wide).map(|a| a.address)
            })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
