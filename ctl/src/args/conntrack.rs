//! Commands about connection tracking.

use clap::{Subcommand, ValueEnum};

const CONNTRACK_HELP: &str = "\
Examples:
  tapctl conntrack show --zone 5
  tapctl --json conntrack show | jq '.[] | select(.state == \"SYN_SENT\")'
  tapctl conntrack flush 'ct_nw_src=10.0.0.1,ct_nw_proto=6'
  tapctl conntrack set-limits --default 10000 5=500
  tapctl conntrack maxconns 1000000

Settings hold until the daemon ends. Timeouts are kept in the database: ovs-vsctl add-zone-tp netdev zone=5 udp_first=30.";

/// `conntrack`.
#[derive(clap::Args, Debug)]
#[command(after_help = CONNTRACK_HELP, arg_required_else_help = true)]
pub struct Conntrack {
    /// What to do.
    #[command(subcommand)]
    pub command: ConntrackCommand,
}

/// The commands of `conntrack`.
#[derive(Subcommand, Debug)]
pub enum ConntrackCommand {
    /// Print the connections
    Show(Zone),
    /// End connections
    Flush(Flush),
    /// Print how many connections there are, by protocol and TCP state
    Stats(Zone),
    /// Print the limits of zones, with how many connections they have
    Limits(Limits),
    /// Set limits of zones
    SetLimits(SetLimits),
    /// Remove limits of zones, which then have the default
    DelLimits(DeleteLimits),
    /// Print or set how many connections there may be in all
    Maxconns(Maxconns),
    /// Print or set whether TCP sequence numbers must lie in the window
    SeqCheck(SeqCheck),
    /// Print how many connections each part of the table holds
    Buckets,
    /// Print the settings and counters of the reassembly of fragments
    Fragments,
    /// Change settings of the reassembly of fragments
    SetFragments(SetFragments),
}

/// A zone, or all.
#[derive(clap::Args, Debug)]
pub struct Zone {
    /// Only this zone
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<u16>,
}

const FLUSH_HELP: &str = "\
A tuple is a list of ct_nw_src, ct_nw_dst, ct_ipv6_src, ct_ipv6_dst, ct_nw_proto, ct_tp_src, ct_tp_dst, icmp_id, icmp_type \
and icmp_code, each =VALUE, as ovs-appctl dpctl/flush-conntrack takes it; what it does not name may be anything. TUPLE is \
compared with the original direction as it was before translation. A tuple that names all of a connection fails if there is \
none; without a zone it is sought in zone 0.";

/// `conntrack flush`.
#[derive(clap::Args, Debug)]
#[command(after_help = FLUSH_HELP)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["zone", "tuple", "reply", "all"])))]
pub struct Flush {
    /// Only in this zone
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<u16>,
    /// What the original direction's packets have
    #[arg(value_name = "TUPLE")]
    pub tuple: Option<String>,
    /// What the replies have
    #[arg(long, value_name = "TUPLE")]
    pub reply: Option<String>,
    /// Every connection there is
    #[arg(long, conflicts_with_all = ["zone", "tuple", "reply"])]
    pub all: bool,
}

/// `conntrack limits`.
#[derive(clap::Args, Debug)]
pub struct Limits {
    /// The zones; without any, those that have a limit of their own
    #[arg(value_name = "ZONE")]
    pub zones: Vec<u16>,
}

/// A zone and its limit.
#[derive(Clone, Copy, Debug)]
pub struct ZoneLimit {
    /// The zone.
    pub zone: u16,
    /// Most connections; 0 for any number.
    pub limit: u32,
}

fn parse_limit(text: &str) -> Result<ZoneLimit, String> {
    let (zone, limit) = text.split_once('=').ok_or("not ZONE=LIMIT")?;
    let zone = zone.parse().map_err(|_| format!("'{zone}' is no zone (0 to 65535)"))?;
    let limit = limit.parse().map_err(|_| format!("'{limit}' is no number of connections"))?;
    Ok(ZoneLimit { zone, limit })
}

/// `conntrack set-limits`.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["default", "limits"])))]
pub struct SetLimits {
    /// For zones that have none of their own; 0 for any number
    #[arg(long, value_name = "LIMIT")]
    pub default: Option<u32>,
    /// A zone and how many connections it may have; 0 for any number
    #[arg(value_name = "ZONE=LIMIT", value_parser = parse_limit)]
    pub limits: Vec<ZoneLimit>,
}

/// `conntrack del-limits`.
#[derive(clap::Args, Debug)]
pub struct DeleteLimits {
    /// The zones
    #[arg(value_name = "ZONE", required = true)]
    pub zones: Vec<u16>,
}

/// `conntrack maxconns`.
#[derive(clap::Args, Debug)]
pub struct Maxconns {
    /// How many; without it, what is set is printed
    #[arg(value_name = "N")]
    pub max: Option<u32>,
}

/// `conntrack seq-check`.
#[derive(clap::Args, Debug)]
pub struct SeqCheck {
    /// Whether to check; without it, what is set is printed
    #[arg(value_name = "STATE")]
    pub state: Option<Switched>,
}

/// On or off.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switched {
    /// Yes.
    On,
    /// No.
    Off,
}

/// `conntrack set-fragments`.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["max", "min_v4", "min_v6", "v4", "v6"])))]
pub struct SetFragments {
    /// Fragments that may wait for the rest of their packets
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Least size in bytes of an IPv4 fragment that is not the last
    #[arg(long, value_name = "BYTES")]
    pub min_v4: Option<u32>,
    /// Least size in bytes of an IPv6 fragment that is not the last
    #[arg(long, value_name = "BYTES")]
    pub min_v6: Option<u32>,
    /// Whether IPv4 packets are put together
    #[arg(long, value_name = "STATE")]
    pub v4: Option<Switched>,
    /// Whether IPv6 packets are put together
    #[arg(long, value_name = "STATE")]
    pub v6: Option<Switched>,
}
