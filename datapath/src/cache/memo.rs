//! Translations, each kept once: flows whose frames have the same done to them, for the same reasons and to the same rules'
//! credit, have one between them.
//!
//! What differs from flow to flow (the revision of a learned address, an output chosen by hash) makes another translation.
//! The table is a means to find equals and owns nothing: flows keep theirs when it is dropped here.

use crate::action::{DpAction, Program};
use crate::slowpath::{Credit, Deps};
use base::HashSeed;
use std::sync::Arc;

/// Translations that are looked through for one that is equal; further ones are kept flow by flow.
pub const CACHE_MEMOS_MAX: usize = 4_096;
/// Places that a translation may stand in.
const WAYS: usize = 4;

/// A translation, as far as cached flows need it.
pub(crate) struct Memo {
    pub program: Program,
    pub deps: Deps,
    pub credits: Box<[Arc<dyn Credit>]>,
}

impl Memo {
    /// Numbers by which dependencies and credits are known, and of the program what mostly differs.
    fn identify(&self, words: &mut Vec<u64>) {
        words.clear();
        words.extend([self.deps.0.len() as u64, self.credits.len() as u64]);
        words.extend(self.deps.0.iter().flat_map(|(domain, revision)| [domain.0, revision.0]));
        self.credits.iter().for_each(|c| c.identify(&mut |part| words.push(part)));
        words.extend(self.program.actions.iter().map(|step| match step {
            DpAction::Output(port) => u64::from(port.0),
            DpAction::SetField { value, .. } => *value as u64,
            DpAction::Recirculate(id) => u64::from(id.0),
            _ => 0,
        }));
    }
}

type Place = Option<(u64, Arc<Memo>)>;

/// Finds a translation that is equal to a new one.
pub(crate) struct Memos {
    seed: HashSeed,
    /// `CACHE_MEMOS_MAX`, in sets of `WAYS`, from the first use on.
    places: Vec<Place>,
    /// Room for what identifies a new translation, and one that it is compared with.
    words: Vec<u64>,
    known_words: Vec<u64>,
    /// Which place of a full set is next to be given to another.
    next_way: usize,
}

impl Memos {
    pub fn new(seed: HashSeed) -> Memos {
        Memos { seed, places: Vec::new(), words: Vec::new(), known_words: Vec::new(), next_way: 0 }
    }

    /// The translation that is kept already, if there is an equal one, else this one.
    pub fn share(&mut self, memo: Arc<Memo>) -> Arc<Memo> {
        if self.places.is_empty() {
            self.places.resize_with(CACHE_MEMOS_MAX, || None);
        }
        memo.identify(&mut self.words);
        let hash = self.seed.hash_row(&self.words);
        let first = hash as usize % (CACHE_MEMOS_MAX / WAYS) * WAYS;
        let Some(set) = self.places.get_mut(first..first + WAYS) else { return memo };
        for (known, kept) in set.iter().flatten() {
            if *known == hash {
                kept.identify(&mut self.known_words);
                if self.known_words == self.words && kept.program.is_same(&memo.program) {
                    return Arc::clone(kept);
                }
            }
        }
        let unused = |place: &Place| place.as_ref().is_none_or(|(_, kept)| Arc::strong_count(kept) == 1);
        let way = set.iter().position(unused).unwrap_or(self.next_way);
        self.next_way = (self.next_way + 1) % WAYS;
        if let Some(place) = set.get_mut(way) {
            *place = Some((hash, Arc::clone(&memo)));
        }
        memo
    }

    /// Forgets translations that no flow has.
    pub fn forget_unused(&mut self) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|(_, kept)| Arc::strong_count(kept) == 1) {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::CtSpec;
    use crate::slowpath::{Domain, Revision};
    use base::Instant;
    use packet::DpPort;

    struct Rule;

    impl Credit for Rule {
        fn credit(&self, _: u64, _: u64, _: Instant, _: u16) {}
    }

    fn memo(actions: Vec<DpAction>, revision: u64, credits: &[Arc<dyn Credit>]) -> Arc<Memo> {
        Arc::new(Memo {
            program: Program { actions: actions.into() },
            deps: Deps(Box::new([(Domain(1), Revision(revision))])),
            credits: credits.into(),
        })
    }

    #[test]
    fn equal_translations_are_one_and_others_are_not() {
        let mut memos = Memos::new(HashSeed::new(1, 2));
        let rules: [Arc<dyn Credit>; 2] = [Arc::new(Rule), Arc::new(Rule)];
        let output = |port| vec![DpAction::Output(DpPort(port))];
        let ct = |zone| vec![DpAction::Ct(Arc::new(CtSpec { zone, ..CtSpec::default() }))];
        let kinds: [&dyn Fn() -> Arc<Memo>; 7] = [
            &|| memo(output(1), 1, &rules),
            &|| memo(output(2), 1, &rules),
            &|| memo(output(1), 2, &rules),
            &|| memo(output(1), 1, &rules[..1]),
            &|| memo(output(1), 1, &rules[1..]),
            &|| memo(ct(crate::Zone(1)), 1, &rules),
            &|| memo(ct(crate::Zone(2)), 1, &rules),
        ];
        let kept: Vec<_> = kinds.iter().map(|make| memos.share(make())).collect();
        for (i, make) in kinds.iter().enumerate() {
            let found = memos.share(make());
            let same: Vec<bool> = kept.iter().map(|k| Arc::ptr_eq(k, &found)).collect();
            assert_eq!(same, (0..kinds.len()).map(|k| k == i).collect::<Vec<_>>(), "{i}");
        }
    }

    /// What no flow has makes room; what flows have stays theirs, found or not.
    #[test]
    fn the_table_is_bounded_and_forgets() {
        let mut memos = Memos::new(HashSeed::new(1, 2));
        let many = 2 * CACHE_MEMOS_MAX as u64;
        let kept: Vec<_> = (0..many).map(|n| memos.share(memo(Vec::new(), n, &[]))).collect();
        assert!(kept.iter().enumerate().all(|(n, m)| m.deps.0[0].1 == Revision(n as u64)));
        assert!(memos.places.iter().flatten().count() <= CACHE_MEMOS_MAX);
        let held = kept.iter().filter(|m| Arc::strong_count(m) == 2).count();
        assert_eq!(held, memos.places.iter().flatten().count());
        memos.forget_unused();
        assert_eq!(memos.places.iter().flatten().count(), held, "flows have them all");
        drop(kept);
        memos.forget_unused();
        assert_eq!(memos.places.iter().flatten().count(), 0);
    }
}
