//! ovs-ofctl's flow syntax (ovs-ofctl(8), ovs-fields(7), ovs-actions(7)), read and printed in one place for the command
//! line, for traces and for dumps. What it reads and prints was compared with ovs-ofctl 3.1, and the tests still do so
//! where that program is installed.
//!
//! Everything about a single field comes from the field table. Deliberately not here: versions of OpenFlow (an action
//! list that a version cannot carry is the codec's to refuse) and the datapath's own flow syntax, which the switch prints.
//!
//! Two differences from ovs-ofctl are meant. A value with bits that its field does not have (`dl_vlan=4096`,
//! `arp_op=256`) is an error where ovs-ofctl drops the bits. And in keys for traces `tp_src`, `tp_dst`, `icmp_type` and
//! `icmp_code` mean what the protocol says, where ovs-appctl takes them for TCP's and ICMPv4's only.

pub mod address;

mod action_parse;
mod action_print;
mod check;
mod ct;
mod error;
mod flags;
mod flow;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod key;
mod line;
mod match_parse;
mod match_print;
mod meter;
mod names;
mod number;
mod subfield;
mod token;
mod value;

pub use action_parse::parse_actions;
pub use action_print::{DisplayActions, display_actions};
pub use error::{TextError, TextFault};
pub use flow::{FlowUsage, ParsedFlow, parse_flow, parse_flow_line};
pub use group::{
    BucketIds, DisplayGroup, GroupFault, display_group, parse_group_filter, parse_group_line, parse_group_mod,
};
pub use key::{DisplayKey, display_key, parse_key};
pub use line::{FlowLine, FlowLineForm};
pub use match_parse::{normalize, parse_match};
pub use match_print::{DisplayMatch, display_match};
pub use meter::{DisplayMeter, MeterFault, display_meter, parse_meter_filter, parse_meter_mod};
pub use names::{Dialect, NoPortNames, PortNames, TextStyle};
pub use number::parse_port;
pub use subfield::{DisplaySubField, display_subfield, parse_subfield};
pub use value::{DisplayValue, display_value, parse_value};
