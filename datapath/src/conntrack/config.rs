//! Limits and timeouts of the tracker, as an operator sets them: one immutable value, replaced as a whole.

use super::spec::TimeoutPolicyId;
use super::tuple::Zone;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most connections unless configured otherwise, as OVS has it.
pub const CONNECTIONS_MAX: u32 = 3_000_000;
/// Longest timeout: times of connections wrap after more than twice as long.
pub const TIMEOUT_SECS_MAX: u32 = 365 * 24 * 3600;

macro_rules! timeouts {
    ($($(#[$doc:meta])* $variant:ident $name:literal $secs:literal;)*) => {
        /// What a connection waits for when its time is up; one timeout each (ovs-vswitchd.conf.db(5), `CT_Timeout_Policy`).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum TimeoutKind { $($(#[$doc])* $variant),* }

        impl TimeoutKind {
            /// All of them, in order of their numbers.
            pub const ALL: &[TimeoutKind] = &[$(TimeoutKind::$variant),*];

            /// The key in the table `CT_Timeout_Policy`.
            pub const fn name(self) -> &'static str {
                match self { $(TimeoutKind::$variant => $name),* }
            }

            /// Seconds unless configured otherwise, as OVS's userspace datapath has them.
            pub const fn default_secs(self) -> u32 {
                match self { $(TimeoutKind::$variant => $secs),* }
            }
        }
    };
}

timeouts! {
    /// A SYN was seen, or the first packet of a connection that is picked up.
    TcpSynSent "tcp_syn_sent" 30;
    /// Both ends have sent, and not both have acknowledged.
    TcpSynRecv "tcp_syn_recv" 30;
    /// Both ends have acknowledged.
    TcpEstablished "tcp_established" 86_400;
    /// One end has sent FIN.
    TcpFinWait "tcp_fin_wait" 900;
    /// Both ends have sent FIN.
    TcpTimeWait "tcp_time_wait" 45;
    /// Both FINs are acknowledged, or there was a RST.
    TcpClose "tcp_close" 30;
    /// One packet was seen, of UDP or of a protocol without states.
    UdpFirst "udp_first" 60;
    /// Several packets were seen, in one direction only.
    UdpSingle "udp_single" 60;
    /// Packets were seen in both directions.
    UdpMultiple "udp_multiple" 30;
    /// Only ICMP queries were seen.
    IcmpFirst "icmp_first" 60;
    /// An ICMP answer was seen.
    IcmpReply "icmp_reply" 30;
}

/// A set of timeouts, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts([u32; TimeoutKind::ALL.len()]);

impl Default for Timeouts {
    fn default() -> Self {
        let mut secs = [0; TimeoutKind::ALL.len()];
        for (secs, kind) in secs.iter_mut().zip(TimeoutKind::ALL) {
            *secs = kind.default_secs();
        }
        Timeouts(secs)
    }
}

impl Timeouts {
    /// The timeout for one state.
    #[inline]
    pub fn get(&self, kind: TimeoutKind) -> Duration {
        Duration::from_secs(self.0.get(kind as usize).copied().unwrap_or_default().into())
    }

    /// The shortest one.
    fn least(&self) -> Duration {
        Duration::from_secs(self.0.iter().min().copied().unwrap_or_default().into())
    }

    /// Sets one, cut to [`TIMEOUT_SECS_MAX`].
    pub fn set(&mut self, kind: TimeoutKind, secs: u32) {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = secs.min(TIMEOUT_SECS_MAX);
        }
    }

    /// Sets one by the key of `CT_Timeout_Policy`; false for keys that this tracker has no use for.
    pub fn set_named(&mut self, name: &str, secs: u32) -> bool {
        let kind = TimeoutKind::ALL.iter().find(|kind| kind.name() == name);
        if let Some(kind) = kind {
            self.set(*kind, secs);
        }
        kind.is_some()
    }
}

/// Configuration of a tracker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CtConfig {
    /// Most connections in all zones together.
    pub connections_max: u32,
    /// Most connections in a zone that `zone_limits` does not name; 0 for no limit.
    pub zone_limit_default: u32,
    /// Most connections in these zones; 0 for no limit.
    pub zone_limits: BTreeMap<Zone, u32>,
    /// Most connections without a reply that one ingress port may have; its oldest gives way to the next.
    pub embryonic_port_max: u32,
    /// Whether TCP sequence numbers must lie in the window (`dpctl/ct-enable-tcp-seq-chk`).
    pub tcp_seq_check: bool,
    /// Whether TCP connections may be picked up without their SYN.
    pub tcp_loose: bool,
    /// Timeouts of connections that no policy is named for.
    pub timeouts: Timeouts,
    /// Timeout policies.
    pub policies: BTreeMap<TimeoutPolicyId, Timeouts>,
    /// Policies of zones.
    pub zone_policies: BTreeMap<Zone, TimeoutPolicyId>,
}

impl Default for CtConfig {
    fn default() -> Self {
        CtConfig {
            connections_max: CONNECTIONS_MAX,
            zone_limit_default: 0,
            zone_limits: BTreeMap::new(),
            embryonic_port_max: CONNECTIONS_MAX / 8,
            tcp_seq_check: true,
            tcp_loose: true,
            timeouts: Timeouts::default(),
            policies: BTreeMap::new(),
            zone_policies: BTreeMap::new(),
        }
    }
}

impl CtConfig {
    /// The limit of a zone; `None` for none.
    pub fn zone_limit(&self, zone: Zone) -> Option<u32> {
        let limit = self.zone_limits.get(&zone).copied().unwrap_or(self.zone_limit_default);
        (limit != 0).then_some(limit)
    }

    /// The shortest time that any connection waits.
    pub(super) fn least_timeout(&self) -> Duration {
        self.policies.values().fold(self.timeouts.least(), |least, policy| least.min(policy.least()))
    }

    /// How long a connection waits: by its own policy, else its zone's, else the default.
    #[inline]
    pub(super) fn timeout(&self, zone: Zone, own: Option<TimeoutPolicyId>, kind: TimeoutKind) -> Duration {
        if self.policies.is_empty() {
            return self.timeouts.get(kind);
        }
        let policy = own.or_else(|| self.zone_policies.get(&zone).copied());
        policy.and_then(|id| self.policies.get(&id)).unwrap_or(&self.timeouts).get(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_the_connections_then_the_zones() {
        let mut config = CtConfig::default();
        let policy = |secs| {
            let mut t = Timeouts::default();
            assert!(t.set_named("udp_first", secs));
            assert!(!t.set_named("tcp_unack", secs), "Linux only");
            t
        };
        config.policies.insert(TimeoutPolicyId(1), policy(1));
        config.policies.insert(TimeoutPolicyId(2), policy(2));
        config.zone_policies.insert(Zone(5), TimeoutPolicyId(2));
        let get = |zone, own| config.timeout(Zone(zone), own, TimeoutKind::UdpFirst).as_secs();
        assert_eq!(get(5, Some(TimeoutPolicyId(1))), 1);
        assert_eq!(get(5, None), 2);
        assert_eq!(get(5, Some(TimeoutPolicyId(9))), 60, "a policy that is gone");
        assert_eq!(get(6, None), 60);
    }
}
