//! Translations, each kept once: flows whose frames have the same done to them, for the same reasons and to the same rules'
//! credit, have one between them.
//!
//! What differs from flow to flow (the revision of a learned address, an output chosen by hash) makes another translation.
//! The table is a means to find equals and owns nothing: flows keep theirs when it is dropped here.

use crate::action::{DpAction, Program};
use crate::slowpath::{Credit, Creditors as _, Deps, Draft};
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
    /// What a draft says, to be kept.
    fn of<E>(draft: &mut Draft<'_, E>) -> Memo {
        Memo {
            program: Program { actions: draft.steps.drain(..).collect() },
            deps: Deps(draft.deps.into()),
            credits: draft.credits.keep(),
        }
    }

    /// Whether a draft says the same. `credits` are the numbers by which the draft's creditors are known.
    fn is<E>(&self, draft: &Draft<'_, E>, credits: &[u64]) -> bool {
        *self.deps.0 == *draft.deps && self.program.is_same(draft.steps) && {
            let (mut others, mut same) = (credits.iter(), true);
            self.credits.identify(&mut |part| same &= others.next() == Some(&part));
            same && others.next().is_none()
        }
    }
}

/// What mostly differs from step to step.
fn identify(step: &DpAction) -> u64 {
    match step {
        DpAction::Output(port) => u64::from(port.0),
        DpAction::SetField { value, .. } => *value as u64,
        DpAction::Recirculate(id) => u64::from(id.0),
        _ => 0,
    }
}

type Place = Option<(u64, Arc<Memo>)>;

/// Finds a translation that is equal to a new one.
pub(crate) struct Memos {
    seed: HashSeed,
    /// `CACHE_MEMOS_MAX`, in sets of `WAYS`, from the first use on.
    places: Vec<Place>,
    /// Room for what identifies a new translation.
    words: Vec<u64>,
    /// Which place of a full set is next to be given to another.
    next_way: usize,
}

impl Memos {
    pub fn new(seed: HashSeed) -> Memos {
        Memos { seed, places: Vec::new(), words: Vec::new(), next_way: 0 }
    }

    /// The translation that is kept already, if there is one equal to the draft, else the draft's, which is then kept.
    pub fn keep<E>(&mut self, draft: &mut Draft<'_, E>) -> Arc<Memo> {
        if self.places.is_empty() {
            self.places.resize_with(CACHE_MEMOS_MAX, || None);
        }
        let words = &mut self.words;
        words.clear();
        draft.credits.identify(&mut |part| words.push(part));
        let credits = words.len();
        words.extend(draft.deps.iter().flat_map(|(domain, revision)| [domain.0, revision.0]));
        words.extend(draft.steps.iter().map(identify));
        let hash = self.seed.hash_row(words);
        words.truncate(credits);
        let first = hash as usize % (CACHE_MEMOS_MAX / WAYS) * WAYS;
        let Some(set) = self.places.get_mut(first..first + WAYS) else { return Arc::new(Memo::of(draft)) };
        for (known, kept) in set.iter().flatten() {
            if *known == hash && kept.is(draft, words) {
                return Arc::clone(kept);
            }
        }
        let unused = |place: &Place| place.as_ref().is_none_or(|(_, kept)| Arc::strong_count(kept) == 1);
        let way = set.iter().position(unused).unwrap_or(self.next_way);
        self.next_way = (self.next_way + 1) % WAYS;
        let memo = Arc::new(Memo::of(draft));
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

    /// Has a translation kept.
    fn keep(
        memos: &mut Memos,
        mut steps: Vec<DpAction>,
        revision: u64,
        credits: &[Arc<dyn Credit>],
    ) -> Arc<Memo> {
        let (deps, credits) = ([(Domain(1), Revision(revision))], Box::from(credits));
        let (steps, deps, effects) = (&mut steps, &deps, &[(); 0]);
        memos.keep(&mut Draft { steps, deps, credits: &credits, effects, cacheable: true, tables: 1 })
    }

    #[test]
    fn equal_translations_are_one_and_others_are_not() {
        type Kind<'a> = (Vec<DpAction>, u64, &'a [Arc<dyn Credit>]);
        let mut memos = Memos::new(HashSeed::new(1, 2));
        let rules: [Arc<dyn Credit>; 2] = [Arc::new(Rule), Arc::new(Rule)];
        let output = |port| vec![DpAction::Output(DpPort(port))];
        let ct = |zone| vec![DpAction::Ct(Arc::new(CtSpec { zone, ..CtSpec::default() }))];
        let kinds: [Kind<'_>; 8] = [
            (output(1), 1, &rules),
            (output(2), 1, &rules),
            (output(1), 2, &rules),
            (output(1), 1, &rules[..1]),
            (output(1), 1, &rules[1..]),
            (output(1), 1, &[]),
            (ct(crate::Zone(1)), 1, &rules),
            (ct(crate::Zone(2)), 1, &rules),
        ];
        let mut all =
            || kinds.each_ref().map(|(steps, n, credits)| keep(&mut memos, steps.clone(), *n, credits));
        let (kept, again) = (all(), all());
        for (i, found) in again.iter().enumerate() {
            let same: Vec<bool> = kept.iter().map(|k| Arc::ptr_eq(k, found)).collect();
            assert_eq!(same, (0..kinds.len()).map(|k| k == i).collect::<Vec<_>>(), "{i}");
            let (steps, revision, credits) = &kinds[i];
            assert!(found.program.is_same(steps));
            assert_eq!(found.deps.0[0], (Domain(1), Revision(*revision)));
            assert!(found.credits.iter().zip(*credits).all(|(a, b)| Arc::ptr_eq(a, b)));
            assert_eq!(found.credits.len(), credits.len());
        }
    }

    /// What no flow has makes room; what flows have stays theirs, found or not.
    #[test]
    fn the_table_is_bounded_and_forgets() {
        let mut memos = Memos::new(HashSeed::new(1, 2));
        let many = 2 * CACHE_MEMOS_MAX as u64;
        let kept: Vec<_> = (0..many).map(|n| keep(&mut memos, Vec::new(), n, &[])).collect();
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
