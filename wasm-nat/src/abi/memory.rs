//! Memory of the module: dlmalloc, as in the standard library, but growing in large steps.
//!
//! The standard allocator asks for 64 KiB at a time, and the host pays for every `memory.grow` with a new buffer and a
//! collection: at 50 000 Services that was twelve seconds of one. A step here is an eighth of what there is.

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::UnsafeCell;

const PAGE_BYTES: usize = 64 * 1024;
const SMALLEST_STEP_PAGES: usize = 16;

struct Pages;

// SAFETY: pages are the module's own, and none is ever given back.
unsafe impl Allocator for Pages {
    fn alloc(&self, bytes: usize) -> (*mut u8, usize, u32) {
        let wanted = bytes.div_ceil(PAGE_BYTES);
        let generous = wanted.max(SMALLEST_STEP_PAGES).max(memory_size(0) / 8);
        for pages in [generous, wanted] {
            let before = memory_grow(0, pages);
            if before != usize::MAX {
                return ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0);
            }
        }
        (std::ptr::null_mut(), 0, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Pages>>);

// SAFETY: the module has one thread.
unsafe impl Sync for Heap {}

// SAFETY: Dlmalloc keeps the contract of `GlobalAlloc`; one thread, and it never calls back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(place, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(place, layout.size(), layout.align(), size) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Pages)));
