//! The allocator of the whole program: mimalloc, asked in the way that is cheap for it.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// What `malloc` gives is aligned for everything up to this size (C11 §7.22.3; mimalloc's `MI_MAX_ALIGN_SIZE`).
const USUAL: usize = 16;

/// mimalloc. The `mimalloc` crate asks for an alignment each time; above 1 KiB mimalloc then takes more than is asked for
/// and marks the page, so that each block of it is freed the slow way. Nearly nothing needs more than the usual alignment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

fn is_usual(size: usize, align: usize) -> bool {
    align <= USUAL && align <= size
}

// SAFETY: mimalloc gives blocks of at least the size that it is asked for, or null, and does not unwind. Their alignment
// is the one that is asked for, or that of `malloc` where that is enough; `mi_free` and `mi_realloc` take blocks of
// either kind, `mi_realloc` those that are to keep the usual alignment.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the alignment is a power of two, as every layout's.
        unsafe { if is_usual(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) }.cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe { if is_usual(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) }.cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from this allocator.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller has it from this allocator.
        unsafe {
            if is_usual(size, align) {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, align)
            }
            .cast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes about the borders, with every alignment: each block is aligned, its bytes are its own, and go along when
    /// it grows and shrinks.
    #[test]
    fn blocks_are_aligned_and_keep_their_bytes() {
        let sizes =
            [1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 33, 100, 1000, 1024, 1025, 1440, 1888, 4096, 5000, 70_000];
        let mut blocks = Vec::new();
        for (number, size) in sizes.into_iter().cycle().take(sizes.len() * 8).enumerate() {
            for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout's size is not 0.
                let block = unsafe {
                    if number % 2 == 0 { Allocator.alloc(layout) } else { Allocator.alloc_zeroed(layout) }
                };
                assert!(!block.is_null() && block.addr().is_multiple_of(align), "{size} {align}");
                // SAFETY: the block is of that size, and nobody else has it.
                let bytes = unsafe {
                    if number % 2 == 0 {
                        block.write_bytes(0, size);
                    }
                    std::slice::from_raw_parts_mut(block, size)
                };
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(number as u8);
                blocks.push((block, layout, number as u8));
            }
        }
        for (block, layout, filled) in blocks {
            let (size, align) = (layout.size(), layout.align());
            for new in [size * 3, size.div_ceil(2)] {
                // SAFETY: as above; each is given back once.
                unsafe {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    let copy = Allocator.alloc(layout);
                    copy.copy_from(block, size);
                    let moved = Allocator.realloc(copy, layout, new);
                    assert!(moved.addr().is_multiple_of(align), "{size} {align} {new}");
                    let bytes = std::slice::from_raw_parts(moved, size.min(new));
                    assert!(bytes.iter().all(|byte| *byte == filled), "{size} {align} {new}");
                    Allocator.dealloc(moved, Layout::from_size_align(new, align).unwrap());
                }
            }
            // SAFETY: as above.
            unsafe { Allocator.dealloc(block, layout) };
        }
    }
}
