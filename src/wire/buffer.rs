//! Pooled memory for bytes on their way: a connection holds a block only while bytes are in it.

use std::sync::{Mutex, PoisonError};

/// Buffer sizes: a head of a browser, the largest head, a bulk body (the size at which a copy
/// loop stops gaining).
pub(super) const SIZES: [usize; 3] = [4 * 1024, 32 * 1024, 64 * 1024];
/// Idle buffers kept of each size, at most 6.4 MiB in all.
const SPARE: usize = 64;

static POOLS: [Mutex<Vec<Box<[u8]>>>; 3] = [const { Mutex::new(Vec::new()) }; 3];

/// A pooled block of memory that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    block: Box<[u8]>,
    pub(super) class: usize,
}

impl Buffer {
    /// One of the largest size.
    pub(super) fn bulk() -> Self {
        Self::take(SIZES.len() - 1)
    }

    pub(super) fn block(&self) -> &[u8] {
        &self.block
    }

    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// One of that class of [`SIZES`].
    pub(super) fn take(class: usize) -> Self {
        let spare = POOLS[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Self {
            block: spare.unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice()),
            class,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOLS[self.class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pool.len() < SPARE {
            pool.push(std::mem::take(&mut self.block));
        }
    }
}
