//! A table on a bench, and fragments to offer it.

use std::time::Duration;

use base::Instant;
use datapath::Drop;
use datapath::fragments::{Context, FragmentLimits, Offered, Reassembler, Whole};
use packet::fragment::split;
use packet::{DpPort, Fragment, Frame, FrameBuilder, FramePool, PacketKey};

pub const A: u32 = 0x0a00_0001;
pub const B: u32 = 0x0a00_0002;
pub const A6: u128 = 0xfd00 << 112 | 1;
pub const B6: u128 = 0xfd00 << 112 | 2;
pub const PLACE: Context = Context { ingress: DpPort(1), zone: 0, at: 0 };

/// A table and what it has given back.
pub struct Bench {
    pub table: Reassembler,
    pub pool: FramePool,
    pub now: Instant,
    pub gone: Vec<(Vec<u8>, DpPort, Drop)>,
}

impl Bench {
    pub fn new(limits: FragmentLimits) -> Bench {
        let (pool, now) = (FramePool::new(8), Instant::from_secs(100));
        Bench { table: Reassembler::new(limits), pool, now, gone: vec![] }
    }

    /// Without a least size, so that tests may be short.
    pub fn lenient() -> Bench {
        Bench::new(FragmentLimits { min_v4: 0, min_v6: 0, ..FragmentLimits::default() })
    }

    pub fn offer_at(&mut self, bytes: &[u8], context: Context) -> Offered {
        let (frame, key) = extracted(bytes);
        let offered = self.table.offer(frame, &key, context, &mut self.pool, self.now);
        self.table.expire(self.now, &mut |frame, port, why| {
            self.gone.push((frame.bytes().to_vec(), port, why));
        });
        offered
    }

    pub fn offer(&mut self, bytes: &[u8]) -> Offered {
        self.offer_at(bytes, PLACE)
    }

    #[track_caller]
    pub fn held(&mut self, bytes: &[u8]) {
        let offered = self.offer(bytes);
        assert!(matches!(offered, Offered::Held), "{offered:?}");
    }

    #[track_caller]
    pub fn dropped(&mut self, bytes: &[u8]) -> Drop {
        match self.offer(bytes) {
            Offered::Dropped(frame, why) => {
                assert_eq!(frame.bytes(), bytes, "another frame came back");
                why
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn whole(&mut self, bytes: &[u8]) -> Whole {
        match self.offer(bytes) {
            Offered::Whole(whole) => whole,
            other => panic!("{other:?}"),
        }
    }

    pub fn reasons(&mut self) -> Vec<Drop> {
        self.gone.drain(..).map(|(_, _, why)| why).collect()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.expire(self.now, &mut |f, port, why| self.gone.push((f.bytes().to_vec(), port, why)));
    }
}

pub fn extracted(bytes: &[u8]) -> (Frame, PacketKey) {
    let mut frame = Frame::from_bytes(bytes);
    frame.in_port = DpPort(1);
    let key = PacketKey::extract(&mut frame).expect("an Ethernet header");
    (frame, key)
}

pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + i / 256) as u8).collect()
}

pub fn udp(len: usize, id: u16) -> Vec<u8> {
    FrameBuilder::udp4((A, 1000), (B, 53)).identification(id).payload(&payload(len)).build()
}

pub fn udp6(len: usize) -> Vec<u8> {
    FrameBuilder::udp6((A6, 1000), (B6, 53)).payload(&payload(len)).build()
}

pub fn cut(bytes: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut out = vec![];
    split(&extracted(bytes).0, mtu, 0x1234_5678, &mut FramePool::new(2), |f| out.push(f.bytes().to_vec()))
        .expect("it can be cut");
    out
}

/// An IPv4 fragment of protocol 17 with everything chosen.
pub fn piece(id: u16, offset: usize, len: usize, has_more: bool, fill: u8) -> Vec<u8> {
    let mut bytes = udp(0, id)[..34].to_vec();
    bytes[16..18].copy_from_slice(&((20 + len) as u16).to_be_bytes());
    bytes.resize(34 + len, fill);
    placed(bytes, offset, has_more)
}

/// The frame at another place of its datagram, its header checksum put right.
pub fn placed(mut bytes: Vec<u8>, offset: usize, has_more: bool) -> Vec<u8> {
    let word = (offset / 8) as u16 | if has_more { 0x2000 } else { 0 };
    bytes[20..22].copy_from_slice(&word.to_be_bytes());
    let (mut frame, _) = extracted(&bytes);
    packet::rewrite::refresh_ipv4_checksum(&mut frame);
    frame.bytes().to_vec()
}

pub fn fragments_of(whole: Whole) -> Vec<Vec<u8>> {
    let mut out = vec![];
    whole.into_fragments(&mut FramePool::new(2), |f| out.push(f.bytes().to_vec()));
    out
}

/// What [`Fragment`] says of the pieces that these tests make by hand.
#[test]
fn hand_made_pieces_are_what_they_should_be() {
    let (frame, _) = extracted(&piece(7, 64, 16, true, 3));
    let said = Fragment::of(&frame).expect("a fragment");
    assert_eq!((said.identification, said.offset, said.payload_len, said.has_more), (7, 64, 16, true));
    assert!(frame.verify_ipv4_header());
}
