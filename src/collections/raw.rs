//! What every container does with its buffer: record once, allocate, replace, free.
//!
//! A container is a header that begins with a [`BufferHeader`]. Before an operation changes it,
//! [`open`] records the header once per section: later operations only compare its stamp. What the
//! operation changes inside the buffer it records with [`record_in_buffer`], which stops recording
//! once the buffer is fresh (allocated in this section), or was recorded whole.

use crate::{
    error::{Error, Rare, Result, unbox},
    layout::{BufferHeader, marks},
    mapping,
    section::{self, Ctx, Writer},
    share::Share,
};
use std::ptr::NonNull;

/// Begins to change a container that lies at `header` and is `SIZE` bytes long as a whole.
///
/// # Errors
///
/// Where it cannot be changed: outside an arena, without a guard, with memory of another arena; or
/// when the log cannot grow. Nothing is changed then.
///
/// # Safety
///
/// `header` is the begin of a container of `SIZE` bytes that the caller has borrowed mutably.
#[inline(always)]
pub(crate) unsafe fn open<const SIZE: usize>(header: *mut BufferHeader) -> Result<Writer> {
    // SAFETY: by contract.
    let stored = unsafe { &mut *header };
    if let Some(writer) = Writer::that_recorded(stored) {
        return Ok(writer);
    }
    if let Some(writer) = Writer::that_just_recorded(stored, SIZE) {
        stored.stamp = writer.stamp();
        stored.marks = 0;
        return Ok(writer);
    }
    // SAFETY: by contract.
    unbox(unsafe { open_slow::<SIZE>(header) })
}

/// # Safety
///
/// As [`open`].
#[inline(never)]
unsafe fn open_slow<const SIZE: usize>(header: *mut BufferHeader) -> Rare<Writer> {
    let writer = Writer::at(header)?;
    // SAFETY: by contract.
    let stored = unsafe { &mut *header };
    let (stamp, arena) = (writer.stamp(), writer.arena());
    if stored.stamp == stamp && stored.arena == arena {
        return Ok(writer);
    }
    if stored.arena != arena && stored.has_buffer() {
        return Err(Error::OtherArena.into());
    }
    if !writer.just_recorded(header, SIZE) {
        writer.record(header, SIZE)?;
    }
    stored.arena = arena;
    stored.stamp = stamp;
    stored.marks = 0;
    Ok(writer)
}

/// Records `len` bytes at `from` bytes into the buffer of an opened container, if they are not
/// recorded yet. `whole` is the buffer's size in bytes.
#[inline(always)]
pub(crate) fn record_in_buffer(
    writer: Writer,
    header: &mut BufferHeader,
    from: usize,
    len: usize,
    whole: usize,
) -> Result {
    if header.marks & (marks::FRESH | marks::WHOLE) != 0 || len == 0 {
        let base = writer.base().wrapping_add(header.offset as usize);
        writer.forget_locks_in(base.wrapping_add(from), len);
        return Ok(());
    }
    unbox(record_some_of(writer, header, from, len, whole))
}

/// For lengths that are not known when it is compiled.
#[inline(never)]
fn record_some_of(
    writer: Writer,
    header: &mut BufferHeader,
    from: usize,
    len: usize,
    whole: usize,
) -> Rare {
    let piece = Piece {
        from,
        len,
        leaf: false,
    };
    Ok(record_some(writer, header, piece, whole / 8, || whole)?)
}

/// A part of a buffer that is to be recorded.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) from: usize,
    pub(crate) len: usize,
    /// Whether no container lies in it.
    pub(crate) leaf: bool,
}

/// Records what was not recorded yet: for lengths that are known when it is compiled.
///
/// Once as much was recorded in pieces as the buffer has words, it is recorded `whole`, and no more:
/// so a long section's log is bounded by the old data it touches.
#[inline(always)]
pub(crate) fn record_some(
    writer: Writer,
    header: &mut BufferHeader,
    piece: Piece,
    words: usize,
    whole: impl FnOnce() -> usize,
) -> Result {
    let Piece { from, len, leaf } = piece;
    let base = writer.base().wrapping_add(header.offset as usize);
    let counted = counted_with(header, len);
    if counted as usize > words {
        return unbox(record_rest(writer, header, base, whole()));
    }
    writer.record_of(base.wrapping_add(from).cast_const(), len, leaf)?;
    set_counted(header, counted);
    Ok(())
}

#[cold]
#[inline(never)]
fn record_rest(writer: Writer, header: &mut BufferHeader, base: *const u8, whole: usize) -> Rare {
    writer.record(base, whole)?;
    header.marks = marks::WHOLE;
    Ok(())
}

/// What was recorded in pieces, in words of the log, with another piece.
#[inline(always)]
pub(crate) fn counted_with(header: &BufferHeader, len: usize) -> u32 {
    let units = (len.div_ceil(8) + 1).min(marks::COUNT as usize) as u32;
    ((header.marks & marks::COUNT) + units).min(marks::COUNT)
}

