use crate::Drop;
use base::{HashSeed, Instant};
use packet::*;
use std::net::IpAddr;
use std::sync::Arc;
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Zone(pub u16);
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    Original,
    Reply,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alg {
    Ftp,
    Tftp,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NatKind {
    Src,
    Dst,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortSelection {
    Default,
    Hash,
    Random,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NatSpec {
    pub kind: Option<NatKind>,
    pub min_ip: Option<IpAddr>,
    pub max_ip: Option<IpAddr>,
    pub min_port: Option<u16>,
    pub max_port: Option<u16>,
    pub selection: PortSelection,
    pub persistent: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CtSpec {
    pub zone: Zone,
    pub commit: bool,
    pub force: bool,
    pub nat: Option<NatSpec>,
    pub mark: Option<(u32, u32)>,
    pub label: Option<(u128, u128)>,
    pub alg: Option<Alg>,
    pub timeout: Option<u32>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CtClass(pub u64);
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CtState(pub u32);
pub struct Connection;
pub struct Tracked {
    pub class: CtClass,
    pub state: CtState,
    pub hold: Option<(Arc<Connection>, Direction)>,
    pub drop: Option<Drop>,
}
#[derive(Default, Clone)]
pub struct CtConfig;
pub struct ConnTracker;
impl ConnTracker {
    pub fn new(_: HashSeed, _: CtConfig) -> Self {
        ConnTracker
    }
    pub fn track(&self, _: &mut Frame, _: &mut PacketKey, _: &CtSpec, _: DpPort, _: Instant) -> Tracked {
        todo!()
    }
    pub fn track_held(
        &self,
        _: &Connection,
        _: Direction,
        _: &mut Frame,
        _: &mut PacketKey,
        _: &CtSpec,
        _: Instant,
    ) -> Option<CtClass> {
        todo!()
    }
    pub fn describe(&self, _: &Connection, _: Direction, _: CtClass, _: &mut PacketKey) {}
    pub fn clear(_: &mut PacketKey) {}
    pub fn expire(&self, _: Instant) -> usize {
        0
    }
    pub fn next_expiry(&self) -> Option<Instant> {
        None
    }
}
