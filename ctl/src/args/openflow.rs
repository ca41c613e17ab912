//! Commands about flows and ports as OpenFlow sees them.

use std::path::PathBuf;

/// A command that needs nothing but a bridge.
#[derive(clap::Args, Debug)]
pub struct BridgeName {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
}

const FLOW_HELP: &str = "\
A flow is a match, settings and actions as ovs-ofctl takes them (see ovs-fields(7) and ovs-actions(7)); ports may be named.

Examples:
  tapctl add-flow br0 'table=0,priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=output:pod2'
  tapctl add-flow br0 'in_port=pod1,actions=load:0x1->NXM_NX_REG0[],resubmit(,1)'
  tapctl add-flow br0 'priority=0,actions=NORMAL'";

/// `add-flow`.
#[derive(clap::Args, Debug)]
#[command(after_help = FLOW_HELP)]
pub struct AddFlow {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// The flow
    #[arg(value_name = "FLOW")]
    pub flow: String,
}

const FLOWS_HELP: &str = "\
A flow on each line. A line may begin with add, modify, modify_strict, delete or delete_strict to do something else than \
add. Empty lines and what follows a # are skipped. The switch makes all changes at once, or none if one is refused.";

/// `add-flows`.
#[derive(clap::Args, Debug)]
#[command(after_help = FLOWS_HELP)]
pub struct AddFlows {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// File with the flows; - for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `mod-flows`.
#[derive(clap::Args, Debug)]
pub struct ModFlows {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Which flows, and their new actions
    #[arg(value_name = "FLOW")]
    pub flow: String,
    /// Only the flow with this very match and priority
    #[arg(long)]
    pub strict: bool,
}

/// `del-flows`.
#[derive(clap::Args, Debug)]
pub struct DeleteFlows {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Which flows; without it all
    #[arg(value_name = "MATCH")]
    pub flow: Option<String>,
    /// Only the flow with this very match and priority
    #[arg(long, requires = "flow")]
    pub strict: bool,
}

/// `dump-flows`.
#[derive(clap::Args, Debug)]
pub struct DumpFlows {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Which flows, such as `table=0` or `in_port=pod1,tcp`; without it all
    #[arg(value_name = "MATCH")]
    pub flow: Option<String>,
    /// Leave out counters and ages: what remains can be given to add-flows
    #[arg(long)]
    pub no_stats: bool,
    /// Print ports by name
    #[arg(long)]
    pub names: bool,
}

/// `dump-ports`.
#[derive(clap::Args, Debug)]
pub struct DumpPorts {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Name or number of a port; without it all
    #[arg(value_name = "PORT")]
    pub port: Option<String>,
}

/// `mod-port`.
#[derive(clap::Args, Debug)]
pub struct ModPort {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// Name or number of the port
    #[arg(value_name = "PORT")]
    pub port: String,
    /// What to set
    #[arg(value_name = "SETTING", required = true)]
    pub settings: Vec<PortSetting>,
}

/// A setting of a port. Those about flooding exist in OpenFlow 1.0 only.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortSetting {
    /// Bring the link up
    Up,
    /// Take the link down
    Down,
    /// Let FLOOD reach the port
    Flood,
    /// Keep FLOOD from the port
    NoFlood,
    /// Accept frames from the port
    Receive,
    /// Drop frames from the port
    NoReceive,
    /// Send frames to the port
    Forward,
    /// Drop frames to the port
    NoForward,
    /// Send its frames to the controller if a flow says so
    PacketIn,
    /// Never send its frames to the controller
    NoPacketIn,
}

const PACKET_OUT_HELP: &str = "\
Example:
  tapctl packet-out br0 --in-port pod1 --actions output:pod2 \\
      'ffffffffffff 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002'";

/// `packet-out`.
#[derive(clap::Args, Debug)]
#[command(after_help = PACKET_OUT_HELP)]
pub struct PacketOut {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// The frame in hexadecimal digits, from its destination address on; blanks and colons are skipped
    #[arg(value_name = "FRAME")]
    pub frame: String,
    /// Port that the frame seems to have come from
    #[arg(long, value_name = "PORT", default_value = "CONTROLLER")]
    pub in_port: String,
    /// What to do with it; TABLE sends it through the flow tables
    #[arg(long, value_name = "ACTIONS", default_value = "TABLE")]
    pub actions: String,
}

/// `monitor`.
#[derive(clap::Args, Debug)]
pub struct Monitor {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// End after so many frames
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}
