//! Where a log goes on that outgrows its slot: in blocks that are never published (J7), and in a full arena
//! beyond its maximum (J13).

use super::{
    Ctx, Writer,
    ctx::{Body, HELD_BACK},
};
use crate::{
    error::{Error, Rare, Result},
    heap::classes::size_of_class,
    layout::{OVERFLOW_SEGMENTS, SEGMENTS},
    mutant::{self, Mutant},
};
use std::{
    alloc::Layout,
    ops::Range,
    sync::atomic::{Ordering::*, compiler_fence},
    time::Duration,
};

/// Milliseconds for which a section waits for what others may be giving back.
const PATIENCE: usize = 3;

/// Segments of the log that a thread keeps for its next long section.
const KEPT_SEGMENTS: usize = 2;

/// The segments beyond a log's part in its slot, as its thread knows them.
#[derive(Default)]
pub(super) struct Segments {
    /// Where each is, and how many bytes it has. Some may be left from earlier sections.
    blocks: Vec<(u64, usize)>,
    /// The first that lies in the overflow: it goes with the section, and so do those behind it.
    overflow: Option<usize>,
    /// The first that is only for what is dropped, and so are those behind it.
    for_drops: Option<usize>,
    /// Attempts to have more that were in vain.
    refused: Refused,
    /// The same for what is dropped.
    drops_refused: Refused,
}

/// How often a section found no room for an entry of one word. It looks everywhere each time, and may drop
/// many thousands of blocks: so after some refusals it tries but now and then. What would have a `&mut`
/// access panic is always tried.
#[derive(Default)]
struct Refused {
    /// The section.
    stamp: u64,
    times: u32,
}

impl Refused {
    /// Tries each time at first, then each 64th.
    const EACH: u32 = 8;
    const SELDOM: u32 = 64;

    /// Whether to try, in the section of that stamp; otherwise that is a refusal, too.
    fn may_try(&mut self, stamp: u64) -> bool {
        if self.stamp != stamp {
            *self = Refused { stamp, times: 0 };
        }
        let may = self.times < Self::EACH || self.times.is_multiple_of(Self::SELDOM);
        self.times = self.times.wrapping_add(u32::from(!may));
        may
    }

    fn count(&mut self) {
        self.times = self.times.wrapping_add(1);
    }
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
        let bytes = needed.next_multiple_of(8) + HELD_BACK;
        let (offset, size) = self
            .or_reclaim(|| self.ctx_mut().segment_block(number, bytes))
            .or_else(|error| ctx.overflow_segment(number, bytes).ok_or(error))?;
        ctx.go_on_in(offset, size, size - HELD_BACK);
        Ok(())
    }

    /// The same for a word, and not each time where it was in vain.
    ///
    /// # Errors
    ///
    /// As [`grow_log`](Writer::grow_log).
    #[cold]
    #[inline(never)]
    pub(super) fn grow_log_for_a_word(&self) -> Rare {
        let ctx = self.ctx_mut();
        let stamp = ctx.stamp();
        if !ctx.segments().refused.may_try(stamp) {
            return Err(ctx.mapping().full(8).into());
        }
        self.grow_log(8)
            .inspect_err(|_| self.ctx_mut().segments().refused.count())
    }

    /// Takes so many bytes of what the log has for what is dropped: first of what each segment holds back,
    /// then of the overflow. Says whether there are so many.
    #[cold]
    pub(super) fn reserve_for_drop(&self, bytes: usize) -> bool {
        let ctx = self.ctx_mut();
        if ctx.take_held_back(bytes) {
            return true;
        }
        let stamp = ctx.stamp();
        if !ctx.segments().drops_refused.may_try(stamp) {
            return false;
        }
        // It may have been left untried; and from here on nothing else can be recorded.
        if ctx.segments().for_drops.is_none() && self.grow_log(bytes).is_ok() {
            return ctx.take_held_back(bytes);
        }
        // What the dead have there is of use, too.
        let grown = ctx.grow_for_drops(bytes)
            || (self.ctx().reclaim().is_ok() && ctx.grow_for_drops(bytes));
        if !grown {
            ctx.segments().drops_refused.count();
        }
        grown && ctx.take_held_back(bytes)
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
        let part = geometry.slabs..geometry.slabs + geometry.for_logs;
        let claimed = self.claim_overflow(part, most, least, PATIENCE)?;
        self.enter_overflow(number, claimed);
        Some(claimed)
    }

    /// Gives the log a segment for what is dropped alone: all of it is held back. From here to the section's
    /// end it does not grow in another way.
    fn grow_for_drops(&mut self, needed: usize) -> bool {
        let number = self.segment_number();
        if number >= SEGMENTS || mutant::is(Mutant::DropsUnnoted) {
            return false;
        }
        let first = self.segments().for_drops.unwrap_or(number);
        let least = self.mapping().slabs_for(needed);
        let geometry = *self.mapping().geometry();
        let most = geometry.first_for_drops() << (number - first).min(OVERFLOW_SEGMENTS);
        let most = most.max(least);
        let for_drops = geometry.slabs + geometry.for_logs..geometry.all_slabs();
        let all = geometry.slabs..geometry.all_slabs();
        // What any log may have is left to others as long as that is possible.
        let Some((offset, size)) = self
            .claim_overflow(for_drops, most, most, 0)
            .or_else(|| self.claim_overflow(all, most, least, PATIENCE))
        else {
            return false;
        };
        self.enter_overflow(number, (offset, size));
        self.segments().for_drops = Some(first);
        self.go_on_in(offset, size, 0);
        true
    }

    /// Notes the block of a segment in the overflow.
    fn enter_overflow(&mut self, number: usize, block: (u64, usize)) {
        self.segments().overflow.get_or_insert(number);
        self.keep_segment(number, block);
        // It goes back where frees take place: when the locks are released.
        self.flags.set_more_frees(true);
    }

    /// Claims slabs in a part of the overflow: as many as there are in one piece, of those that are
    /// wished for. Waits a while for what others may be giving back.
    fn claim_overflow(
        &self,
        part: Range<usize>,
        most: usize,
        least: usize,
        mut patience: usize,
    ) -> Option<(u64, usize)> {
        let (mapping, index) = (self.mapping(), self.index());
        let mut count = most;
        loop {
            match mapping.claim_overflow(part.clone(), count, index) {
                Ok(head) => return Some(self.as_segment(head, count)),
                Err(_) if count > least => count = (count / 2).max(least),
                Err(Error::Full { .. })
                    if patience > 0 && mapping.is_any_of_others(part.clone(), index) =>
                {
                    patience -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return None,
            }
        }
    }

    /// Gives back the blocks of segments that the next section shall not have: all that lie in the overflow.
    pub(super) fn drop_long_segments(&mut self) {
        let segments = self.segments();
        segments.for_drops = None;
        let first = segments.overflow.take().unwrap_or(KEPT_SEGMENTS);
        self.drop_segments(first.min(KEPT_SEGMENTS));
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
