//! Where a log goes on that outgrows its slot: in blocks that are never published (J7), and in a full arena
//! beyond its maximum (J13).

use super::{
    Ctx, Writer,
    ctx::{Body, HELD_BACK},
};
use crate::{
    error::{Rare, Result},
    heap::classes::size_of_class,
    layout::{OVERFLOW_SEGMENTS, SEGMENTS},
    mutant::{self, Mutant},
};
use std::{
    alloc::Layout,
    sync::atomic::{Ordering::*, compiler_fence},
};

/// Segments of the log that a thread keeps for its next long section.
const KEPT_SEGMENTS: usize = 2;

/// The segments beyond a log's part in its slot, as its thread knows them.
#[derive(Default)]
pub(super) struct Segments {
    /// Where each is, and how many bytes it has. Some may be left from earlier sections.
    blocks: Vec<(u64, usize)>,
    /// The first that lies in the overflow, and so do those behind it: they go with the section.
    overflow: Option<usize>,
    /// The first that is only for what is dropped, and so are those behind it.
    for_drops: Option<usize>,
}

impl Writer {
    /// Gives the log another segment of at least `needed` bytes: a block that is never published.
    ///
    /// # Errors
    ///
    /// When there is none: then nothing is changed.
    #[cold]
    #[inline(never)]
    pub(super) fn grow_log(&self, needed: usize) -> Rare {
        let ctx = self.ctx_mut();
        let number = ctx.segment_number();
        if number >= SEGMENTS - OVERFLOW_SEGMENTS || ctx.segments().for_drops.is_some() {
            return Err(ctx.mapping().full(needed).into());
        }
        let needed = needed.next_multiple_of(8) + HELD_BACK;
        let (offset, size) = self
            .or_reclaim(|| self.ctx_mut().segment_block(number, needed))
            .or_else(|error| ctx.overflow_segment(number, needed).ok_or(error))?;
        ctx.go_on_in(offset, size, size - HELD_BACK);
        Ok(())
    }

    /// Takes so many bytes of what the log has for what is dropped: first of what each segment holds back,
    /// then of the overflow. Says whether there are so many.
    #[cold]
    pub(super) fn reserve_for_drop(&self, bytes: usize) -> bool {
        let ctx = self.ctx_mut();
        ctx.take_held_back(bytes) || (ctx.grow_for_drops() && ctx.take_held_back(bytes))
    }

    /// Whether the log has gone on where every word is counted.
    pub(super) fn is_for_drops(&self) -> bool {
        self.ctx_mut().segments().for_drops.is_some()
    }
}

impl Ctx {
    fn segments(&mut self) -> &mut Segments {
        &mut self.body_mut().segments
    }

    /// The number of the log's last segment, from 1; 0 if there is none but the slot's part.
    fn segment_number(&self) -> usize {
        (self.segment >> 56) as usize
    }

    /// Goes on in a further segment, of which only the `ordinary` first bytes are for whatever comes.
    fn go_on_in(&mut self, offset: u64, size: usize, ordinary: usize) {
        let number = self.segment_number();
        let used = self.next.addr() - self.start.addr();
        let stored = &self.slot().segments[number];
        stored.offset.store(offset, Relaxed);
        stored.size.store(size as u64, Relaxed);
        stored.before.store(used as u64, Relaxed);
        compiler_fence(SeqCst);
        let start = self.base().wrapping_add(offset as usize);
        self.set_segment((number as u64 + 1) << 56, start, ordinary);
        self.make_valid(start);
    }

    /// A block for the log's segment `number`: the one of an earlier section if it is long enough.
    fn segment_block(&mut self, number: usize, needed: usize) -> Result<(u64, usize)> {
        let size = usual_size(number).max(needed);
        if let Some(&(offset, size)) = self.segments().blocks.get(number)
            && size >= needed
        {
            return Ok((offset, size));
        }
        let (body, magazines, mapping) = self.parts();
        let Body { cache, index, .. } = body;
        let layout = Layout::from_size_align(size, 16).expect("a segment's size is sane");
        let fresh = match cache.take(mapping, magazines, layout)? {
            Some((offset, class)) => (offset, size_of_class(class)),
            None => {
                let count = mapping.slabs_for(size);
                let head = mapping.claim_run(count, *index)?;
                self.as_segment(head, count)
            }
        };
        self.keep_segment(number, fresh);
        Ok(fresh)
    }

