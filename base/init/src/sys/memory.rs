//! Memory where no C library hands it out: the allocator, and the functions compiled code expects.
//!
//! Small blocks come in sizes of powers of two, each with a list of free ones, cut from pieces the kernel gives. Large ones
//! come from the kernel alone, and go back to it. There is one thread.
#![expect(unsafe_code, reason = "this is what allocates memory")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, null_mut};

use super::arch::freestanding::{copy_down, copy_up, fill};
use super::{address, arch, argument, call, call_with_addresses};

/// The smallest block, as a power of two: room for a pointer and more.
const SMALLEST: u32 = 4;
/// How many sizes of small blocks there are, up to 32 KiB.
const SIZES: usize = 12;
/// How much is asked of the kernel for small blocks.
const PIECE: usize = 256 << 10;
const PAGE: usize = 4096;

struct Heap(UnsafeCell<Lists>);

struct Lists {
    /// The first free block of each size; each free block begins with the address of the next.
    free: [*mut u8; SIZES],
    /// What is left of the last piece.
    rest: *mut u8,
    left: usize,
}

// SAFETY: the program has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Lists { free: [null_mut(); SIZES], rest: null_mut(), left: 0 }));

/// The size class of a block, or `None` for a large one.
fn class(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST).next_power_of_two();
    let class = usize::try_from(size.trailing_zeros() - SMALLEST).ok()?;
    (class < SIZES).then_some(class)
}

fn whole_pages(size: usize) -> usize {
    size.next_multiple_of(PAGE)
}

/// Pages from the kernel, all zeros; null when there are none.
fn map(size: usize) -> *mut u8 {
    const READ_AND_WRITE: usize = 1 | 2;
    const PRIVATE_AND_ANONYMOUS: usize = 2 | 0x20;
    match call(arch::MMAP, [0, size, READ_AND_WRITE, PRIVATE_AND_ANONYMOUS, argument(-1), 0]) {
        Ok(start) => ptr::with_exposed_provenance_mut(start),
        Err(_) => null_mut(),
    }
}

// SAFETY: blocks are as large and as aligned as asked for, apart from each other, and stay until they are given back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            return if layout.align() > PAGE { null_mut() } else { map(whole_pages(layout.size())) };
        };
        // SAFETY: no other reference exists while this function runs; blocks in the lists are free, and hold a pointer.
        unsafe {
            let lists = &mut *self.0.get();
            let free = lists.free[class];
            if !free.is_null() {
                lists.free[class] = free.cast::<*mut u8>().read();
                return free;
            }
            let size = 1 << (class + SMALLEST as usize);
            // Aligned to its own size. What is passed over is lost, and less than what follows it.
            let padding = lists.rest.align_offset(size);
            if lists.left < padding.saturating_add(size) {
                lists.rest = map(PIECE);
                lists.left = if lists.rest.is_null() { 0 } else { PIECE };
            }
            let padding = lists.rest.align_offset(size);
            if lists.left < padding.saturating_add(size) {
                return null_mut();
            }
            let block = lists.rest.add(padding);
            lists.rest = block.add(size);
            lists.left -= padding + size;
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: no other reference exists while this function runs; the block is free, and holds a pointer.
            Some(class) => unsafe {
                let lists = &mut *self.0.get();
                block.cast::<*mut u8>().write(lists.free[class]);
                lists.free[class] = block;
            },
            None => {
                // SAFETY: the pages are this block's alone. That they cannot be given back would be no reason to stop.
                let _ = unsafe { call_with_addresses(arch::MUNMAP, [address(block), whole_pages(layout.size())]) };
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that this size is a valid one.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if class(layout).is_some() && class(layout) == class(new_layout) {
            return block;
        }
        // SAFETY: both blocks are as long as what is copied, and apart.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                copy_up(new, block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: promised by the caller.
    unsafe { copy_up(to, from, length) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: promised by the caller. A target that begins inside the source is written from its end.
    unsafe {
        if to.addr().wrapping_sub(from.addr()) < length {
            copy_down(to, from, length);
        } else {
            copy_up(to, from, length);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: promised by the caller. The function takes an int and looks at its lowest byte.
    unsafe { fill(to, byte as u8, length) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: promised by the caller.
        let (left, right) = unsafe { (left.add(index).read(), right.add(index).read()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: promised by the caller.
    unsafe { memcmp(left, right, length) }
}