/// Records values of a type with [`Unlogged`](crate::share::Unlogged) parts in the buffer of an
/// opened container, before they are lent. The other parts are recorded each time.
#[cold]
pub(crate) fn record_lent<T: Share>(
    writer: Writer,
    header: &mut BufferHeader,
    place: *const T,
    count: usize,
) -> Result {
    if header.marks & (marks::FRESH | marks::WHOLE) != 0 {
        writer.forget_locks_in(place, count * size_of::<T>());
        return Ok(());
    }
    writer.record_lent(place, count)
}

/// Notes that a piece of a buffer that is not fresh was recorded elsewhere.
pub(crate) fn count_recorded(header: &mut BufferHeader, len: usize) {
    set_counted(header, counted_with(header, len));
}

#[inline(always)]
pub(crate) fn set_counted(header: &mut BufferHeader, counted: u32) {
    header.marks = header.marks & !marks::COUNT | counted;
}

/// Records the buffer whole: before all of it is handed out.
pub(crate) fn record_whole(writer: Writer, header: &mut BufferHeader, whole: usize) -> Result {
    let base = writer.base().wrapping_add(header.offset as usize);
    if header.marks & (marks::FRESH | marks::WHOLE) == 0 && whole > 0 {
        writer.record(base.cast_const(), whole)?;
        header.marks = marks::WHOLE;
    } else {
        writer.forget_locks_in(base, whole);
    }
    Ok(())
}

/// Gives an opened container a buffer that was allocated just now; the old one is not freed.
pub(crate) fn set_fresh_buffer(header: &mut BufferHeader, offset: u64) {
    header.offset = offset;
    header.marks = marks::FRESH;
}

/// Frees the buffer of an opened container, which is left without one.
pub(crate) fn free_buffer(writer: Writer, header: &mut BufferHeader) -> Result {
    if header.offset != 0 {
        writer.free_dropped(header.offset, header.marks & marks::FRESH != 0)?;
        header.offset = 0;
        header.marks = 0;
    }
    Ok(())
}

/// The begin of the buffer, for reading. Only for a container that has one.
///
/// # Panics
///
/// If the container does not lie in the arena that its buffer is in.
#[inline(always)]
pub(crate) fn buffer(header: &BufferHeader) -> NonNull<u8> {
    match Ctx::here(header).or_else(|| mapping::base_of(header, header.arena)) {
        Some(base) => buffer_at(base, header),
        None => outside(header),
    }
}

/// The same for a hash table, and what the arena's tables hash with.
///
/// # Panics
///
/// As [`buffer`].
#[inline(always)]
pub(crate) fn buffer_and_seed(header: &BufferHeader) -> (NonNull<u8>, u64) {
    match mapping::base_from(Ctx::located(), header, header.arena) {
        Some((base, seed)) => (buffer_at(base, header), seed),
        None => outside(header),
    }
}

#[inline(always)]
fn buffer_at(base: *mut u8, header: &BufferHeader) -> NonNull<u8> {
    // SAFETY: inside the mapping: an arena written by programs that keep the contract of `Share` has
    // only offsets of its own blocks in its containers.
    unsafe { NonNull::new_unchecked(base.add(header.offset as usize)) }
}

#[cold]
#[inline(never)]
fn outside(header: &BufferHeader) -> ! {
    match mapping::locate(header) {
        Some(_) => panic!(
            "this container's memory is in another arena: move a container only within its arena"
        ),
        None => {
            panic!("this container was moved out of its arena: put it back to use it, or drop it")
        }
    }
}

/// The bytes of the buffer, wherever the header lies: for those that must not panic. `None` if its
/// arena is not mapped any more.
pub(crate) fn buffer_anywhere(header: &BufferHeader) -> Option<NonNull<u8>> {
    match mapping::locate(header) {
        Some(located) if located.arena == header.arena => Some(buffer(header)),
        _ => None,
    }
}

/// Runs `f` with a section in which the blocks of a container that is being dropped can be freed:
/// the open one, or one of its own. Does nothing where its arena is not mapped for writing any
/// more: what it owns is then left to `check`.
pub(crate) fn while_dropping(header: &BufferHeader, f: impl FnOnce(Writer) -> Result) {
    if header.offset == 0 {
        return;
    }
    if let Some(writer) = Writer::open_in(header.arena) {
        let _ = f(writer);
        return;
    }
    let Some(mapping) = mapping::find_id(header.arena) else {
        return;
    };
    let Ok(ctx) = section::attach(&mapping) else {
        return;
    };
    let _ = section::in_section_for_drops(ctx, || f(Writer::of(ctx)));
}

/// Whether a dropped container's buffer was allocated in the open section.
pub(crate) fn is_fresh(writer: Writer, header: &BufferHeader) -> bool {
    header.stamp == writer.stamp() && header.marks & marks::FRESH != 0
}
