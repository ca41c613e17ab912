//! Rules by the thousand with frames that meet them, Services, policies, and headers chosen to hurt: the workloads of cases that take
//! more than a rule or two.

use super::cases::FRAME_LEN;
use crate::Dice;
use crate::frames::{RECEIVER, SENDER};
use packet::FrameBuilder;
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// An address and a port.
pub type End = (u32, u16);

/// Rules whose counts are compared have cookies from this one on, so many different ones.
pub const COOKIE_FIRST: u64 = 16;
/// See [`COOKIE_FIRST`].
pub const COOKIES: u64 = 16;
/// The most masks that [`PrefixRules`] can have.
pub const MASKS_MAX: usize = 20;

/// A UDP frame of [`FRAME_LEN`] bytes.
pub fn udp(src: End, dst: End, from: u64, to: u64) -> Vec<u8> {
    let builder = FrameBuilder::udp4(src, dst).payload(&[0x5a; FRAME_LEN - 14 - 20 - 8]);
    exact(builder.macs(from, to).build())
}

/// Without the room that building it left: frames are kept by the hundred thousand.
pub(super) fn exact(mut frame: Vec<u8>) -> Vec<u8> {
    frame.shrink_to_fit();
    frame
}

/// A condition on prefixes of both addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Prefixes {
    dst: u32,
    dst_len: u32,
    src: u32,
    src_len: u32,
}

