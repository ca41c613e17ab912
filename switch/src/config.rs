//! The configuration that is wanted, as a value: what the rows of the Open_vSwitch database say, validated.
//!
//! Names and defaults are those of ovs-vswitchd.conf.db(5). Reading the database is the daemon's business; making it true
//! starts with [`plan`](crate::plan).

use crate::afxdp::AfXdpOptions;
use crate::balance::AutoBalance;
use crate::bridge::FailMode;
use crate::mac::{self, MacAddr};
use crate::tunnel::{TunnelCarrier, TunnelConfig, TunnelSocket};
use crate::vlan::{VlanConfig, VlanSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeConfig>,
    /// Limits of the flow cache.
    pub cache: CacheConfig,
    /// The workers.
    pub workers: WorkersConfig,
    /// `other_config:vxlan-kernel-device`: whether the kernel's VXLAN device is to carry tunnels of this type.
    pub vxlan_kernel_device: bool,
    /// Timeouts of connections by zone: seconds by the keys of `CT_Timeout_Policy`. What a zone does not name keeps its
    /// default.
    pub zone_timeouts: BTreeMap<u16, BTreeMap<String, u32>>,
}

/// `Open_vSwitch:other_config` as far as the flow cache goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// `flow-limit`: most cached flows of a worker.
    pub flow_limit: usize,
    /// `max-idle`: a cached flow without traffic for so long is dropped.
    pub max_idle: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig { flow_limit: 200_000, max_idle: Duration::from_secs(10) }
    }
}

/// Most workers that can be asked for.
pub const WORKERS_MAX: usize = 64;

/// `Open_vSwitch:other_config` as far as workers go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WorkersConfig {
    /// `pmd-cpu-mask`.
    pub cpus: WorkerCpus,
    /// `pmd-auto-lb` and what belongs to it; `None` if it is off.
    pub auto_balance: Option<AutoBalance>,
}

/// Which processors have a worker.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum WorkerCpus {
    /// Nothing is said: the number of workers is the daemon's choice, and they are not bound.
    #[default]
    Default,
    /// These, in order; at most [`WORKERS_MAX`], at least one.
    Bound(Vec<usize>),
    /// What is said makes no sense: all stays as it was.
    Invalid,
}

impl WorkerCpus {
    /// Reads a mask in hexadecimal, `0x` in front or not, whose lowest bit is processor 0.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<WorkerCpus, String> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("is not a mask in hexadecimal".to_owned());
        }
        let bits_of = |(place, digit): (usize, char)| {
            let bits = digit.to_digit(16).unwrap_or(0);
            (0..4).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| place * 4 + bit)
        };
        let cpus: Vec<usize> = digits.chars().rev().enumerate().flat_map(bits_of).collect();
        match cpus.len() {
            0 => Err("names no processor".to_owned()),
            n if n > WORKERS_MAX => Err(format!("names more than {WORKERS_MAX} processors")),
            _ => Ok(WorkerCpus::Bound(cpus)),
        }
    }
}

/// One row of the Bridge table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Name, also of its local port.
    pub name: String,
    /// `datapath_type`: empty, `system`, `netdev` or `dummy`.
    pub datapath_type: String,
    /// `other_config:datapath-id`.
    pub datapath_id: Option<u64>,
    /// `other_config:dp-desc`: what an OpenFlow description shows.
    pub dp_desc: Option<String>,
    /// `other_config:dp-sn`: the serial number that it shows.
    pub dp_sn: Option<String>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<MacAddr>,
    /// `fail_mode`.
    pub fail_mode: FailMode,
    /// `protocols`: OpenFlow version bytes that are allowed; empty for the default, all that are built.
    pub protocols: Vec<u8>,
    /// `other_config:mac-aging-time`.
    pub mac_aging: Duration,
    /// `other_config:mac-table-size`.
    pub mac_table_size: usize,
    /// `other_config:forward-bpdu`.
    pub forward_bpdu: bool,
    /// `flood_vlans`.
    pub flood_vlans: VlanSet,
    /// Ports by name.
    pub ports: BTreeMap<String, PortConfig>,
    /// Targets of controllers, such as `tcp:127.0.0.1:6653`, with their settings.
    pub controllers: BTreeMap<String, ControllerConfig>,
    /// Settings of OpenFlow tables by number.
    pub flow_tables: BTreeMap<u8, FlowTableConfig>,
}

