//! How a select group chooses: pure functions of the group and of the packet's key.
//!
//! The key is hashed over the fields that the group's method names. `dp_hash` and `hash` then take the bucket with the
//! highest random weight (Thaler and Ravishankar 1998, with logarithmic weights), so that a change of buckets moves only
//! the packets of the buckets that changed. `maglev` looks the hash up in a table that was built with the group; where the
//! table's bucket is not live, the highest random weight among the live ones decides, which leaves all others where they are.
//!
//! Nothing here is seeded: nodes and restarts agree. A sender can therefore choose its bucket, as it can with any hash
//! that is published; it cannot make choosing slower.

use super::{Bucket, BucketId, Selection, SelectionMethod};
use crate::field::FieldId;
use crate::key::{FlowKey, Mask, Words};
use base::HashSeed;
use packet::key::{FRAG_ANY, Slot, slot};
use std::sync::Arc;

/// Sizes that a Maglev table can have: primes. A larger one shares more evenly and moves less when buckets change.
pub const MAGLEV_SIZES: [usize; 5] = [251, 1_021, 4_093, 16_381, 65_537];
/// The size without a parameter: about one per cent of unevenness with 100 buckets, in 32 KiB.
pub const MAGLEV_DEFAULT: usize = 16_381;

/// Hashes of fields.
const FIELDS_SEED: HashSeed = HashSeed::new(0x6d61_676c_6576_0001, 0x7461_7065_7374_7279);
/// Hashes of buckets' numbers.
const BUCKET_SEED: HashSeed = HashSeed::new(0x6d61_676c_6576_0002, 0x6275_636b_6574_2121);

/// Entries that a Maglev table with this parameter has; none if there is no such size.
pub fn maglev_size(param: u64) -> Option<usize> {
    match param {
        0 => Some(MAGLEV_DEFAULT),
        n => MAGLEV_SIZES.into_iter().find(|size| *size as u64 == n),
    }
}

/// What the 5-tuple and, of packets without one, the addresses below are made of.
const SYMMETRIC: [Slot; 10] = [
    slot::DL_TYPE,
    slot::DL_SRC,
    slot::DL_DST,
    slot::NW_SRC,
    slot::NW_DST,
    slot::IPV6_SRC,
    slot::IPV6_DST,
    slot::NW_PROTO,
    slot::TP_SRC,
    slot::TP_DST,
];

fn is_symmetric(selection: &Selection) -> bool {
    match selection.method {
        SelectionMethod::Default | SelectionMethod::DpHash => true,
        SelectionMethod::Hash | SelectionMethod::Maglev => selection.fields.is_empty(),
    }
}

/// The bits that choosing may read.
pub fn reads(selection: &Selection) -> Mask<FlowKey> {
    let mut mask = Mask::empty();
    if is_symmetric(selection) {
        SYMMETRIC.iter().for_each(|s| mask.add_all(*s));
        mask.add_all(slot::NW_FRAG);
    }
    for (field, bits) in &selection.fields {
        field.row().prereq.consult(&mut mask);
        mask.add(field.slot(), *bits);
    }
    mask
}

/// Hash of a packet, over what the selection names.
pub fn hash_of(selection: &Selection, key: &FlowKey) -> u64 {
    let basis = match selection.method {
        SelectionMethod::Maglev => 0,
        SelectionMethod::Default | SelectionMethod::DpHash => selection.param & 0xffff_ffff,
        SelectionMethod::Hash => selection.param,
    };
    if is_symmetric(selection) {
        return symmetric_hash(key, basis);
    }
    let words = selection.fields.iter().flat_map(|(field, bits)| {
        let value = key.slot(field.slot()) & bits;
        [number_of(*field), value as u64, (value >> 64) as u64]
    });
    FIELDS_SEED.hash(std::iter::once(basis).chain(words))
}

/// Something that tells fields apart and stays as it is: where they stand in a key.
fn number_of(field: FieldId) -> u64 {
    let slot = field.slot();
    u64::from(slot.word) << 16 | u64::from(slot.shift)
}