    /// What slabs are as a segment that were claimed for one.
    fn as_segment(&self, head: usize, count: usize) -> (u64, usize) {
        let mapping = self.mapping();
        let slabs = &mapping.bitmaps(head).bits.span_slabs;
        slabs.store(count as u64, Relaxed);
        (
            mapping.slab_at(head),
            count << mapping.geometry().slab_shift,
        )
    }

    /// Notes the block of a segment.
    fn keep_segment(&mut self, number: usize, block: (u64, usize)) {
        self.drop_segments(number);
        self.segments().blocks.push(block);
    }

    /// A segment beyond the arena's maximum, where there is none below.
    fn overflow_segment(&mut self, number: usize, needed: usize) -> Option<(u64, usize)> {
        let mapping = self.mapping();
        let least = mapping.slabs_for(needed);
        let most = mapping.slabs_for(usual_size(number)).max(least);
        let geometry = mapping.geometry();
        let limit = geometry.slabs + geometry.for_logs;
        let claimed = self.claim_overflow(limit, most, least)?;
        self.segments().overflow.get_or_insert(number);
        self.keep_segment(number, claimed);
        Some(claimed)
    }

    /// Gives the log a segment for what is dropped alone: all of it is held back. From here to the section's
    /// end it does not grow in another way.
    fn grow_for_drops(&mut self) -> bool {
        let number = self.segment_number();
        let first = self.segments().for_drops.unwrap_or(number);
        let geometry = self.mapping().geometry();
        let (limit, most) = (
            geometry.all_slabs(),
            geometry.first_for_drops() << (number - first),
        );
        if number >= SEGMENTS || mutant::is(Mutant::DropsUnnoted) {
            return false;
        }
        let Some((offset, size)) = self.claim_overflow(limit, most, 1) else {
            return false;
        };
        self.segments().overflow.get_or_insert(number);
        self.segments().for_drops = Some(first);
        self.keep_segment(number, (offset, size));
        self.go_on_in(offset, size, 0);
        true
    }

    /// Claims slabs of the overflow up to a `limit`: as many as there are in one piece, of those that are
    /// wished for.
    fn claim_overflow(&self, limit: usize, most: usize, least: usize) -> Option<(u64, usize)> {
        let mut count = most;
        loop {
            match self.mapping().claim_overflow(limit, count, self.index()) {
                Ok(head) => return Some(self.as_segment(head, count)),
                Err(_) if count == least => return None,
                Err(_) => count = (count / 2).max(least),
            }
        }
    }

    /// Gives back the blocks of segments that the next section shall not have.
    pub(super) fn drop_long_segments(&mut self) {
        if let Some(first) = self.segments().overflow {
            self.leave_overflow(first);
        }
        self.drop_segments(KEPT_SEGMENTS);
    }

    /// Gives back what the section had beyond the arena's maximum, and its pages to the system.
    #[cold]
    fn leave_overflow(&mut self, first: usize) {
        self.segments().overflow = None;
        self.segments().for_drops = None;
        self.drop_segments(first);
        let mapping = self.mapping();
        // If the kernel refuses, they wait for `trim`.
        let _ = mapping.punch_free(mapping.geometry().slabs, self.index());
    }

    /// Gives back the blocks of segments, from number `keep` on.
    pub(super) fn drop_segments(&mut self, keep: usize) {
        while self.segments().blocks.len() > keep {
            let Some((offset, _)) = self.segments().blocks.pop() else {
                return;
            };
            self.put_back(offset);
        }
    }
}

/// The bytes of segment `number`, if there is so much room.
fn usual_size(number: usize) -> usize {
    8192 << number
}