impl BridgeConfig {
    /// A bridge with every setting at its default and no port.
    pub fn new(name: &str) -> BridgeConfig {
        BridgeConfig {
            name: name.to_owned(),
            datapath_type: String::new(),
            datapath_id: None,
            dp_desc: None,
            dp_sn: None,
            hwaddr: None,
            fail_mode: FailMode::default(),
            protocols: Vec::new(),
            mac_aging: mac::AGING_DEFAULT,
            mac_table_size: mac::ENTRIES_DEFAULT,
            forward_bpdu: false,
            flood_vlans: VlanSet::new(),
            ports: BTreeMap::new(),
            controllers: BTreeMap::new(),
            flow_tables: BTreeMap::new(),
        }
    }

    /// Whether controllers decide what it does. Those that it only listens for do not count, as in OVS.
    pub fn is_controlled(&self) -> bool {
        self.controllers.keys().any(|target| is_active(target))
    }
}

/// Whether a target is one to connect to, rather than one to listen on (`ptcp:`, `punix:`).
pub fn is_active(target: &str) -> bool {
    !target.starts_with('p')
}

/// One row of the Port table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Name.
    pub name: String,
    /// VLANs.
    pub vlan: VlanConfig,
    /// `protected`.
    pub protected: bool,
    /// Interfaces by name; more than one makes a bond.
    pub interfaces: BTreeMap<String, InterfaceConfig>,
}

/// What stands behind an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A TAP that the switch makes (`internal`, `tap`).
    Tap,
    /// An existing network device (`system`, or no type).
    System,
    /// An existing network device whose frames an XDP program takes (`afxdp`).
    AfXdp(AfXdpOptions),
    /// A pair of queues in memory (`dummy`).
    Dummy,
    /// Files: frames are read from one and written to the other (`options:rx_pcap`, `options:tx_pcap`).
    Pcap {
        /// File to read.
        rx: Option<String>,
        /// File to write.
        tx: Option<String>,
    },
    /// A wire to a port of another bridge (`patch`, `options:peer`).
    Patch {
        /// Name of the interface at the other end.
        peer: String,
    },
    /// A tunnel to other switches (`vxlan`, `geneve`, `gre`, `ip6gre`, `flannel`). It has no device of its own: all of one
    /// protocol and UDP port share a [`TunnelSocket`](crate::tunnel::TunnelSocket).
    Tunnel(Arc<TunnelConfig>),
    /// What tunnels share, as if it were an interface. No row says so: [`plan`](crate::plan) does.
    Socket(TunnelSocket, TunnelCarrier),
}

impl InterfaceKind {
    /// Whether the interface is no device but something that the switch itself is at both ends of, or shares.
    pub fn is_virtual(&self) -> bool {
        matches!(self, InterfaceKind::Patch { .. } | InterfaceKind::Tunnel(_))
    }
}

/// One row of the Interface table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// `type` as the row says it: `internal` and `tap` are the same kind.
    pub type_name: String,
    /// Identity of the row: a device is known by it after a restart, wherever it was moved and whatever it is called there.
    pub row: String,
    /// `ofport_request`, 1 to 65279.
    pub ofport_request: Option<u16>,
    /// `mtu_request`, in bytes of packet.
    pub mtu_request: Option<u16>,
    /// `mac`.
    pub mac: Option<MacAddr>,
    /// `options:n_rxq` of a TAP.
    pub rx_queues: RxQueues,
    /// `other_config:pmd-rxq-affinity`.
    pub rx_affinity: RxAffinity,
    /// `options:netns`: the namespace that the device is moved to, by name or path.
    pub netns: Option<String>,
}

/// Most queues of a TAP, each with a receiving side.
pub const RX_QUEUES_MAX: u16 = 64;

/// How many queues a device shall have, each with a receiving side.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum RxQueues {
    /// Nothing is said: one, and a new device has room for no more.
    #[default]
    Default,
    /// So many, 1 to [`RX_QUEUES_MAX`]; a new device has room for more.
    Count(u16),
    /// What is said makes no sense, and why: the number stays what it was, one in a new device, which has room for more.
    Invalid(String),
}

