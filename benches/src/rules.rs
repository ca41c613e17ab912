//! Rules by the thousand, under as many masks as wanted, and keys that match them or nothing.

use crate::Dice;
use base::HashSeed;
use flowtable::{Classifier, FlowKey, FlowMod, FlowModCommand, Match, OfAction, OfPort, TableId, Words};
use packet::slot;

/// The most masks that [`matches`] can make.
pub const MASKS_MAX: u64 = 100;
/// Priorities that rules of [`classifier`] have.
const PRIORITIES: u64 = 100;

/// An address in 10.0.0.0/8 whose second octet is even; rules have only such destinations.
fn address(dice: &mut Dice) -> u32 {
    0x0a00_0000 | dice.below(1 << 24) as u32 & !0x0001_0000
}

fn prefix(len: u64) -> u128 {
    (u64::from(u32::MAX) << (32 - len) & u64::from(u32::MAX)).into()
}

/// `rules` conditions on IPv4 addresses and ports under `masks` masks: 10 lengths of the destination's prefix, 5 of the
/// source's, with and without a TCP port.
pub fn matches(rules: usize, masks: u64) -> Vec<Match> {
    assert!((1..=MASKS_MAX).contains(&masks));
    let mut dice = Dice(7);
    let one = |i: usize| {
        let mask = i as u64 % masks;
        let mut m = Match::any();
        m.set_exact(slot::DL_TYPE, 0x0800);
        m.set(slot::NW_DST, address(&mut dice).into(), prefix(32 - mask % 10));
        m.set(slot::NW_SRC, address(&mut dice).into(), prefix([0, 16, 24, 32, 20][(mask / 10 % 5) as usize]));
        if mask / 50 == 1 {
            m.set_exact(slot::NW_PROTO, 6);
            m.set_exact(slot::TP_DST, dice.below(1024).into());
        }
        m
    };
    (0..rules).map(one).collect()
}

/// A classifier of the indexes of these conditions, with random priorities.
pub fn classifier(matches: &[Match]) -> Classifier<usize> {
    let mut dice = Dice(11);
    let mut classifier = Classifier::new(HashSeed::new(3, 4));
    for (i, m) in matches.iter().enumerate() {
        classifier.insert(&m.into(), dice.below(PRIORITIES) as u16, i);
    }
    classifier
}

/// Keys, each of which satisfies one condition at least, chosen at random.
pub fn hits(matches: &[Match], count: usize) -> Vec<FlowKey> {
    let mut dice = Dice(13);
    let mut key = || {
        let m = &matches[dice.below(matches.len() as u64) as usize];
        let mut key = base_key(&mut dice, 0);
        for i in 0..FlowKey::LEN {
            let mask = m.mask().0.word(i);
            key.set_word(i, m.key().word(i) | key.word(i) & !mask);
        }
        key
    };
    (0..count).map(|_| key()).collect()
}

/// Keys that satisfy no condition: their destinations' second octet is odd.
pub fn misses(count: usize) -> Vec<FlowKey> {
    let mut dice = Dice(17);
    (0..count).map(|_| base_key(&mut dice, 0x0001_0000)).collect()
}

fn base_key(dice: &mut Dice, odd: u32) -> FlowKey {
    let mut key = FlowKey::default();
    key.set_slot(slot::IN_PORT, 1);
    key.set_slot(slot::DL_TYPE, 0x0800);
    key.set_slot(slot::NW_PROTO, 6);
    key.set_slot(slot::NW_SRC, address(dice).into());
    key.set_slot(slot::NW_DST, (address(dice) | odd).into());
    key.set_slot(slot::TP_SRC, dice.below(1 << 16).into());
    key.set_slot(slot::TP_DST, dice.below(1 << 16).into());
    key
}

/// An add of a rule that sends to a port.
pub fn add(table: u8, matching: Match, actions: Vec<OfAction>) -> FlowMod {
    FlowMod { actions: actions.into(), ..FlowMod::new(FlowModCommand::Add, TableId(table), matching) }
}

/// `output:N`.
pub fn output(port: OfPort) -> OfAction {
    OfAction::Output { port, max_len: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_hit_and_misses_miss() {
        for masks in [1, 10, 100] {
            let matches = matches(1_000, masks);
            let classifier = classifier(&matches);
            assert_eq!(classifier.mask_count() as u64, masks);
            assert!(hits(&matches, 500).iter().all(|key| classifier.lookup(key).is_some()));
            assert!(misses(500).iter().all(|key| classifier.lookup(key).is_none()));
        }
    }
}
