//! Into tunnels and out of them: what an output to a tunnel interface becomes, and packets of tunnels for the host.
//!
//! Where the host would send the outer packet by a port of one of our bridges, it goes on in that bridge's tables as if it
//! came from that port. Its key is made up from the header that will be pushed: rules see all of it but the UDP source port,
//! which is 0 to them, as it is found from the frame only when it is sent. Elsewhere the host routes it.

use super::output::Cut;
use super::{Outer, Step, Walk, pipeline_start};
use crate::bridge::{Bridge, BridgePort, Device};
use crate::forwarding::{
    BRIDGES_DOMAIN, Effect, HOST_DOMAIN, Solicitation, neighbour_domain, settings_domain,
};
use crate::mac::MacAddr;
use crate::trace::Note;
use crate::tunnel::counters::Way;
use crate::tunnel::map::address;
use crate::tunnel::{HostPort, LocalIp, Octet, Setting, TunnelConfig, TunnelKind};
use crate::underlay::Route;
use crate::underlay::neighbour::announced;
use crate::vlan::TagStack;
use datapath::{DpAction, Drop};
use flowtable::field::Prereq;
use flowtable::{FlowKey, OfPort, Words};
use packet::key::{FRAG_ANY, Slot, TUN_METADATA, TUN_OAM, slot};
use packet::tunnel::{Inherit, TunnelProtocol, TunnelPush, encapsulated};
use packet::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_GRE, PROTO_UDP};
use packet::{DpPort, PacketKey};
use std::net::IpAddr;
use std::sync::Arc;

/// Tunnels that may stand one inside another.
pub const TUNNELS_MAX: usize = 2;
/// MTU of a way that has none of its own.
const MTU_DEFAULT: u32 = 1_500;

/// Fields that a frame takes along only within a bridge: what came out of a tunnel, or is to go into one.
const TUNNEL_FIELDS: [Slot; 10] = [
    slot::TUN_ID,
    slot::TUN_SRC,
    slot::TUN_DST,
    slot::TUN_IPV6_SRC,
    slot::TUN_IPV6_DST,
    slot::TUN_FLAGS,
    slot::TUN_GBP_ID,
    slot::TUN_GBP_FLAGS,
    slot::TUN_TOS,
    slot::TUN_TTL,
];

fn tunnel_fields() -> impl Iterator<Item = Slot> {
    TUNNEL_FIELDS.into_iter().chain(TUN_METADATA).chain([slot::TUN_METADATA_PRESENT])
}

/// Why a frame is not sent into a tunnel.
struct Refusal(Drop, String);

impl<'a> Walk<'a> {
    /// Begins with a frame from a port, or out of a tunnel.
    pub(super) fn arrive(&mut self) {
        if let Some(Device::Tunnel { config, .. }) = self.bridge.port(self.in_port()).map(|p| &p.device) {
            // Which interface lets a packet in depends on all that there are.
            self.depend(BRIDGES_DOMAIN, self.fwd.revision_of(BRIDGES_DOMAIN));
            self.count_tunnel(self.in_port(), Way::Received);
            self.came_to = self.tunnel_address(slot::TUN_DST, slot::TUN_IPV6_DST);
            if !config.gbp {
                self.flow.set_slot(slot::TUN_GBP_ID, 0);
                self.flow.set_slot(slot::TUN_GBP_FLAGS, 0);
            }
        }
        self.ingress();
    }

    fn count_tunnel(&mut self, of_port: OfPort, way: Way) {
        let name = self.bridge.port(of_port).map(|p| &p.name);
        if let Some(counters) = name.and_then(|n| self.fwd.tunnels().counters(n)) {
            self.room.others.interfaces.push((Arc::clone(counters), way));
        }
    }

    /// Forgets what is known of tunnels, as when a frame enters another bridge.
    pub(super) fn forget_tunnel(&mut self) {
        for place in tunnel_fields() {
            self.flow.set_slot(place, 0);
            self.base.set(place, 0);
        }
        // What a frame out of a tunnel has in these fields need not be in the profile; that it came out of one is.
        self.has_old_tunnel |= self.from_tunnel;
    }

    /// Makes the frame's key say what the pipeline sees of tunnels, before it is looked up again.
    pub(super) fn commit_tunnel(&mut self) {
        let old = std::mem::take(&mut self.has_old_tunnel);
        if !old && !self.has_written {
            return;
        }
        for place in tunnel_fields() {
            let bits = self.touched.slot(place);
            let (wanted, now) = (self.flow.slot(place), self.base.slot(place));
            if old {
                self.room.out.push(DpAction::SetField { slot: place, value: wanted, mask: place.ones() });
                self.spoiled = true;
            } else if (wanted ^ now) & bits != 0 {
                self.room.out.push(DpAction::SetField { slot: place, value: wanted & bits, mask: bits });
            }
            self.base.set(place, wanted);
        }
    }

