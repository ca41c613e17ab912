//! The brain of the switch, pure: what is configured, what follows for frames, and how the two are kept apart.
//!
//! The forwarding half turns a configuration into a snapshot ([`forwarding::Forwarding`]) that workers ask: [`translate`]
//! walks a frame through a bridge's tables to a program, [`normal`] switches on [`mac`] and [`vlan`], [`profile`] says what
//! the flow cache has to look at, [`recirc`] keeps pipelines that wait for a frame to be parsed anew, [`trace`] and
//! [`dp_text`] tell people about it.
//!
//! The control half is the [`brain`]: it takes a [`config`]uration, requests of controllers ([`ofproto`]) and news of devices,
//! and gives snapshots, replies and commands; [`plan`] says which devices to open and close, [`balance`] which worker receives from
//! which of them, [`afxdp`] how frames are taken from a kind of them.
//!
//! Invariants: no socket, thread or clock is known here; a translation changes nothing; what workers see changes at
//! publication, or with the revision of learned state.

pub mod afxdp;
pub mod balance;
pub mod brain;
pub mod bridge;
pub mod config;
pub mod dp_text;
pub mod forwarding;
pub mod mac;
pub mod meter;
pub mod normal;
pub mod ofproto;
pub mod plan;
pub mod profile;
pub mod recirc;
pub mod trace;
pub mod translate;
pub mod tunnel;
pub mod underlay;
pub mod vlan;
