//! An allocator that counts, for tests that a path allocates nothing. It is the system's allocator otherwise.
//!
//! A test binary makes it its `#[global_allocator]`; the product does not use it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations and re-allocations by thread.
#[derive(Debug, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// Allocations that the calling thread has made so far, re-allocations included. Zero unless this is the process's
    /// global allocator.
    pub fn count() -> u64 {
        ALLOCATIONS.try_with(Cell::get).unwrap_or(0)
    }
}

fn count_one() {
    // A thread that is ending has no counter any more; nobody will ask for it.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every method passes its arguments on to the system's allocator unchanged and returns what that returns; counting
// touches a thread-local cell without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from the methods here, so from the system's allocator, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one();
        // SAFETY: as for `dealloc`; the caller vouches for `new_size`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