    /// To a tunnel interface whose packets `socket` sends where the host routes them.
    pub(super) fn send_to_tunnel(
        &mut self,
        of_port: OfPort,
        socket: DpPort,
        config: &TunnelConfig,
        cut: Cut,
    ) -> Step {
        let sent = match cut {
            Cut::None => self.encapsulate(of_port, socket, config),
            Cut::To(_) => Err(Refusal(Drop::NoAction, "cannot truncate a packet for a tunnel".to_owned())),
        };
        sent.unwrap_or_else(|Refusal(why, text)| {
            self.note(Note::Warn, || text);
            self.why(why);
            Step::Next
        })
    }

    fn encapsulate(
        &mut self,
        of_port: OfPort,
        socket: DpPort,
        config: &TunnelConfig,
    ) -> Result<Step, Refusal> {
        let remote = match config.remote {
            Setting::Fixed(remote) => Some(remote),
            Setting::Flow => self.tunnel_address(slot::TUN_DST, slot::TUN_IPV6_DST),
        };
        let not_to_us = |why| Refusal(why, "Not tunneling to our own address".to_owned());
        // OVS's words for both: to it a destination that nobody set is that of a frame which came from nowhere.
        let remote = remote.ok_or_else(|| not_to_us(Drop::NoRoute))?;
        if self.came_to == Some(remote) {
            return Err(not_to_us(Drop::NoAction));
        }
        let fwd = self.fwd;
        self.depend(HOST_DOMAIN, fwd.revision_of(HOST_DOMAIN));
        let routes = &fwd.host().routes;
        let mark = config.egress_mark.unwrap_or(0);
        let marked = Some(mark).filter(|m| *m != 0).and_then(|m| routes.lookup_marked(remote, m));
        let route = marked.or_else(|| routes.lookup(remote));
        let no_route = || Refusal(Drop::NoRoute, "native tunnel routing failed".to_owned());
        let route = route.ok_or_else(no_route)?;
        let local = match config.local {
            LocalIp::Fixed(local) => Some(local),
            LocalIp::Any => None,
            LocalIp::Flow => self.tunnel_address(slot::TUN_SRC, slot::TUN_IPV6_SRC),
        };
        let push = self.header(config, local.unwrap_or(route.source), remote, route);
        let native = fwd.host().port(&route.device).filter(|_| !route.local);
        let through = native.and_then(|p| {
            let bridge = fwd.bridge(p.bridge)?;
            Some((p, &**bridge, bridge.port(p.of_port)?))
        });
        match through {
            None => {
                self.note(Note::Detail, || "output to kernel tunnel".to_owned());
                self.commit();
                self.count_tunnel(of_port, Way::Sent);
                let steps = [DpAction::PushTunnel(Arc::new(push)), DpAction::Output(socket)];
                self.room.out.push(DpAction::Clone(Box::new(steps)));
                Ok(Step::Next)
            }
            Some(way) => {
                let name = self.bridge.port(of_port).map(|p| &*p.name);
                let counters = name.and_then(|n| fwd.tunnels().counters(n));
                let step = self.leave_through(way, push, route.gateway.unwrap_or(remote), mark)?;
                if let (Step::Entered, Some(counters)) = (&step, counters) {
                    self.room.others.interfaces.push((Arc::clone(counters), Way::Sent));
                }
                Ok(step)
            }
        }
    }

    /// An address among the frame's tunnel fields.
    fn tunnel_address(&mut self, v4: Slot, v6: Slot) -> Option<IpAddr> {
        [v4, v6].into_iter().for_each(|s| self.see(s, s.ones()));
        address(&self.flow.packet, v4, v6)
    }