fn prefix(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

/// Rules on prefixes of addresses in 10.0.0.0/8: ten lengths of the destination's, with and without 16 bits of the source's.
/// Rules of one mask have one priority, which no other mask has, so at most one rule of the highest priority meets a frame.
#[derive(Clone, Debug)]
pub struct PrefixRules(Vec<Prefixes>, usize);

impl PrefixRules {
    /// `rules` different ones over `masks` masks.
    pub fn new(rules: usize, masks: usize) -> PrefixRules {
        assert!((1..=MASKS_MAX).contains(&masks));
        let (mut dice, mut seen, mut list) = (Dice(7), HashSet::new(), Vec::new());
        while list.len() < rules {
            let mask = list.len() % masks;
            let (dst_len, src_len) = (32 - mask as u32 % 10, if mask >= 10 { 16 } else { 0 });
            let rule = Prefixes {
                dst: address(&mut dice) & prefix(dst_len),
                dst_len,
                src: address(&mut dice) & prefix(src_len),
                src_len,
            };
            if seen.insert(rule) {
                list.push(rule);
            }
        }
        PrefixRules(list, masks)
    }

    fn priority(&self, rule: usize) -> usize {
        // Seven has no divisor in common with twenty: specific and general masks mix.
        10 + rule % self.1 * 7 % MASKS_MAX
    }

    /// In ovs-ofctl's language. All send to port 2 what comes in at port 1.
    pub fn text(&self) -> Vec<String> {
        let one = |(i, rule): (usize, &Prefixes)| {
            let cookie = COOKIE_FIRST + i as u64 % COOKIES;
            let (dst, src) = (Ipv4Addr::from(rule.dst), Ipv4Addr::from(rule.src));
            let mut text = format!("cookie={cookie},table=0,priority={},ip,in_port=1", self.priority(i));
            text += &format!(",nw_dst={dst}/{}", rule.dst_len);
            if rule.src_len > 0 {
                text += &format!(",nw_src={src}/{}", rule.src_len);
            }
            text + ",actions=output:2"
        };
        self.0.iter().enumerate().map(one).collect()
    }

    /// Frames of different flows, each of which meets a rule at least, chosen at random.
    pub fn frames(&self, flows: usize) -> Vec<Vec<u8>> {
        let mut dice = Dice(13);
        let mut one = |n: usize| {
            let rule = self.0[dice.below(self.0.len() as u64) as usize];
            let dst = rule.dst | address(&mut dice) & !prefix(rule.dst_len);
            let src = rule.src | address(&mut dice) & !prefix(rule.src_len);
            let ports = (1_024 + (n % 60_000) as u16, 53 + (n / 60_000) as u16);
            udp((src, ports.0), (dst, ports.1), SENDER, RECEIVER)
        };
        (0..flows).map(&mut one).collect()
    }
}

fn address(dice: &mut Dice) -> u32 {
    0x0a00_0000 | dice.below(1 << 24) as u32
}

/// Tuple-space explosion (Csikor et al., "Tuple Space Explosion: A Denial-of-Service Attack Against a Software Packet
/// Classifier", CoNEXT 2019): three rules that each allow one value of one field.
pub fn explosion_rules() -> Vec<String> {
    let allow = |what: String| {
        format!("cookie={COOKIE_FIRST},table=0,priority=10,udp,in_port=1,{what},actions=output:2")
    };
    let drop = format!("cookie={},table=0,priority=0,actions=drop", COOKIE_FIRST + 1);
    explosion_allowed().into_iter().map(allow).chain([drop]).collect()
}

/// What each of the three rules allows.
pub fn explosion_allowed() -> [String; 3] {
    [
        format!("nw_src={}", Ipv4Addr::from(ALLOWED.0)),
        format!("tp_src={}", ALLOWED.1),
        format!("tp_dst={ALLOWED_SERVER_PORT}"),
    ]
}

/// Sources and destination ports that no rule allows, each with a mask of its own.
pub fn explosion_headers() -> impl Iterator<Item = (End, u16)> {
    (0..EXPLOSION_HEADERS).map(|n| {
        let src = (ALLOWED.0 ^ 1 << (n >> 8), ALLOWED.1 ^ 1 << (n >> 4 & 0xf));
        (src, ALLOWED_SERVER_PORT ^ 1 << (n & 0xf))
    })
}

const ALLOWED: End = (0x0a00_000a, 5_353);
const ALLOWED_SERVER_PORT: u16 = 443;
/// Flows of the one who is attacked.
const VICTIM_FLOWS: usize = 1_000;
/// Headers of the attack: it takes a mask of its own to say where each of three fields first differs from what is allowed.
pub const EXPLOSION_HEADERS: usize = 32 * 16 * 16;
/// Frames of the attack in each hundred.
const EXPLOSION_PERCENT: usize = 8;

/// The part of [`explosion_frames`] that is forwarded.
pub fn victims_part(attack: bool) -> f64 {
    if attack { 1.0 - EXPLOSION_PERCENT as f64 / 100.0 } else { 1.0 }
}

/// Frames of a victim, which the rules allow by their destination port, with or without those of an attack among them, which
/// are all dropped.
pub fn explosion_frames(attack: bool) -> Vec<Vec<u8>> {
    let server = 0x0a00_0002;
    let victims = EXPLOSION_HEADERS * (100 - EXPLOSION_PERCENT) / EXPLOSION_PERCENT;
    let victim = |n: usize| {
        let n = n % VICTIM_FLOWS;
        let client = (0x0a01_0000 + (n >> 8) as u32, 20_000 + (n & 0xff) as u16);
        udp(client, (server, ALLOWED_SERVER_PORT), SENDER, RECEIVER)
    };
    let hostile = explosion_headers().map(|(src, port)| udp(src, (server, port), SENDER, RECEIVER));
    let hostile_frames = if attack { EXPLOSION_HEADERS } else { 0 };
    (0..victims).map(victim).chain(hostile.take(hostile_frames)).collect()
}

fn established_rule(cookie: u64, table: u8, port: u8, actions: &str) -> String {
    format!("cookie={cookie},table={table},priority=20,ip,in_port={port},ct_state=+trk+est,actions={actions}")
}

/// Services with an endpoint each: the destination is translated when a connection is made, then the source, in a zone of
/// its own. Cookies as in the rules of other tracked cases.
pub fn service_rules(services: usize, new: u64, established: u64) -> Vec<String> {
    let mut rules: Vec<String> = (0..6).map(|t| format!("table={t},priority=0,actions=drop")).collect();
    let est = |table, port, actions| established_rule(established, table, port, actions);
    rules.extend([
        "table=0,priority=10,ip,in_port=1,actions=ct(nat,zone=1,table=1)".to_owned(),
        "table=0,priority=10,ip,in_port=2,actions=ct(nat,zone=2,table=4)".to_owned(),
        est(1, 1, "ct(nat,zone=2,table=3)"),
        est(3, 1, "output:2"),
        est(4, 2, "ct(nat,zone=1,table=5)"),
        est(5, 2, "output:1"),
        format!(
            "cookie={new},table=2,priority=10,ip,in_port=1,actions=ct(commit,zone=2,nat(src=198.51.100.1)),output:2"
        ),
    ]);
    rules.extend((0..services).map(|s| {
        let ((address, port), (endpoint, endpoint_port)) = (service(s), endpoint(s));
        format!(
            "table=1,priority=10,udp,in_port=1,ct_state=+trk+new,nw_dst={},tp_dst={port},\
             actions=ct(commit,zone=1,nat(dst={}:{endpoint_port}),table=2)",
            Ipv4Addr::from(address),
            Ipv4Addr::from(endpoint),
        )
    }));
    rules
}

fn service(n: usize) -> End {
    (0x0a60_0001 + n as u32, 80)
}

fn endpoint(n: usize) -> End {
    (0x0a80_0000 + n as u32, 8_080)
}

/// The frame of a connection, each to the next of so many Services. No two to one Service have the same source port: none has
/// to be found.
pub fn service_frame(n: usize, services: usize, reply: bool) -> Vec<u8> {
    let (service_number, port) = (n % services, 1_024 + (n / services) as u16);
    if reply {
        return udp(endpoint(service_number), (0xc633_6401, port), RECEIVER, SENDER);
    }
    udp((0x0a01_0000 + (n & 0xffff) as u32, port), service(service_number), SENDER, RECEIVER)
}

/// Peers that each policy of [`policy_rules`] lets in.
pub const POLICY_PEERS: usize = 20;

/// Policies as Kubernetes has them (NetworkPolicy, ingress), each of one pod that takes connections of some peers to a port and
/// of nobody else. Tracked; only first packets of connections come to policies.
pub fn policy_rules(policies: usize, new: u64, established: u64) -> Vec<String> {
    let mut rules: Vec<String> = (0..2).map(|t| format!("table={t},priority=0,actions=drop")).collect();
    rules.extend([
        "table=0,priority=10,ip,actions=ct(table=1)".to_owned(),
        established_rule(established, 1, 1, "output:2"),
        established_rule(established, 1, 2, "output:1"),
        "table=1,priority=10,ip,in_port=1,ct_state=+trk+new,actions=goto_table:2".to_owned(),
        // Pods without a policy.
        "table=2,priority=0,ip,actions=ct(commit),output:2".to_owned(),
    ]);
    for policy in 0..policies {
        let (pod, port) = policy_pod(policy);
        let pod = Ipv4Addr::from(pod);
        rules.push(format!("table=2,priority=10,ip,nw_dst={pod},actions=drop"));
        rules.extend((0..POLICY_PEERS).map(|peer| {
            let peer = Ipv4Addr::from(policy_peer(policy, peer));
            format!(
                "cookie={new},table=2,priority=20,udp,nw_src={peer},nw_dst={pod},tp_dst={port},\
                 actions=ct(commit),output:2"
            )
        }));
    }
    rules
}

pub(super) fn policy_pod(policy: usize) -> End {
    (0x0a80_0000 + policy as u32, 8_000 + (policy % 10) as u16)
}

pub(super) fn policy_peer(policy: usize, peer: usize) -> u32 {
    0x0a10_0000 + (policy * POLICY_PEERS + peer) as u32
}

/// The frame of a connection, each to the pod of the next of so many policies, from each peer in turn.
pub fn policy_frame(n: usize, policies: usize, reply: bool) -> Vec<u8> {
    let (policy, n) = (n % policies, n / policies);
    let client = (policy_peer(policy, n % POLICY_PEERS), 1_024 + (n / POLICY_PEERS) as u16);
    match reply {
        true => udp(policy_pod(policy), client, RECEIVER, SENDER),
        false => udp(client, policy_pod(policy), SENDER, RECEIVER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    fn ends(frame: &[u8]) -> (End, End) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
        let address = |a: Ipv4Addr| u32::from(a);
        (
            (address(ip.header().source_addr()), udp.source_port()),
            (address(ip.header().destination_addr()), udp.destination_port()),
        )
    }

    #[test]
    fn prefix_rules_are_as_many_and_as_different_as_asked_and_every_frame_meets_one() {
        let rules = PrefixRules::new(1_000, 20);
        let text = rules.text();
        assert_eq!(text.iter().collect::<HashSet<_>>().len(), 1_000);
        let masks: HashSet<_> = rules.0.iter().map(|r| (r.dst_len, r.src_len)).collect();
        let priorities: HashSet<_> = (0..1_000).map(|i| rules.priority(i)).collect();
        assert_eq!((masks.len(), priorities.len()), (20, 20));
        let frames = rules.frames(2_000);
        assert_eq!(frames.iter().map(|f| ends(f)).collect::<HashSet<_>>().len(), 2_000);
        for frame in &frames {
            let (src, dst) = ends(frame);
            let meets = |r: &&Prefixes| {
                (dst.0 ^ r.dst) >> (32 - r.dst_len) == 0 && (r.src_len == 0 || src.0 >> 16 == r.src >> 16)
            };
            assert!(rules.0.iter().any(|r| meets(&r)), "{src:?} {dst:?}");
        }
    }

    #[test]
    fn explosion_has_a_header_for_each_mask_and_eight_of_a_hundred_frames() {
        let frames = explosion_frames(true);
        let (hostile, victims): (Vec<_>, Vec<_>) =
            frames.iter().map(|f| ends(f)).partition(|(_, dst)| dst.1 != ALLOWED_SERVER_PORT);
        assert_eq!(hostile.len(), 8_192);
        assert!((victims.len() as f64 / frames.len() as f64 - victims_part(true)).abs() < 1e-9);
        // Where each field first differs from the value that is allowed: that many bits a mask needs.
        let masks: HashSet<_> = hostile
            .iter()
            .map(|(src, dst)| {
                let dst_bit = (dst.1 ^ ALLOWED_SERVER_PORT).leading_zeros();
                ((src.0 ^ ALLOWED.0).leading_zeros(), (src.1 ^ ALLOWED.1).leading_zeros(), dst_bit)
            })
            .collect();
        assert_eq!(masks.len(), 8_192);
        assert_eq!(explosion_frames(false).len(), victims.len());
    }

    #[test]
    fn connections_to_services_never_share_a_translated_source() {
        let replies: HashSet<_> = (0..20_000).map(|n| ends(&service_frame(n, 100, true))).collect();
        let originals: HashSet<_> = (0..20_000).map(|n| ends(&service_frame(n, 100, false))).collect();
        assert_eq!((replies.len(), originals.len()), (20_000, 20_000));
    }
}