impl RxQueues {
    /// What `options:n_rxq` says; 0 is the default, as in OVS.
    pub fn parse(interface: &str, text: Option<&str>) -> RxQueues {
        let Some(text) = text else { return RxQueues::Default };
        match text.parse() {
            Ok(0) => RxQueues::Default,
            Ok(count @ 1..=RX_QUEUES_MAX) => RxQueues::Count(count),
            _ => RxQueues::Invalid(format!(
                "{interface}: options:n_rxq '{text}' is not a number from 1 to {RX_QUEUES_MAX}"
            )),
        }
    }
}

/// Processors that receiving sides are pinned to, by the sides' numbers.
pub type RxAffinity = BTreeMap<u16, usize>;

/// Reads `0:3,1:7`: side and processor, side and processor.
///
/// # Errors
/// What is wrong with it.
pub fn parse_affinity(text: &str) -> Result<RxAffinity, String> {
    let pair = |item: &str| {
        let (side, cpu) = item.split_once(':')?;
        Some((side.trim().parse().ok()?, cpu.trim().parse().ok()?))
    };
    let items = text.split(',').filter(|item| !item.trim().is_empty());
    let read =
        |item: &str| pair(item).ok_or_else(|| format!("'{item}' is not a queue and a core such as 0:3"));
    items.map(read).collect()
}

/// One row of the Controller table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// `max_backoff`.
    pub max_backoff: Duration,
    /// `inactivity_probe`; zero for none.
    pub inactivity_probe: Duration,
    /// Whether the connection takes part in the switch (`type=primary`) or only serves requests (`service`).
    pub primary: bool,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        ControllerConfig {
            max_backoff: Duration::from_secs(8),
            inactivity_probe: Duration::from_secs(5),
            primary: true,
        }
    }
}

/// One row of the Flow_Table table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FlowTableConfig {
    /// `name`.
    pub name: Option<String>,
    /// `flow_limit`: most rules.
    pub flow_limit: Option<usize>,
    /// `overflow_policy` is `evict`: at the limit the least important rule makes room.
    pub evict: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_name_processors_from_the_lowest_bit_on() {
        let bound = |cpus: &[usize]| Ok(WorkerCpus::Bound(cpus.to_vec()));
        for text in ["6", "0x6", "0X06", "00000000000000000000000000000000000000006"] {
            assert_eq!(WorkerCpus::parse(text), bound(&[1, 2]));
        }
        assert_eq!(WorkerCpus::parse("0xA01"), bound(&[0, 9, 11]));
        assert_eq!(WorkerCpus::parse("10000000000000000000"), bound(&[76]));
        assert_eq!(WorkerCpus::parse("ffffffffffffffff"), bound(&(0..64).collect::<Vec<_>>()));
        for (text, why) in [
            ("", "hexadecimal"),
            ("0x", "hexadecimal"),
            ("zz", "hexadecimal"),
            ("-1", "hexadecimal"),
            ("+3", "hexadecimal"),
            ("3 ", "hexadecimal"),
            ("0x0", "no processor"),
            ("1ffffffffffffffff", "more than 64"),
        ] {
            assert!(WorkerCpus::parse(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn affinities_are_pairs() {
        assert_eq!(parse_affinity("0:3,1:7"), Ok([(0, 3), (1, 7)].into()));
        assert_eq!(parse_affinity(""), Ok(RxAffinity::new()));
        for bad in ["0", "0:", ":1", "a:1", "0:1;1:2", "0:1:2", "-1:0", "70000:0"] {
            assert!(parse_affinity(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_of_queues() {
        assert_eq!(RxQueues::parse("p", None), RxQueues::Default);
        assert_eq!(RxQueues::parse("p", Some("0")), RxQueues::Default);
        assert_eq!(RxQueues::parse("p", Some("64")), RxQueues::Count(64));
        for bad in ["65", "", "x", "-1", "70000"] {
            assert!(matches!(RxQueues::parse("p", Some(bad)), RxQueues::Invalid(_)), "{bad}");
        }
    }
}