    /// The header to push, but for the Ethernet addresses.
    fn header(&mut self, config: &TunnelConfig, src: IpAddr, dst: IpAddr, route: &Route) -> TunnelPush {
        let inherit = |octet: Octet| match octet {
            Octet::Fixed(value) => Inherit::Value(value),
            Octet::Inherit => Inherit::Inherit,
        };
        let base = TunnelPush::new(config.kind.into(), src, dst);
        let mut push = TunnelPush {
            tos: inherit(config.tos),
            ttl: inherit(config.ttl),
            df: config.df,
            csum: config.csum || base.csum,
            dst_port: config.dst_port,
            vni: match config.out_key {
                Setting::Fixed(key) => key,
                Setting::Flow => {
                    self.see(slot::TUN_ID, slot::TUN_ID.ones());
                    Some(self.flow.slot(slot::TUN_ID) as u64)
                }
            },
            mtu: self.fwd.host().routes.mtu_to(dst, route).unwrap_or(MTU_DEFAULT).min(u16::MAX.into()) as u16,
            ..base
        };
        if config.gbp {
            let id = self.flow.slot(slot::TUN_GBP_ID) as u16;
            push.gbp = Some((id, self.flow.slot(slot::TUN_GBP_FLAGS) as u8));
        }
        if config.kind == TunnelKind::Geneve {
            push.oam = self.flow.slot(slot::TUN_FLAGS) as u16 & TUN_OAM != 0;
            push.options = self.bridge.settings().geneve_map.encode(&self.flow.packet);
        }
        push
    }

