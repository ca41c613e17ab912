//! What a pod sends to hurt others, to a partner of its own, and the rules that make it hurt: those of a switch on which each of
//! these attacks finds what it needs. Two other pods, whose frames follow NORMAL, are who is to notice nothing.

use benches::compare::workloads::{End, explosion_allowed, explosion_headers, udp};
use packet::FrameBuilder;
use std::net::Ipv4Addr;

/// Behind the attacker's partner, which therefore counts its frames and drops them.
pub const SINK: u64 = 0x0200_0000_00c8;
/// Address of the same.
pub const SINK_ADDRESS: u32 = 0x0a00_00c8;
/// The attacker's OpenFlow port.
pub const ATTACKER_PORT: u16 = 3;
/// Its partner's.
pub const PARTNER_PORT: u16 = 4;
/// Where the three allow rules of tuple-space explosion apply.
const EXPLOSION_ADDRESS: u32 = 0x0a00_00c9;
/// Service that connections are made to through NAT.
const NAT_PORT: u16 = 443;
const SNAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Where every frame is a flow of its own.
const MISSES_PORT: u16 = 53;
/// TCP's SYN (RFC 9293 §3.1).
const SYN: u16 = 2;
/// Different frames of an attack that needs many.
const FRAMES: usize = 200_000;
/// Source addresses of a MAC flood.
const MACS: usize = 10_000;

/// What the attacker does while the others are measured. It sends as fast as it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attack {
    /// Nothing.
    None,
    /// Frames of one flow: what any pod may do, and takes from others what a fair share is.
    Plain,
    /// Frames each of which is a flow that the cache does not have.
    Misses,
    /// Headers each of which a classifier by tuples gives a mask of its own (Csikor et al., CoNEXT 2019).
    Explosion,
    /// Connections that are never answered, through NAT.
    SynFlood,
    /// Frames from 10,000 MAC addresses.
    Macs,
}

/// In ovs-ofctl's language. Whatever is not the attacker's follows NORMAL.
pub fn rules() -> Vec<String> {
    let from = format!("in_port={ATTACKER_PORT}");
    let to = format!("output:{PARTNER_PORT}");
    let allowed = Ipv4Addr::from(EXPLOSION_ADDRESS);
    let mut rules = vec![
        "table=0,priority=0,actions=NORMAL".to_owned(),
        // Registers are written with what would else be wildcarded.
        format!(
            "table=0,priority=20,{from},udp,tp_dst={MISSES_PORT},actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],\
             move:NXM_OF_UDP_SRC[]->NXM_NX_REG1[0..15],{to}"
        ),
        format!("table=0,priority=20,{from},tcp,tp_dst={NAT_PORT},actions=ct(nat,table=1)"),
        format!("table=1,priority=10,ct_state=+trk+new,ip,actions=ct(commit,nat(src={SNAT_ADDRESS})),{to}"),
        "table=1,priority=0,actions=drop".to_owned(),
        format!("table=0,priority=30,{from},udp,nw_dst={allowed},actions=drop"),
    ];
    rules.extend(
        explosion_allowed()
            .map(|what| format!("table=0,priority=40,{from},udp,nw_dst={allowed},{what},actions={to}")),
    );
    rules
}

impl Attack {
    /// The frames, sent in turn. None of them for [`Attack::None`].
    pub fn frames(self, source: u64) -> Vec<Vec<u8>> {
        let from = |n: usize| -> End { (0x0b00_0000 + (n >> 8) as u32, 1_024 + (n & 0xff) as u16) };
        match self {
            Attack::None => Vec::new(),
            Attack::Plain => vec![udp(from(0), (SINK_ADDRESS, 9), source, SINK)],
            Attack::Misses => {
                (0..FRAMES).map(|n| udp(from(n), (SINK_ADDRESS, MISSES_PORT), source, SINK)).collect()
            }
            Attack::Explosion => explosion_headers()
                .map(|(src, port)| udp(src, (EXPLOSION_ADDRESS, port), source, SINK))
                .collect(),
            Attack::SynFlood => {
                let frame = |n| FrameBuilder::tcp4(from(n), (SINK_ADDRESS, NAT_PORT), SYN).payload(&[0; 6]);
                (0..FRAMES).map(|n| frame(n).macs(source, SINK).build()).collect()
            }
            Attack::Macs => {
                let address = |n: usize| 0x0200_0001_0000 + n as u64;
                (0..MACS).map(|n| udp(from(n), (SINK_ADDRESS, 9), address(n), SINK)).collect()
            }
        }
    }

    /// Whether the kernel's bridge, which has no rules, can be attacked so.
    pub fn needs_rules(self) -> bool {
        matches!(self, Attack::Misses | Attack::Explosion | Attack::SynFlood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn frames_are_as_many_different_ones_as_the_attack_needs() {
        let different = |attack: Attack| attack.frames(2).into_iter().collect::<HashSet<_>>().len();
        assert_eq!(different(Attack::None), 0);
        assert_eq!(different(Attack::Plain), 1);
        assert_eq!(different(Attack::Misses), FRAMES);
        assert_eq!(different(Attack::SynFlood), FRAMES);
        assert_eq!(different(Attack::Macs), MACS);
        assert_eq!(different(Attack::Explosion), 8_192);
    }
}
