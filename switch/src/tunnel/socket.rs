//! The datapath ports that tunnel interfaces share: one a protocol and UDP port.

use super::config::{TunnelConfig, TunnelKind};
use crate::config::{InterfaceConfig, InterfaceKind, RxAffinity, RxQueues};
use packet::tunnel::TunnelProtocol;
use std::collections::{BTreeMap, BTreeSet};

impl From<TunnelKind> for TunnelProtocol {
    fn from(kind: TunnelKind) -> TunnelProtocol {
        match kind {
            TunnelKind::Vxlan => TunnelProtocol::Vxlan,
            TunnelKind::Geneve => TunnelProtocol::Geneve,
            TunnelKind::Gre | TunnelKind::Ip6Gre => TunnelProtocol::Gre,
            TunnelKind::Flannel => TunnelProtocol::Flannel,
        }
    }
}

/// What moves the packets of a datapath port for tunnels where the host routes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TunnelCarrier {
    /// Sockets.
    #[default]
    Sockets,
    /// The kernel's VXLAN device; sockets if the kernel refuses.
    KernelDevice,
}

/// A port of the datapath that sends and receives tunnel packets. Over IPv4 and IPv6 alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelSocket {
    /// What stands behind the outer IP header.
    pub protocol: TunnelProtocol,
    /// UDP destination port, in host order; 0 for GRE, which has none.
    pub port: u16,
}

impl TunnelSocket {
    /// Its name in the datapath, as OVS names it.
    pub fn name(&self) -> String {
        let stem = match self.protocol {
            TunnelProtocol::Gre => return "gre_sys".to_owned(),
            TunnelProtocol::Vxlan => "vxlan",
            TunnelProtocol::Geneve => "genev",
            TunnelProtocol::Flannel => "flann",
        };
        format!("{stem}_sys_{}", self.port)
    }

    /// Name of the TAP by which a port receives that the kernel's VXLAN device carries.
    pub fn tap_name(&self) -> String {
        self.name().replacen("_sys_", "_tap_", 1)
    }

    /// What to open: as if it were an interface of that name.
    pub fn interface(&self, carrier: TunnelCarrier) -> InterfaceConfig {
        InterfaceConfig {
            name: self.name(),
            kind: InterfaceKind::Socket(*self, carrier),
            type_name: self.kind().name().to_owned(),
            row: String::new(),
            ofport_request: None,
            mtu_request: None,
            mac: None,
            rx_queues: RxQueues::default(),
            rx_affinity: RxAffinity::default(),
            netns: None,
        }
    }

    /// The interface type that it serves, as dpctl/show has it.
    pub fn kind(&self) -> TunnelKind {
        match self.protocol {
            TunnelProtocol::Vxlan => TunnelKind::Vxlan,
            TunnelProtocol::Geneve => TunnelKind::Geneve,
            TunnelProtocol::Gre => TunnelKind::Gre,
            TunnelProtocol::Flannel => TunnelKind::Flannel,
        }
    }
}

/// Whether an interface may not have this name, as a tunnel's datapath port may want it.
pub fn is_reserved(name: &str) -> bool {
    name == "gre_sys"
        || ["vxlan_sys_", "vxlan_tap_", "genev_sys_", "flann_sys_"]
            .iter()
            .any(|stem| name.strip_prefix(stem).is_some_and(|port| port.parse::<u16>().is_ok()))
}

/// Claims of tunnel interfaces while a configuration is read: what two of them cannot both have.
#[derive(Debug, Default)]
pub struct Claims {
    taken: BTreeSet<super::map::TunnelMatch>,
    policies: BTreeMap<u16, bool>,
}

impl Claims {
    /// Takes what an interface needs for itself.
    ///
    /// # Errors
    /// What its `error` column is to say: another has it, with OVS's words.
    pub fn take(&mut self, name: &str, config: &TunnelConfig) -> Result<(), String> {
        if config.kind == TunnelKind::Vxlan
            && *self.policies.entry(config.dst_port).or_insert(config.gbp) != config.gbp
        {
            return Err(format!(
                "{name}: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port"
            ));
        }
        if !self.taken.insert(super::map::TunnelMatch::of(config.socket(), config)) {
            return Err(format!("could not add network device {name} to ofproto (File exists)"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: TunnelKind, options: &[(&str, &str)]) -> TunnelConfig {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TunnelConfig::parse("t", kind, &options).unwrap().config
    }

    #[test]
    fn names_are_those_of_ovs_and_reserved() {
        let vxlan = config(TunnelKind::Vxlan, &[("remote_ip", "flow"), ("dst_port", "8472")]).socket();
        assert_eq!(vxlan.name(), "vxlan_sys_8472");
        assert_eq!(config(TunnelKind::Geneve, &[("remote_ip", "flow")]).socket().name(), "genev_sys_6081");
        let gre = config(TunnelKind::Gre, &[("remote_ip", "flow")]).socket();
        assert_eq!(gre.name(), "gre_sys");
        assert_eq!(config(TunnelKind::Ip6Gre, &[("remote_ip", "::1")]).socket(), gre);
        assert!(is_reserved("gre_sys") && is_reserved("vxlan_sys_4789"));
        assert!(vxlan.tap_name() == "vxlan_tap_8472" && is_reserved(&vxlan.tap_name()));
        assert!(!is_reserved("vxlan_sys_") && !is_reserved("vxlan_sys_x") && !is_reserved("gre_sys0"));
    }

    #[test]
    fn what_two_cannot_share_goes_to_the_first() {
        let mut claims = Claims::default();
        let base = [("remote_ip", "1.1.1.1")];
        let take = |claims: &mut Claims, name: &str, options: &[(&str, &str)]| {
            claims.take(name, &config(TunnelKind::Vxlan, options))
        };
        assert_eq!(take(&mut claims, "a", &base), Ok(()));
        assert_eq!(
            take(&mut claims, "b", &base).unwrap_err(),
            "could not add network device b to ofproto (File exists)"
        );
        // What goes out makes no difference for what comes in.
        assert!(take(&mut claims, "b", &[base[0], ("out_key", "7")]).is_err());
        assert_eq!(take(&mut claims, "b", &[base[0], ("in_key", "7")]), Ok(()));
        assert_eq!(
            take(&mut claims, "c", &[("remote_ip", "2.2.2.2"), ("exts", "gbp")]).unwrap_err(),
            "c: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port"
        );
        let other = [("remote_ip", "2.2.2.2"), ("exts", "gbp"), ("dst_port", "4790")];
        assert_eq!(take(&mut claims, "c", &other), Ok(()));
    }
}