    /// Through the tables of the bridge that the host's way to the other end leads through.
    fn leave_through(
        &mut self,
        (port, bridge, of): (HostPort, &'a Bridge, &BridgePort),
        mut push: TunnelPush,
        next_hop: IpAddr,
        mark: u32,
    ) -> Result<Step, Refusal> {
        self.note(Note::Detail, || "output to native tunnel".to_owned());
        self.note(Note::Detail, || format!("tunneling to {next_hop} via {}", bridge.name()));
        let depth = self.outer.iter().filter(|o| o.in_tunnel).count();
        if depth >= TUNNELS_MAX {
            return Err(Refusal(Drop::TooDeep, "too many tunnels one inside another".to_owned()));
        }
        self.resubmits += 1;
        if self.resubmits > super::RESUBMITS_MAX {
            self.fail("over 4096 resubmit actions");
            return Ok(Step::Leave);
        }
        self.depend(settings_domain(bridge.id()), bridge.settings_revision());
        let found = bridge.neighbours().lookup(next_hop);
        self.depend(neighbour_domain(bridge.id()), found.revision);
        let Some(neighbour) = found.neighbour else {
            // Every frame of the flow may have to ask again, so none of them may be answered from the cache.
            self.cacheable = false;
            self.learn(Effect::Solicit(Solicitation { port, source: push.src, target: next_hop }));
            let protocol = if next_hop.is_ipv4() { "ARP" } else { "ND" };
            self.note(Note::Detail, || {
                format!(
                    "neighbor cache miss for {next_hop} on bridge {}, sending {protocol} request",
                    bridge.name()
                )
            });
            self.why(Drop::NoNeighbour);
            return Ok(Step::Next);
        };
        (push.eth_src, push.eth_dst) = (of.mac.to_bytes(), neighbour.mac.to_bytes());
        let (src, dst, our) = (push.src, push.dst, of.mac);
        let their = neighbour.mac;
        self.note(Note::Detail, || format!("tunneling from {our} {src} to {their} {dst}"));
        self.room.others.neighbours.push(neighbour);
        self.enter_underlay(bridge, port, push, mark);
        Ok(Step::Entered)
    }

    fn enter_underlay(&mut self, bridge: &'a Bridge, port: HostPort, push: TunnelPush, mark: u32) {
        self.commit();
        let (levels, action_set) = (std::mem::take(&mut self.levels), std::mem::take(&mut self.action_set));
        let before = self.mark();
        self.outer.push(Outer { bridge: self.bridge, before, levels, action_set, in_tunnel: true });
        let mut key = outer_key(&push, &self.flow);
        key.set(slot::IN_PORT, port.of_port.0.into());
        key.set(slot::PKT_MARK, mark.into());
        self.room.out.push(DpAction::PushTunnel(Arc::new(push)));
        self.bridge = bridge;
        self.base = key;
        self.flow = FlowKey { packet: key, pipeline: pipeline_start() };
        (self.tags, self.base_tags) = (TagStack::default(), TagStack::default());
        (self.inner_unknown, self.untracked, self.came_to, self.has_old_tunnel) = (false, false, None, false);
        // Only a copy can have outer headers if more is to be done to the frame.
        self.spoiled = true;
        if let Some(trace) = &mut self.trace {
            trace.enter_bridge(bridge.name());
        }
        self.ingress();
    }

    /// What becomes of a frame for a port behind which the host is: a tunnel's packet for one of our sockets comes out of
    /// the tunnel here instead, and what tells the address of a neighbour is noted. Whether the frame has gone elsewhere.
    pub(super) fn send_to_host(&mut self, port: &BridgePort) -> bool {
        let at = HostPort { bridge: self.bridge.id(), of_port: port.of_port };
        let fwd = self.fwd;
        if fwd.tunnels().is_empty() {
            return false;
        }
        self.depend(HOST_DOMAIN, fwd.revision_of(HOST_DOMAIN));
        if !fwd.host().is_behind_port(at) || self.tags.outer().is_some() {
            return false;
        }
        self.note_neighbour();
        let Some((socket, protocol)) = self.tunnel_of(at, port.mac) else { return false };
        self.commit();
        self.room.out.push(DpAction::Clone(Box::new([DpAction::PopTunnel { protocol, port: socket }])));
        true
    }

    /// The socket that gets this frame, if the host's own stack would give it to one of ours.
    fn tunnel_of(&mut self, port: HostPort, mac: MacAddr) -> Option<(DpPort, TunnelProtocol)> {
        self.see(slot::NW_PROTO, slot::NW_PROTO.ones());
        if !Prereq::Ip.holds(&self.flow) {
            return None;
        }
        let key = &self.flow.packet;
        let (proto, tp_dst) = (key.get(slot::NW_PROTO) as u8, key.get(slot::TP_DST) as u16);
        // Which interface there is, and so which socket, is known as the bridges are.
        let (socket, listener) = self.fwd.tunnels().listener(proto, tp_dst)?;
        // Fragments are the host's to put together; they reach the socket through it.
        let is_fragment = key.get(slot::NW_FRAG) & u128::from(FRAG_ANY) != 0;
        let address = address(key, slot::NW_DST, slot::IPV6_DST)?;
        let is_ours = key.get(slot::DL_DST) == u128::from(mac.0) && self.fwd.host().owns(port, address);
        self.depend(BRIDGES_DOMAIN, self.fwd.revision_of(BRIDGES_DOMAIN));
        for s in [slot::DL_DST, slot::NW_DST, slot::IPV6_DST, slot::TP_DST] {
            self.see(s, s.ones());
        }
        (is_ours && !is_fragment).then_some((socket, listener.protocol))
    }

    fn note_neighbour(&mut self) {
        let key = &self.flow.packet;
        let is_discovery = match key.dl_type() {
            ETHERTYPE_ARP => true,
            ETHERTYPE_IPV6 => key.get(slot::ND_TARGET) != 0,
            _ => false,
        };
        if !is_discovery {
            return;
        }
        // The next such packet may say something that no profile looks at, or keeps the neighbour young: not even one that
        // says nothing may answer for it.
        self.cacheable = false;
        if let Some((ip, mac)) = announced(key) {
            self.learn(Effect::Neighbour { bridge: self.bridge.id(), ip, mac });
        }
    }
}

/// The key of what a push makes of a frame.
fn outer_key(push: &TunnelPush, inner: &FlowKey) -> PacketKey {
    let mut key = PacketKey::default();
    let mac = |bytes: [u8; 6]| u128::from(MacAddr::from_bytes(bytes).0);
    key.set(slot::DL_SRC, mac(push.eth_src));
    key.set(slot::DL_DST, mac(push.eth_dst));
    match (push.src, push.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            key.set(slot::DL_TYPE, ETHERTYPE_IPV4.into());
            key.set(slot::NW_SRC, src.to_bits().into());
            key.set(slot::NW_DST, dst.to_bits().into());
        }
        (src, dst) => {
            let bits = |a: IpAddr| match a {
                IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
                IpAddr::V6(a) => a.to_bits(),
            };
            key.set(slot::DL_TYPE, ETHERTYPE_IPV6.into());
            key.set(slot::IPV6_SRC, bits(src));
            key.set(slot::IPV6_DST, bits(dst));
        }
    }
    let of_inner = |place: Slot| Prereq::Ip.holds(inner).then(|| inner.slot(place) as u8);
    let inner_tos = of_inner(slot::NW_TOS).unwrap_or(0);
    let dscp = match push.tos {
        Inherit::Value(tos) => tos,
        Inherit::Inherit => inner_tos,
    };
    key.set(slot::NW_TOS, u128::from(dscp & 0xfc | encapsulated(inner_tos)));
    key.set(
        slot::NW_TTL,
        match push.ttl {
            Inherit::Value(ttl) => ttl.into(),
            Inherit::Inherit => of_inner(slot::NW_TTL).unwrap_or(packet::tunnel::TTL_DEFAULT).into(),
        },
    );
    if push.protocol.is_udp() {
        key.set(slot::NW_PROTO, PROTO_UDP.into());
        key.set(slot::TP_DST, push.dst_port.into());
    } else {
        key.set(slot::NW_PROTO, PROTO_GRE.into());
    }
    key
}
