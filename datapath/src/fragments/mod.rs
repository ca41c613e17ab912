use crate::Drop;
use base::Instant;
use packet::*;
pub struct Reassembler;
#[derive(Default)]
pub struct FragmentLimits;
pub struct Context {
    pub ingress: DpPort,
    pub zone: u16,
    pub at: u64,
}
pub struct Whole;
pub enum Offered {
    Held,
    Whole(Whole),
    Dropped(Frame, Drop),
}
impl Whole {
    pub fn frame_mut(&mut self) -> &mut Frame {
        todo!()
    }
    pub fn into_fragments(self, _: &mut FramePool, _: impl FnMut(Frame)) {}
}
impl Reassembler {
    pub fn new(_: FragmentLimits) -> Self {
        Reassembler
    }
    pub fn offer(&mut self, _: Frame, _: &PacketKey, _: Context, _: &mut FramePool, _: Instant) -> Offered {
        todo!()
    }
    pub fn expire(&mut self, _: Instant, _: &mut impl FnMut(Frame, DpPort, Drop)) {}
    pub fn next_expiry(&self) -> Option<Instant> {
        None
    }
}
