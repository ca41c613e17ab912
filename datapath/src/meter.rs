//! Meters: how fast frames may come, and what happens to those beyond (OpenFlow 1.3.5 §5.7).
//!
//! Each band is a token bucket, kept as one number: the time at which the bucket would be full again (the generic cell
//! rate algorithm, ITU-T I.371 annex A). A frame moves that time by what it costs; it is beyond the band's rate if that
//! would put it further ahead than the bucket is deep, and then it takes nothing out. Any number of workers may use a
//! meter: there is one compare-and-swap a band and no lock.

use base::Instant;
use packet::rewrite::{self, Network};
use packet::{Frame, slot};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bands that a meter may have.
pub const BANDS_MAX: usize = 8;
/// Resolution of bands: parts of a nanosecond. 64 bits of them last for 73 years.
const TICKS_PER_NANO: u64 = 8;
const TICKS_PER_SECOND: u128 = TICKS_PER_NANO as u128 * 1_000_000_000;

/// What a meter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeterUnit {
    /// Bits of frames, from the Ethernet header on.
    Bits,
    /// Frames.
    Packets,
}

/// What a band does to frames beyond its rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// They are dropped.
    Drop,
    /// Their DSCP gets a higher drop precedence, by so many levels (RFC 2597); frames without one stay as they are.
    Remark(u8),
}

/// A band as it is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BandConfig {
    /// What it does.
    pub excess: Excess,
    /// Units a second.
    pub rate: u64,
    /// Units that may come at once.
    pub burst: u64,
}

/// A counter of packets and bytes that several workers add to.
#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, bytes: u64) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Band {
    excess: Excess,
    rate: u64,
    /// Depth of the bucket in ticks.
    depth: u64,
    /// When the bucket is full again, in ticks.
    full_at: AtomicU64,
    exceeded: Count,
}

impl Band {
    fn new(config: &BandConfig) -> Band {
        Band {
            excess: config.excess,
            rate: config.rate.max(1),
            depth: ticks(config.burst, config.rate.max(1)),
            full_at: AtomicU64::new(0),
            exceeded: Count::default(),
        }
    }

    /// Takes `units` out of the bucket; false, and nothing is taken, if there are not so many in it.
    fn admits(&self, units: u64, now: u64) -> bool {
        let cost = ticks(units, self.rate);
        let latest = now.saturating_add(self.depth);
        let after = |full_at: u64| {
            let after = full_at.max(now).saturating_add(cost);
            (after <= latest).then_some(after)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).is_ok()
    }
}

/// How long so many units take at a rate, rounded up.
fn ticks(units: u64, rate: u64) -> u64 {
    let ticks = (u128::from(units) * TICKS_PER_SECOND).div_ceil(u128::from(rate));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// What to do with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Let it pass.
    Pass,
    /// As the band says whose rate it is beyond.
    Excess(Excess),
}

/// A meter.
#[derive(Debug)]
pub struct Meter {
    number: u32,
    unit: MeterUnit,
    bands: Box<[Band]>,
    input: Count,
}

impl Meter {
    /// A meter with full buckets; of its bands only the first [`BANDS_MAX`] are taken. The number is for whoever prints
    /// programs.
    pub fn new(number: u32, unit: MeterUnit, bands: &[BandConfig]) -> Meter {
        let bands = bands.iter().take(BANDS_MAX).map(Band::new).collect();
        Meter { number, unit, bands, input: Count::default() }
    }

    /// What it is called.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Counts a frame of `len` bytes and says what is to happen to it. Of several bands whose rate it is beyond, the one
    /// with the highest rate decides (OpenFlow 1.3.5 §5.7.1).
    pub fn measure(&self, len: usize, now: Instant) -> Verdict {
        let len = len as u64;
        self.input.add(len);
        let now = now.as_nanos().saturating_mul(TICKS_PER_NANO);
        let units = match self.unit {
            MeterUnit::Bits => len.saturating_mul(8),
            MeterUnit::Packets => 1,
        };
        let mut decides: Option<&Band> = None;
        for band in &self.bands {
            if !band.admits(units, now) && decides.is_none_or(|other| band.rate >= other.rate) {
                decides = Some(band);
            }
        }
        let Some(band) = decides else { return Verdict::Pass };
        band.exceeded.add(len);
        Verdict::Excess(band.excess)
    }

    /// Whether it may change what frames say.
    pub fn remarks(&self) -> bool {
        self.bands.iter().any(|band| matches!(band.excess, Excess::Remark(_)))
    }

    /// Packets and bytes that came.
    pub fn input(&self) -> (u64, u64) {
        self.input.get()
    }

    /// Packets and bytes that each band did something to.
    pub fn exceeded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bands.iter().map(|band| band.exceeded.get())
    }
}

/// The DSCP with its drop precedence `levels` higher, at most the highest; none if it is not of an assured forwarding
/// class (RFC 2597 §6), which alone have precedences.
fn remarked(dscp: u8, levels: u8) -> Option<u8> {
    let (class, precedence, rest) = (dscp >> 3, dscp >> 1 & 3, dscp & 1);
    if !(1..=4).contains(&class) || precedence == 0 || rest != 0 {
        return None;
    }
    Some(class << 3 | precedence.saturating_add(levels).min(3) << 1)
}

