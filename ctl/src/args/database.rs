//! Commands about the configuration.

use clap::builder::PossibleValuesParser;

/// Whether to wait for the daemon.
#[derive(clap::Args, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Do not wait until the daemon has taken up the change
    #[arg(long)]
    pub no_wait: bool,
}

/// `add-br`.
#[derive(clap::Args, Debug)]
pub struct AddBridge {
    /// Name of the bridge, and of its own port and interface
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Do nothing if the bridge exists, but set what other options ask for
    #[arg(long)]
    pub may_exist: bool,
    /// What a bridge without a controller does: forward like a plain switch, or only what flows say
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["standalone", "secure"]))]
    pub fail_mode: Option<String>,
    /// Kind of datapath, such as netdev
    #[arg(long, value_name = "T")]
    pub datapath_type: Option<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// `del-br`.
#[derive(clap::Args, Debug)]
pub struct DeleteBridge {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Do nothing if there is no such bridge
    #[arg(long)]
    pub if_exists: bool,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// What `--type` may be: the daemon's `iface_types`.
const TYPES: [&str; 12] = [
    "internal", "tap", "system", "afxdp", "patch", "vxlan", "geneve", "gre", "ip6gre", "flannel", "dummy",
    "pcap",
];

const PORT_TYPES: &str = "\
Types:
  system    an existing network device, attached by a packet socket (what is meant without --type)
  afxdp     the same, attached by AF_XDP sockets: --option xdp-mode=MODE, n_rxq=N
  internal  a TAP that the switch makes and `ip link set PORT netns NS` may move; --option n_rxq=N for N queues
  tap       the same, by the name that other switches use
  patch     a wire to a port of another bridge: --option peer=PORT
  vxlan, geneve, gre, ip6gre, flannel
            a tunnel to another node: --option remote_ip=ADDRESS --option key=VNI
  dummy     a port in memory, for tests (needs a daemon with --enable-dummy)
  pcap      frames from and to capture files: --option rx_pcap=FILE --option tx_pcap=FILE

Examples:
  tapctl add-port br0 pod1 --type internal --tag 10
  tapctl add-port br0 pod2 --type internal --netns pod2 --mtu 9000
  tapctl add-port br0 eth1 --trunks 10,20 --vlan-mode native-untagged --tag 10
  tapctl add-port br0 to-br1 --type patch --option peer=to-br0
  tapctl add-port br0 node2 --type vxlan --option remote_ip=192.0.2.2 --option key=7";

/// `add-port`.
#[derive(clap::Args, Debug)]
#[command(after_help = PORT_TYPES)]
pub struct AddPort {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Name of the port and of its interface
    #[arg(value_name = "PORT")]
    pub port: String,
    /// Kind of interface, see below
    #[arg(long = "type", value_name = "TYPE")]
    #[arg(value_parser = PossibleValuesParser::new(TYPES))]
    pub kind: Option<String>,
    /// VLAN of an access port, or the native VLAN of a trunk
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=4095))]
    pub tag: Option<i64>,
    /// VLANs that a trunk carries; without it all
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = clap::value_parser!(i64).range(0..=4095))]
    pub trunks: Vec<i64>,
    /// How the port treats VLANs
    #[arg(long, value_name = "MODE")]
    #[arg(value_parser = PossibleValuesParser::new(["access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel"]))]
    pub vlan_mode: Option<String>,
    /// Network namespace to put the device into, by its name under /run/netns
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Largest packet, in bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(68..=65535))]
    pub mtu: Option<i64>,
    /// OpenFlow port number to ask for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=65279))]
    pub ofport: Option<i64>,
    /// Option of the interface's type; may be given again
    #[arg(long = "option", value_name = "K=V", value_parser = parse_pair)]
    pub options: Vec<(String, String)>,
    /// Do not complain if the bridge has the port already, but set what other options ask for
    #[arg(long)]
    pub may_exist: bool,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// `del-port`.
#[derive(clap::Args, Debug)]
#[command(override_usage = "tapctl del-port [OPTIONS] [BR] <PORT>")]
pub struct DeletePort {
    /// Name of the port, after that of the bridge that it must be on if you like
    #[arg(value_name = "[BR] PORT", num_args = 1..=2, required = true)]
    pub names: Vec<String>,
    /// Do nothing if there is no such port
    #[arg(long)]
    pub if_exists: bool,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// `list-ports`.
#[derive(clap::Args, Debug)]
pub struct ListPorts {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
}

const SET_HELP: &str = "\
TABLE and COLUMN may be shortened as long as they are unambiguous. RECORD is a name (of a bridge, port or interface), a \
UUID, or `.` for the only record of its table. `COLUMN:KEY=VALUE` sets one key of a map and leaves the others; \
`COLUMN=[]` empties a set, `COLUMN={}` a map.

Examples:
  tapctl set port pod2 tag=10
  tapctl set interface pod1 options:netns=pod1 mtu_request=9000
  tapctl set bridge br0 fail_mode=secure other_config:mac-table-size=4096
  tapctl set open . other_config:flow-restore-wait=true";

/// `set`.
#[derive(clap::Args, Debug)]
#[command(after_help = SET_HELP)]
pub struct SetColumns {
    /// Table of the database
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// Name or UUID of the record
    #[arg(value_name = "RECORD")]
    pub record: String,
    /// Columns with their new values
    #[arg(value_name = "COLUMN[:KEY]=VALUE", required = true)]
    pub settings: Vec<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
}

const GET_HELP: &str = "\
One line for each column that is asked for, as ovs-vsctl prints values; without a column all of them with their names.

Examples:
  tapctl get interface pod1 ofport
  tapctl get interface pod1 statistics:rx_packets error
  tapctl get open .";

/// `get`.
#[derive(clap::Args, Debug)]
#[command(after_help = GET_HELP)]
pub struct GetColumns {
    /// Table of the database
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// Name or UUID of the record
    #[arg(value_name = "RECORD")]
    pub record: String,
    /// Columns, or keys in columns that are maps
    #[arg(value_name = "COLUMN[:KEY]")]
    pub columns: Vec<String>,
    /// Print an empty line for a record or key that does not exist
    #[arg(long)]
    pub if_exists: bool,
}
