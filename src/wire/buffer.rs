//! A pool of I/O buffers: a connection holds a buffer only while bytes are in it.

use crate::sync::Mutex;

/// Buffer sizes in bytes: for a browser's request head, the largest head, and a large body (a
/// larger buffer makes copying no faster).
pub(super) const SIZES: [usize; 3] = [4 * 1024, 32 * 1024, 64 * 1024];
/// Unused buffers kept of each size, at most 6.4 MiB in all.
const SPARE: usize = 64;

static POOLS: [Mutex<Vec<Box<[u8]>>>; 3] = [const { Mutex::new(Vec::new()) }; 3];

/// A buffer that returns to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    block: Box<[u8]>,
    pub(super) class: usize,
}

impl Buffer {
    /// A buffer of the largest size.
    pub(super) fn largest() -> Self {
        Self::take(SIZES.len() - 1)
    }

    pub(super) fn block(&self) -> &[u8] {
        &self.block
    }

    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// A buffer of the size `SIZES[class]`.
    pub(super) fn take(class: usize) -> Self {
        let spare = POOLS[class].lock().pop();
        Self {
            block: spare.unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice()),
            class,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOLS[self.class].lock();
        if pool.len() < SPARE {
            pool.push(std::mem::take(&mut self.block));
        }
    }
}