/// The same for both directions of a connection. Fragments have no ports, whichever of them it is.
fn symmetric_hash(key: &FlowKey, basis: u64) -> u64 {
    let pair = |a: Slot, b: Slot| {
        let (a, b) = (key.slot(a), key.slot(b));
        [a.min(b), a.max(b)]
    };
    let dl_type = key.slot(slot::DL_TYPE);
    let (addresses, is_ip) = match dl_type {
        0x0800 => (pair(slot::NW_SRC, slot::NW_DST), true),
        0x86dd => (pair(slot::IPV6_SRC, slot::IPV6_DST), true),
        _ => (pair(slot::DL_SRC, slot::DL_DST), false),
    };
    let fragment = key.slot(slot::NW_FRAG) & u128::from(FRAG_ANY) != 0;
    let proto = if is_ip { key.slot(slot::NW_PROTO) } else { 0 };
    let has_ports = is_ip && !fragment && matches!(proto, 6 | 17 | 132);
    let ports = if has_ports { pair(slot::TP_SRC, slot::TP_DST) } else { [0, 0] };
    let wide = |v: u128| [v as u64, (v >> 64) as u64];
    let [low, high] = addresses;
    let [first, second] = ports;
    let rest = [dl_type as u64, proto as u64, first as u64, second as u64];
    FIELDS_SEED.hash(std::iter::once(basis).chain(wide(low)).chain(wide(high)).chain(rest))
}

/// The index of the bucket with the highest random weight for a hash, of those that may be chosen. None if none may.
pub fn highest_random_weight(hash: u64, buckets: &[Bucket], may: impl Fn(&Bucket) -> bool) -> Option<usize> {
    let score = |b: &Bucket| {
        // Uniform in (0, 1]; the bucket with the least waiting time at a rate of its weight wins.
        let uniform = ((BUCKET_SEED.hash([hash, u64::from(b.id.0)]) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln() / f64::from(b.weight)
    };
    let candidates = buckets.iter().enumerate().filter(|(_, b)| b.weight > 0 && may(b));
    candidates
        .map(|(i, b)| (i, score(b), b.id))
        .min_by(|(_, a, x), (_, b, y)| a.total_cmp(b).then(x.cmp(y)))
        .map(|(i, ..)| i)
}

/// A Maglev table: for each entry the index of a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maglev {
    entries: Arc<[u16]>,
}

impl Maglev {
    /// Fills a table (NSDI 2016, §3.4): buckets take turns, as often as their weights say, each taking the next free
    /// entry of its own permutation. Only weights and numbers of buckets matter, not their order.
    pub fn build(buckets: &[Bucket], size: usize) -> Maglev {
        let mut turns: Vec<Turns> = buckets
            .iter()
            .enumerate()
            .filter(|(_, b)| b.weight > 0)
            .map(|(i, b)| Turns::new(i, b, size))
            .collect();
        turns.sort_by_key(|t| t.id);
        let Some(heaviest) = turns.iter().map(|t| t.weight).max() else {
            return Maglev { entries: Arc::from([]) };
        };
        let mut entries = vec![u16::MAX; size];
        let mut free = size;
        while free > 0 {
            for turn in &mut turns {
                turn.credit += turn.weight;
                if turn.credit < heaviest || free == 0 {
                    continue;
                }
                turn.credit -= heaviest;
                free -= usize::from(turn.take(&mut entries));
            }
        }
        Maglev { entries: entries.into() }
    }

    /// The index of the bucket for a hash; none if no bucket has a weight.
    pub fn choose(&self, hash: u64) -> Option<usize> {
        // Multiplying is as even as a remainder and cheaper (Lemire 2019).
        let at = ((u128::from(hash) * self.entries.len() as u128) >> 64) as usize;
        self.entries.get(at).map(|i| usize::from(*i))
    }
}

/// A bucket while a table is being filled.
struct Turns {
    id: BucketId,
    bucket: u16,
    weight: u32,
    credit: u32,
    /// Next entry of its permutation, and how far the one behind it is away.
    at: usize,
    step: usize,
}

impl Turns {
    fn new(index: usize, bucket: &Bucket, size: usize) -> Turns {
        let hash = |n: u64| BUCKET_SEED.hash([n, u64::from(bucket.id.0)]);
        let (at, step) = match u64::try_from(size) {
            Ok(size) if size > 1 => (hash(1) % size, hash(2) % (size - 1) + 1),
            _ => (0, 1),
        };
        Turns {
            id: bucket.id,
            bucket: u16::try_from(index).unwrap_or(u16::MAX),
            weight: bucket.weight.into(),
            credit: 0,
            at: at as usize,
            step: step as usize,
        }
    }

    /// Takes the next free entry of the permutation, which exists as long as any entry is free; whether it found one.
    fn take(&mut self, entries: &mut [u16]) -> bool {
        for _ in 0..entries.len() {
            let at = self.at;
            self.at = (self.at + self.step) % entries.len();
            if let Some(entry) = entries.get_mut(at)
                && *entry == u16::MAX
            {
                *entry = self.bucket;
                return true;
            }
        }
        false
    }
}
