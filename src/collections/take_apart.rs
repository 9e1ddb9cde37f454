//! Dropping what a container owns: its values in place, then its buffer.
//!
//! Values may own containers in turn, to any depth: a list of a million boxes must not need a
//! million stack frames. So beyond a certain depth nothing is dropped at once: it is put on a list
//! that the outermost drop works off. What is so large that the log would have to grow is not gone
//! into at all, but left to be taken apart after the commit. Nothing is written to the arena but what
//! freeing notes in the journal, so a death undoes all of it.

use super::raw;
use crate::{
    error::Result,
    layout::{BufferHeader, HEADER_WORDS},
    section::Writer,
};
use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
    ptr,
};

/// What lies in the buffers of one kind of container.
pub(super) trait Contents {
    /// The container.
    type Container;

    /// Its header, which begins with a [`BufferHeader`].
    type Header;

    /// Whether dropping it does anything.
    const OWNS: bool;

    /// Bytes of a buffer with `count` places, as far as there may be locks in them.
    fn size(count: usize) -> usize;

    /// Drops what lies in a buffer with `count` places. Writes nothing to the buffer.
    ///
    /// # Safety
    ///
    /// The container owns it, and goes.
    unsafe fn drop_all(buffer: *mut u8, count: usize);
}

/// Values of type `T` one behind the other, in a container `C` with a header `H`.
struct Elements<T, C, H>(PhantomData<(T, C, H)>);

impl<T, C, H> Contents for Elements<T, C, H> {
    type Container = C;
    type Header = H;

    const OWNS: bool = std::mem::needs_drop::<T>();

    fn size(count: usize) -> usize {
        count * size_of::<T>()
    }

    unsafe fn drop_all(buffer: *mut u8, count: usize) {
        // SAFETY: the buffer holds `count` values, which belong to the container that goes.
        unsafe { ptr::slice_from_raw_parts_mut(buffer.cast::<T>(), count).drop_in_place() };
    }
}

/// Containers within containers that are dropped by plain recursion.
const DEEP: u32 = 32;

/// A copy of a container's header, padded with zeroes.
type Header = [u64; HEADER_WORDS];

/// A buffer that waits for being taken apart.
struct Pending {
    header: Header,
    count: usize,
    /// What drops `count` values at the buffer's begin, and frees it.
    take_apart: fn(Writer, &Header, usize) -> Result,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
}

/// Drops the `count` values in the buffer of a container `C` that goes, and frees the buffer. Never
/// panics; does nothing if the arena is not mapped for writing any more.
#[inline]
pub(super) fn drop_buffer<T, C, H>(header: &H, count: usize) {
    drop_contents::<Elements<T, C, H>>(header, count);
}

/// The same for a buffer that is laid out in another way.
#[inline]
pub(super) fn drop_contents<C: Contents>(header: &C::Header, count: usize) {
    let buffer = buffer_of::<C>(header);
    if buffer.offset == 0 {
        return;
    }
    if !C::OWNS {
        raw::while_dropping(buffer, |writer| free_only::<C>(writer, buffer, count));
    } else if DEPTH.get() < DEEP {
        let header = copy::<C>(header);
        raw::while_dropping(buffer, |writer| drop_nested::<C>(writer, &header, count));
    } else {
        put_off::<C>(copy::<C>(header), count);
    }
}

fn buffer_of<C: Contents>(header: &C::Header) -> &BufferHeader {
    const { assert!(size_of::<C::Header>() >= size_of::<BufferHeader>()) };
    // SAFETY: all headers begin with one.
    unsafe { &*ptr::from_ref(header).cast() }
}

fn copy<C: Contents>(header: &C::Header) -> Header {
    const { assert!(size_of::<C::Header>() <= size_of::<Header>()) };
    let mut words = [0; HEADER_WORDS];
    // SAFETY: headers are plain words, and not longer than this.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(header).cast::<u8>(),
            words.as_mut_ptr().cast(),
            size_of::<C::Header>(),
        );
    }
    words
}

fn buffer_in(header: &Header) -> &BufferHeader {
    // SAFETY: a copy of a header, which begins with one, in words that suffice.
    unsafe { &*header.as_ptr().cast() }
}

fn start(writer: Writer, header: &BufferHeader) -> *mut u8 {
    writer.base().wrapping_add(header.offset as usize)
}

fn free_only<C: Contents>(writer: Writer, header: &BufferHeader, count: usize) -> Result {
    writer.forget_locks_in(start(writer, header), C::size(count));
    writer.free_dropped(header.offset, raw::is_fresh(writer, header))
}

/// Drops values that may own others. The outermost call goes on until nothing is left.
fn drop_nested<C: Contents>(writer: Writer, header: &Header, count: usize) -> Result {
    let buffer = buffer_in(header);
    // What is fresh is free again at once; for the rest, a free takes an entry.
    if writer.would_spill(count)
        && !raw::is_fresh(writer, buffer)
        && writer.doom(header, typeid::of::<C::Container>(), count)
    {
        return Ok(());
    }
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    // SAFETY: the contents belong to the container that goes; they lie in the arena that the header
    // names (raw::while_dropping), whose mapping the section keeps.
    unsafe { C::drop_all(start(writer, buffer), count) };
    let freed = free_only::<C>(writer, buffer, count);
    if depth == 0 {
        work_off();
    }
    DEPTH.set(depth);
    freed
}

#[cold]
fn put_off<C: Contents>(header: Header, count: usize) {
    let pending = Pending {
        header,
        count,
        take_apart: drop_nested::<C>,
    };
    let put = PENDING.try_with(|list| list.borrow_mut().push(pending));
    if put.is_err() {
        // The thread is ending and has no list any more.
        raw::while_dropping(buffer_in(&header), |writer| {
            drop_nested::<C>(writer, &header, count)
        });
    }
}

fn work_off() {
    while let Ok(Some(next)) = PENDING.try_with(|list| list.borrow_mut().pop()) {
        raw::while_dropping(buffer_in(&next.header), |writer| {
            (next.take_apart)(writer, &next.header, next.count)
        });
    }
}
