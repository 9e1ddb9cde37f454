//! Dropping what a container owns: its values in place, then its buffer.
//!
//! Values may own containers in turn, to any depth: a list of a million boxes must not need a
//! million stack frames. So beyond a certain depth nothing is dropped at once: it is put on a list
//! that the outermost drop works off. Nothing is written to the arena but what freeing notes in the
//! journal, so a death undoes all of it.

use super::raw;
use crate::{error::Result, layout::BufferHeader, section::Writer};
use std::{
    cell::{Cell, RefCell},
    ptr,
};

/// Containers within containers that are dropped by plain recursion.
const DEEP: u32 = 32;

/// A buffer that waits for being taken apart.
struct Pending {
    header: BufferHeader,
    count: usize,
    /// What drops `count` values at the buffer's begin, and frees it.
    take_apart: fn(Writer, &BufferHeader, usize) -> Result,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
}

/// Drops the `count` values in the buffer of a container that goes, and frees the buffer. Never
/// panics; does nothing if the arena is not mapped for writing any more.
#[inline]
pub(super) fn drop_buffer<T>(header: &BufferHeader, count: usize) {
    if header.offset == 0 {
        return;
    }
    if !std::mem::needs_drop::<T>() {
        raw::while_dropping(header, |writer| free_only::<T>(writer, header, count));
    } else if DEPTH.get() < DEEP {
        raw::while_dropping(header, |writer| drop_nested::<T>(writer, header, count));
    } else {
        put_off::<T>(header, count);
    }
}

fn free_only<T>(writer: Writer, header: &BufferHeader, count: usize) -> Result {
    let values = writer.base().wrapping_add(header.offset as usize);
    writer.release_locks_in(values, count * size_of::<T>());
    writer.free(header.offset, raw::is_fresh(writer, header))
}

/// Drops values that may own others. The outermost call goes on until nothing is left.
fn drop_nested<T>(writer: Writer, header: &BufferHeader, count: usize) -> Result {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    drop_values::<T>(writer, header, count);
    let freed = free_only::<T>(writer, header, count);
    if depth == 0 {
        work_off();
    }
    DEPTH.set(depth);
    freed
}

fn drop_values<T>(writer: Writer, header: &BufferHeader, count: usize) {
    let values: *mut T = writer.base().wrapping_add(header.offset as usize).cast();
    // SAFETY: the buffer holds `count` values, which belong to the container that goes; it lies in
    // the arena that the header names (raw::while_dropping), whose mapping the section keeps.
    unsafe { ptr::slice_from_raw_parts_mut(values, count).drop_in_place() };
}

#[cold]
fn put_off<T>(header: &BufferHeader, count: usize) {
    let pending = Pending {
        header: BufferHeader { ..*header },
        count,
        take_apart: drop_nested::<T>,
    };
    let put = PENDING.try_with(|list| list.borrow_mut().push(pending));
    if put.is_err() {
        // The thread is ending and has no list any more.
        raw::while_dropping(header, |writer| drop_nested::<T>(writer, header, count));
    }
}

fn work_off() {
    while let Ok(Some(next)) = PENDING.try_with(|list| list.borrow_mut().pop()) {
        raw::while_dropping(&next.header, |writer| {
            (next.take_apart)(writer, &next.header, next.count)
        });
    }
}
