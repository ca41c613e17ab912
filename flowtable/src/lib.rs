//! What rules are made of and how they are found: the field table, keys, masks, matches, OpenFlow actions as data, the
//! classifier, tables of rules, and ovs-ofctl's text syntax for all of it.
//!
//! Invariants: no bytes of a wire format are read or written here, and no thread or clock is known; a fact about a field
//! stands in one row of the field table and nowhere else.

pub mod action;
pub mod classifier;
pub mod ct;
pub mod expiry;
pub mod field;
pub mod flow_mod;
pub mod group;
pub mod key;
pub mod meter;
pub mod port;
pub mod rule;
pub mod store;
pub mod table;
pub mod text;
pub mod trie;

pub use action::{OfAction, PacketInReason, SubField, TableId};
pub use classifier::{Classifier, PackedMatch};
pub use ct::{CtAction, CtAlg, NatAction, NatKind, ZoneSource};
pub use field::{Field, FieldId};
pub use flow_mod::{FlowMod, FlowModCommand, FlowModError, OnMissing, RuleChange, RuleFilter};
pub use group::GroupId;
pub use key::{FlowKey, Mask, Match, PipelineKey, Words};
pub use meter::MeterId;
pub use port::OfPort;
pub use rule::{Cookie, RemovalReason, Rule, RuleFlags, RuleStats};
pub use store::{ActionSummary, RuleStore, TableIdSet};
pub use table::{LookupCounters, Table, TableAccess, TableConfig, Tables};