/// Raises the drop precedence of a frame.
pub(crate) fn remark(frame: &mut Frame, levels: u8) {
    let Some((network, at)) = rewrite::network(frame) else { return };
    let Some([first, second]) = frame.bytes().get(at..).and_then(|b| b.first_chunk::<2>()).copied() else {
        return;
    };
    let tos = match network {
        Network::Ipv4 => second,
        Network::Ipv6 => first << 4 | second >> 4,
        Network::Arp => return,
    };
    if let Some(dscp) = remarked(tos >> 2, levels) {
        rewrite::set_slot(frame, slot::NW_TOS, u128::from(dscp << 2), 0xfc);
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn drops(rate: u64, burst: u64) -> BandConfig {
        BandConfig { excess: Excess::Drop, rate, burst }
    }

    /// How many of frames that come evenly pass within a time.
    fn passed(meter: &Meter, len: usize, per_second: u64, seconds: u64) -> u64 {
        let gap = 1_000_000_000 / per_second;
        let at = |n: u64| Instant::from_nanos(1_000_000_000_000 + n * gap);
        (0..per_second * seconds).filter(|n| meter.measure(len, at(*n)) == Verdict::Pass).count() as u64
    }

    #[test]
    fn frames_beyond_the_rate_are_dropped() {
        let meter = Meter::new(1, MeterUnit::Packets, &[drops(100, 10)]);
        // 1,000 a second for 10 seconds: 100 a second, and the bucket that was full at first.
        let n = passed(&meter, 60, 1_000, 10);
        assert!((1_008..=1_011).contains(&n), "{n}");
        assert_eq!(meter.input(), (10_000, 600_000));
        assert_eq!(meter.exceeded().collect::<Vec<_>>(), [(10_000 - n, (10_000 - n) * 60)]);
        // Below the rate nothing happens.
        let meter = Meter::new(1, MeterUnit::Packets, &[drops(100, 1)]);
        assert_eq!(passed(&meter, 60, 100, 10), 1_000);
    }

    #[test]
    fn bits_are_counted_as_bits() {
        // 8 Mbit/s with a bucket of 80,000 bits: frames of 1,000 bytes, 1,000 a second and 10 at once.
        let meter = Meter::new(1, MeterUnit::Bits, &[drops(8_000_000, 80_000)]);
        let n = passed(&meter, 1_000, 5_000, 4);
        assert!((4_008..=4_012).contains(&n), "{n}");
        // What is larger than the bucket never passes.
        let meter = Meter::new(1, MeterUnit::Bits, &[drops(1_000_000, 1_000)]);
        assert_eq!(passed(&meter, 1_000, 10, 2), 0);
    }

    #[test]
    fn the_band_with_the_highest_rate_exceeded_decides() {
        let remarks = BandConfig { excess: Excess::Remark(1), rate: 10, burst: 1 };
        let meter = Meter::new(1, MeterUnit::Packets, &[drops(100, 5), remarks]);
        let now = Instant::from_secs(5);
        let verdicts: Vec<Verdict> = (0..7).map(|_| meter.measure(60, now)).collect();
        let (pass, remark) = (Verdict::Pass, Verdict::Excess(Excess::Remark(1)));
        let drop = Verdict::Excess(Excess::Drop);
        assert_eq!(verdicts, [pass, remark, remark, remark, remark, drop, drop]);
        assert_eq!(meter.exceeded().collect::<Vec<_>>(), [(2, 120), (4, 240)]);
    }

    #[test]
    fn precedences() {
        // AF11, AF12, AF13 are 10, 12, 14; AF41 is 34; EF is 46, CS1 is 8.
        for (dscp, levels, wanted) in [
            (10, 1, Some(12)),
            (10, 2, Some(14)),
            (12, 2, Some(14)),
            (14, 1, Some(14)),
            (34, 1, Some(36)),
            (46, 1, None),
            (8, 1, None),
            (0, 1, None),
            (11, 1, None),
        ] {
            assert_eq!(remarked(dscp, levels), wanted, "DSCP {dscp} by {levels}");
        }
    }

    #[test]
    fn frames_are_remarked_and_their_checksum_is_right() {
        // RFC 1071: the one's complement sum of a right header, its checksum included, is all ones.
        let sum = |header: &[u8]| {
            let total: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
            (total & 0xffff) + (total >> 16)
        };
        let mut bytes = [[2u8; 12].as_slice(), &[8, 0], &[0; 20], &[0, 1, 0, 2, 0, 8, 0, 0]].concat();
        let header =
            [0x45, 10 << 2 | 1, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2].map(|b: u8| b);
        bytes[14..34].copy_from_slice(&header);
        let checksum = !(sum(&header) as u16);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = Frame::from_bytes(&bytes);
        packet::PacketKey::default().extract_headers(&mut frame).unwrap();
        remark(&mut frame, 1);
        assert_eq!(frame.bytes()[15], 12 << 2 | 1, "the precedence changes, the ECN bits do not");
        assert_eq!(sum(&frame.bytes()[14..34]), 0xffff);
    }

    proptest! {
        /// Never more than the bucket and what the rate gave since, whatever comes when (a bucket counted by hand).
        #[test]
        fn never_more_than_the_rate(
            rate in 1..10_000u64, burst in 1..1_000u64,
            gaps in proptest::collection::vec(0..5_000_000u64, 1..400),
        ) {
            let meter = Meter::new(1, MeterUnit::Packets, &[drops(rate, burst)]);
            let start = Instant::from_secs(77);
            let mut tokens = burst as f64;
            let mut now = start;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                tokens = (tokens + gap as f64 * rate as f64 / 1e9).min(burst as f64);
                let passes = meter.measure(60, now) == Verdict::Pass;
                // Close to a whole token either answer is right: ticks are rounded.
                if tokens > 1.001 {
                    prop_assert!(passes, "{tokens} tokens");
                } else if tokens < 0.999 {
                    prop_assert!(!passes, "{tokens} tokens");
                }
                if passes {
                    tokens -= 1.0;
                }
            }
        }
    }
}
