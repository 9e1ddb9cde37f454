//! Who waits for whom: a thread that waits in a circle waits for ever.
//!
//! A thread that sleeps for a lock says so in its slot (`Slot.wait`). It waits for the thread that the
//! lock's word names; or, if it says that it has the word already, for those that read the lock. Who gives
//! up some time breaks a circle by itself, and says nothing.
//!
//! What is looked at one after the other need not have been so at any one time: a thread that reads may
//! stop, and then wait to read again. So a circle that was found is looked at once more. A thread that is
//! still in the *same* wait, which has a number, held all the while what it holds now; and between the
//! two looks all of them were waiting.

use crate::{
    journal,
    layout::{PENDING_BIT, Tag, Wait, lock_of_cell},
    mapping::Mapping,
};
use std::sync::atomic::Ordering::*;

/// A thread that waits.
#[derive(Clone, Copy)]
struct Waiting {
    slot: usize,
    /// What it said last.
    said: Wait,
    /// The lock that it waits for.
    lock: u64,
    /// Which of those found before waits for this one.
    before: Option<usize>,
}

impl Waiting {
    /// The thread in a slot, if it waits.
    fn at(mapping: &Mapping, slot: usize, before: Option<usize>) -> Option<Self> {
        let said = said_by(mapping, slot);
        let lock = said.lock()?;
        let waiting = Waiting {
            slot,
            said,
            lock,
            before,
        };
        waiting.goes_on(mapping).then_some(waiting)
    }

    /// Whether the thread is still in the same wait. The dead wait for nothing: what they have is about
    /// to be free.
    fn goes_on(&self, mapping: &Mapping) -> bool {
        said_by(mapping, self.slot) == self.said && !journal::is_dead(mapping, self.slot)
    }
}

fn said_by(mapping: &Mapping, slot: usize) -> Wait {
    Wait(mapping.slot(slot).wait.load(Acquire))
}

/// The locks in a circle of waiting that leads from `me`, which said what it waits for, back to it: that
/// one first.
pub(super) fn find(mapping: &Mapping, me: Tag) -> Option<Vec<u64>> {
    let circle = look_for(mapping, me)?;
    is_there(mapping, &circle).then(|| circle.iter().map(|waiting| waiting.lock).collect())
}

/// What looks like a circle.
fn look_for(mapping: &Mapping, me: Tag) -> Option<Vec<Waiting>> {
    let mut found = vec![Waiting::at(mapping, me.slot(), None)?];
    let mut next = 0;
    while next < found.len() {
        for slot in who_has(mapping, &found[next]) {
            if slot == me.slot() {
                return Some(way_to(&found, next));
            }
            if found.iter().any(|known| known.slot == slot) {
                continue;
            }
            found.extend(Waiting::at(mapping, slot, Some(next)));
        }
        next += 1;
    }
    None
}

/// Those who wait for each other, up to number `last`.
fn way_to(found: &[Waiting], last: usize) -> Vec<Waiting> {
    let way = std::iter::successors(Some(last), |&number| found[number].before);
    let mut circle: Vec<_> = way.map(|number| found[number]).collect();
    circle.reverse();
    circle
}

/// Whether each of them waits for the next one now, in the wait in which it was before.
fn is_there(mapping: &Mapping, circle: &[Waiting]) -> bool {
    let nexts = circle.iter().cycle().skip(1);
    circle.iter().zip(nexts).all(|(waiting, next)| {
        // First what it has, then its wait: if that goes on, it had it before the first look ended.
        who_has(mapping, waiting).contains(&next.slot) && next.goes_on(mapping)
    })
}

/// The threads that somebody waits for.
fn who_has(mapping: &Mapping, waiting: &Waiting) -> Vec<usize> {
    if waiting.said.is_for_readers() {
        return readers_of(mapping, waiting);
    }
    // Who has just taken the lock still says that it waits for it, but waits for nobody.
    let holder = holder_of(mapping, waiting.lock);
    let another = holder.filter(|&holder| holder != waiting.slot);
    another.into_iter().collect()
}

fn holder_of(mapping: &Mapping, lock: u64) -> Option<usize> {
    // Nobody may wait for it any more: then its pages may have been given back.
    let holder = Tag::of_word(mapping.stale_word(lock)?)?;
    let slot = holder.slot();
    let holds = slot < mapping.geometry().slots && journal::tag_of(mapping, slot) == holder;
    holds.then_some(slot)
}

/// The others that read the lock, for sure.
fn readers_of(mapping: &Mapping, waiting: &Waiting) -> Vec<usize> {
    let reads = |&slot: &usize| {
        let cell = journal::cell_of(mapping, slot, waiting.lock);
        let cell = cell.map_or(0, |cell| cell.0.load(SeqCst));
        let sure = lock_of_cell(cell) == waiting.lock && cell & PENDING_BIT == 0;
        sure && slot != waiting.slot && !journal::is_dead(mapping, slot)
    };
    (0..mapping.slots_high()).filter(reads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, os::life::OWNER_DIED, section::attached, sync::Mutex};
    use std::{sync::mpsc::channel, thread};

    /// Two threads that wait for each other, as far as their slots say.
    #[test]
    fn a_circle_counts_only_while_its_waits_go_on() {
        let arena = Arena::in_memory().unwrap();
        let both = arena.root::<[Mutex<u64>; 2]>("both").unwrap();
        let tag_of_this = || {
            let ctx = attached(&both[0]).unwrap();
            // SAFETY: C1.
            let ctx = unsafe { ctx.as_ref() };
            (ctx.tag(), ctx.mapping())
        };
        let (me, mapping) = tag_of_this();
        thread::scope(|threads| {
            let (tell, told) = channel();
            let (end, ended) = channel::<()>();
            threads.spawn(move || {
                tell.send(tag_of_this().0).unwrap();
                let _ = ended.recv();
            });
            let other = told.recv().unwrap();
            let words = [&both[0].header.word, &both[1].header.word];
            let wait_for = |who: Tag, lock: usize| {
                let wait = &mapping.slot(who.slot()).wait;
                let lock = mapping.offset_of(words[lock]).unwrap();
                wait.store(Wait(wait.load(Relaxed)).begun(lock, false).0, Relaxed);
            };
            words[0].0.store(other.0, Relaxed);
            words[1].0.store(me.0, Relaxed);
            assert!(find(mapping, me).is_none(), "nobody waits");
            wait_for(me, 0);
            assert!(find(mapping, me).is_none(), "one waits");
            wait_for(other, 1);
            assert_eq!(find(mapping, me).map(|locks| locks.len()), Some(2));
            let circle = look_for(mapping, me).unwrap();
            assert!(is_there(mapping, &circle));
            wait_for(other, 1);
            assert!(!is_there(mapping, &circle), "it waited, and waits again");
            let circle = look_for(mapping, me).unwrap();
            mapping.life(other.slot()).fetch_or(OWNER_DIED, Relaxed);
            assert!(!is_there(mapping, &circle), "it died");
            assert!(look_for(mapping, me).is_none());
            mapping.life(other.slot()).fetch_and(!OWNER_DIED, Relaxed);
            words[0].0.store(0, Relaxed);
            assert!(!is_there(mapping, &circle), "it let go");

            words[1].0.store(0, Relaxed);
            for tag in [me, other] {
                let wait = &mapping.slot(tag.slot()).wait;
                wait.store(Wait(wait.load(Relaxed)).ended().0, Relaxed);
            }
            end.send(()).unwrap();
        });
    }
}
