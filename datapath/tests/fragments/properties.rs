//! Random fragments against etherparse and a slow model.

use std::collections::BTreeMap;
use std::time::Duration;

use datapath::fragments::limits::FRAGMENT_OVERHEAD;
use datapath::fragments::{Context, FragmentLimits, Offered};
use datapath::{Drop, fragments};
use etherparse::SlicedPacket;
use etherparse::defrag::IpDefragPool;
use packet::DpPort;
use proptest::prelude::*;

use crate::bench::*;

/// What a slow and simple receiver makes of fragments: every byte where it belongs, nothing twice.
#[derive(Default)]
struct Model {
    bytes: BTreeMap<usize, u8>,
    seen: Vec<(usize, usize, bool, u8)>,
    end: Option<usize>,
    is_dead: bool,
}

impl Model {
    /// Whether the fragment is taken, and whether the datagram is then complete.
    fn take(&mut self, piece: (usize, usize, bool, u8)) -> (bool, bool) {
        let (offset, len, has_more, fill) = piece;
        if self.is_dead || self.seen.contains(&piece) {
            return (false, false);
        }
        let clash = (offset..offset + len).any(|at| self.bytes.contains_key(&at));
        let highest = self.bytes.last_key_value().map_or(0, |(at, _)| at + 1);
        let beyond = self.end.is_some_and(|end| offset + len > end || !has_more);
        if clash || beyond || !has_more && highest > offset + len {
            self.is_dead = true;
            return (false, false);
        }
        self.seen.push(piece);
        self.bytes.extend((offset..offset + len).map(|at| (at, fill)));
        self.end = if has_more { self.end } else { Some(offset + len) };
        (true, self.end == Some(self.bytes.len()))
    }
}

#[test]
fn corpus_is_digested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus/fragments");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        fragments::fuzz::offers(&std::fs::read(entry.expect("a file").path()).expect("a file"));
        seen += 1;
    }
    assert!(seen > 0, "no corpus in {folder}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any cut in any order, with duplicates: the packet and its fragments, and etherparse makes the same of them.
    #[test]
    fn any_order_gives_the_same_bytes(
        is_ipv4: bool,
        len in 1_500usize..20_000,
        mtu in 600usize..1_400,
        order in any::<u64>(),
        doubles in any::<u64>(),
    ) {
        let packet = if is_ipv4 { udp(len, 9) } else { udp6(len) };
        let came = cut(&packet, mtu);
        let mut mixed: Vec<usize> = (0..came.len()).collect();
        mixed.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
        let (last, before) = mixed.split_last().expect("some");
        let mut bench = Bench::lenient();
        let mut judge = IpDefragPool::<(), ()>::new();
        for (n, i) in before.iter().enumerate() {
            bench.held(&came[*i]);
            if doubles >> (n % 64) & 1 != 0 {
                prop_assert_eq!(bench.dropped(&came[*i]), Drop::FragmentDuplicate);
            }
            let sliced = SlicedPacket::from_ethernet(&came[*i]).expect("a packet");
            prop_assert!(judge.process_sliced_packet(&sliced, (), ()).expect("sound").is_none());
        }
        let whole = bench.whole(&came[*last]);
        let sliced = SlicedPacket::from_ethernet(&came[*last]).expect("a packet");
        let judged = judge.process_sliced_packet(&sliced, (), ()).expect("sound").expect("complete");
        let headers = if is_ipv4 { 34 } else { 54 };
        prop_assert!(whole.frame().bytes()[headers..] == judged.payload[..]);
        prop_assert!(whole.frame().bytes() == packet);
        prop_assert!(fragments_of(whole) == came);
        prop_assert_eq!(bench.table.stats().bytes, 0);
    }

    /// Random pieces that overlap, contradict and repeat each other: a datagram comes out only if the model has one, with
    /// the model's bytes.
    #[test]
    fn random_overlaps_never_give_a_wrong_datagram(
        pieces in prop::collection::vec((1usize..8, 1usize..4, any::<bool>(), 0u8..2), 1..12),
    ) {
        let mut bench = Bench::lenient();
        let mut model = Model::default();
        let first = (0, 8, true, 0x20);
        for (start, units, has_more, fill) in [first].into_iter().chain(
            pieces.into_iter().map(|(at, units, more, fill)| (at * 8, units * 8, more, fill)),
        ) {
            let offered = bench.offer(&piece(7, start, units, has_more, fill));
            match model.take((start, units, has_more, fill)) {
                (false, _) => prop_assert!(matches!(offered, Offered::Dropped(..)), "{offered:?}"),
                (true, false) => prop_assert!(matches!(offered, Offered::Held), "{offered:?}"),
                (true, true) => {
                    let Offered::Whole(whole) = offered else { panic!("{offered:?}") };
                    let bytes: Vec<u8> = model.bytes.values().copied().collect();
                    prop_assert_eq!(&whole.frame().bytes()[34..], &bytes[..]);
                    break;
                }
            }
        }
    }

    /// Whatever comes, no limit is exceeded, every fragment that is held or given up is one that came, and time empties the
    /// table.
    #[test]
    fn memory_is_bounded_and_nothing_is_lost(
        came in prop::collection::vec((0u32..6, 0u16..40, 0usize..6, 0usize..200, any::<bool>(), 0u8..4), 1..400),
        most in 4usize..60,
    ) {
        let limits = FragmentLimits { min_v4: 0, per_datagram: 5, ..FragmentLimits::of(most) };
        let mut bench = Bench::new(limits);
        let (mut offered, mut out) = (0, 0);
        for (port, id, at, len, has_more, pause) in came {
            bench.now += Duration::from_secs(pause.into());
            let bytes = piece(id, at * 200, len / 8 * 8 + 8, has_more, 1);
            let context = Context { ingress: DpPort(port), ..PLACE };
            offered += 1;
            match bench.offer_at(&bytes, context) {
                Offered::Held => {}
                Offered::Dropped(..) => out += 1,
                Offered::Whole(whole) => out += whole.fragments().max(1),
            }
            let held = bench.table.stats();
            prop_assert!(held.datagrams <= limits.total.datagrams);
            prop_assert!(held.fragments <= limits.total.fragments);
            prop_assert!(held.bytes <= limits.total.bytes);
            prop_assert!(held.bytes >= held.fragments * FRAGMENT_OVERHEAD);
            prop_assert_eq!(offered, out + bench.gone.len() + held.fragments);
            let listed: usize = bench.table.datagrams().map(|d| d.fragments).sum();
            prop_assert_eq!(listed, held.fragments);
        }
        bench.pass(Duration::from_secs(31));
        let held = bench.table.stats();
        prop_assert_eq!((held.datagrams, held.fragments, held.bytes), (0, 0, 0));
        prop_assert_eq!(bench.table.next_expiry(), None);
        prop_assert_eq!(offered, out + bench.gone.len());
    }

    #[test]
    fn random_records_are_digested(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fragments::fuzz::offers(&bytes);
    }

    /// Records of real fragments, damaged here and there, reach what random bytes do not.
    #[test]
    fn damaged_fragments_are_digested(
        is_ipv4: bool,
        order in prop::collection::vec((0usize..4, any::<u8>()), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let cut = cut(&if is_ipv4 { udp(300, 1) } else { udp6(300) }, 160);
        let mut data = vec![];
        for (i, port) in order {
            let fragment = &cut[i % cut.len()];
            data.extend([port & 7, 0]);
            data.extend((fragment.len() as u16).to_be_bytes());
            data.extend(fragment);
        }
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] ^= byte;
        }
        fragments::fuzz::offers(&data);
    }
}
