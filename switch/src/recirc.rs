//! Recirculation: where a pipeline goes on once the frame has been parsed anew.
//!
//! Equal states get equal ids, so translating twice gives the same program. Ids are not counted by who uses them: when the
//! table is full it is emptied, ids go on from where they were, and its revision tells every flow that used one.

use crate::bridge::BridgeId;
use crate::forwarding::Epoch;
use crate::translate::Level;
use datapath::{RecircId, Revision};
use flowtable::{OfAction, OfPort, PipelineKey, TableId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// States remembered at once.
pub const RECIRC_MAX: usize = 65_536;

/// A pipeline that waits for its frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Frozen {
    /// The bridge it is in.
    pub bridge: BridgeId,
    /// The in_port as its rules see it.
    pub in_port: OfPort,
    /// Metadata and registers.
    pub pipeline: PipelineKey,
    /// What is left to do, innermost last.
    pub levels: Vec<Level<'static>>,
    /// Actions to run at the end.
    pub action_set: Vec<OfAction>,
    /// The table that comes first, after a pass through the connection tracker.
    pub table: Option<TableId>,
}

#[derive(Debug, Default)]
struct State {
    ids: HashMap<Arc<Frozen>, RecircId>,
    states: HashMap<RecircId, Arc<Frozen>>,
    last: u32,
}

/// The recirculation ids of all bridges.
#[derive(Debug)]
pub(crate) struct RecircTable {
    epoch: Arc<Epoch>,
    revision: AtomicU64,
    state: Mutex<State>,
}

impl RecircTable {
    pub fn new(epoch: Arc<Epoch>) -> RecircTable {
        RecircTable { epoch, revision: AtomicU64::new(1), state: Mutex::default() }
    }

    /// Changes when ids become invalid.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// The id of a state.
    pub fn intern(&self, frozen: Frozen) -> RecircId {
        let mut state = self.lock();
        if let Some(id) = state.ids.get(&frozen) {
            return *id;
        }
        if state.ids.len() >= RECIRC_MAX {
            state.ids.clear();
            state.states.clear();
            self.revision.fetch_add(1, Ordering::AcqRel);
            self.epoch.bump();
        }
        // After 2^32 ids the first come again; the table has been emptied tens of thousands of times by then.
        state.last = state.last.wrapping_add(1).max(1);
        let (id, frozen) = (RecircId(state.last), Arc::new(frozen));
        state.ids.insert(Arc::clone(&frozen), id);
        state.states.insert(id, frozen);
        id
    }

    /// The state with an id, unless it was forgotten.
    pub fn get(&self, id: RecircId) -> Option<Arc<Frozen>> {
        self.lock().states.get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(port: u32) -> Frozen {
        Frozen {
            bridge: BridgeId(1),
            in_port: OfPort(port),
            pipeline: PipelineKey::default(),
            levels: Vec::new(),
            action_set: Vec::new(),
            table: None,
        }
    }

    #[test]
    fn equal_states_share_an_id_until_the_table_is_emptied() {
        let table = RecircTable::new(Arc::new(Epoch::default()));
        let first = table.intern(frozen(0));
        let revision = table.revision();
        assert_eq!(table.intern(frozen(0)), first);
        for port in 1..RECIRC_MAX as u32 {
            table.intern(frozen(port));
        }
        assert_eq!((table.revision(), table.get(first).map(|f| f.in_port)), (revision, Some(OfPort(0))));
        table.intern(frozen(RECIRC_MAX as u32));
        assert!(table.revision() > revision && table.get(first).is_none());
        assert_ne!(table.intern(frozen(0)), first);
    }
}
