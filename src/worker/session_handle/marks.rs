//! What a session has to have in the ledger before it goes on.

use super::SessionHandle;
use crate::body::CleanupRecord;

impl SessionHandle {
    /// Marks what is about to be left on the body, and waits until the ledger has it: what comes
    /// next would be unknown to the next process otherwise. Waits no longer once the session ends,
    /// or when the disk does not answer.
    pub(in crate::worker) async fn mark(&self, change: impl FnOnce(&mut CleanupRecord)) {
        let change = {
            let mut told = self.told();
            change(&mut told.traces);
            told.changes += 1;
            told.changes
        };
        self.wake();
        loop {
            let changed = {
                let mut told = self.told();
                if told.saved >= change || told.shown.end_reason.is_some() {
                    return;
                }
                told.listen()
            };
            let _ = changed.recv().await;
        }
    }

    /// Whether the ledger misses something that no change of the lifecycle will write.
    pub(in crate::worker) fn is_unsaved(&self) -> bool {
        let told = self.told();
        told.changes > told.saved
    }

    /// How many changes an entry made now has.
    pub(in crate::worker) fn changes(&self) -> u64 {
        self.told().changes
    }

    /// The ledger was written with that many changes, or it cannot be written.
    pub(in crate::worker) fn set_saved(&self, changes: u64) {
        let mut told = self.told();
        told.saved = told.saved.max(changes);
        told.waiting.clear();
    }
}
