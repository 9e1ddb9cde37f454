//! Freeing spans, by their thread or its recoverer; undoing them.

use super::*;
use crate::slots::{Stage, tag_of};

impl Config {
    /// The frees of a committed section: `Mapping::free_span`.
    pub(super) fn free(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let acting = state.acting(thread);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        match now.pc {
            Pc::Free => {
                let entries = &state.journals[acting].entries;
                let found = (0..now.at as usize).rev().find_map(|at| match entries[at] {
                    Entry::FreeSpan { head, exact } => Some((at, head as usize, exact)),
                    _ => None,
                });
                let Some((at, head, exact)) = found else {
                    this.pc = Pc::Empty;
                    return self.free(&next, thread, steps);
                };
                this.at = at as u8;
                let word = state.slabs[head].word;
                let freeing = Word {
                    kind: Kind::Freeing,
                    slot: acting as u8,
                    generation: exact.generation,
                };
                let any = self.is(Mutant::FreeAnySpan) && word.kind == Kind::Span;
                if word != exact && word != freeing && !any {
                    let broken = (!now.recovery.acts()).then_some("a span was freed twice");
                    return steps.judge(thread, "finds the span freed", next, broken);
                }
                next.slabs[head].word = freeing;
                self.take_apart(&mut next, thread, head, state.slabs[head].count);
                steps.add(thread, "begins to free the span", next);
            }
            Pc::FreeTails => {
                self.free_tail(&mut next, acting, now.run as usize - 1, now.from as usize);
                let this = &mut next.threads[thread];
                this.from += 1;
                if this.from == this.to {
                    this.pc = Pc::FreeHead;
                }
                steps.add(thread, "frees a tail", next);
            }
            Pc::FreeHead => {
                let head = now.run as usize - 1;
                next.slabs[head].word = now.freeing.next(Kind::Free, 0);
                next.slabs[head].count = 0;
                (this.run, this.from, this.to) = (0, 0, 0);
                this.freeing = Word::default();
                this.pc = match now.recovery.acts() && !state.journals[acting].committed {
                    true => Pc::TakeOff,
                    false => Pc::Free,
                };
                steps.add(thread, "frees the head", next);
            }
            _ => {
                next.journals[acting] = Journal::default();
                this.at = 0;
                if this.recovery.acts() {
                    this.recovery.stage = Stage::Generation;
                    this.pc = this.back;
                } else {
                    self.next_op(&mut next, thread);
                }
                steps.add(thread, "empties the log", next);
            }
        }
    }

    fn take_apart(&self, state: &mut State, thread: usize, head: usize, count: u8) {
        let freeing = state.slabs[head].word;
        let this = &mut state.threads[thread];
        this.freeing = freeing;
        (this.run, this.from, this.to) = (head as u8 + 1, 1, count);
        this.pc = match count {
            0 | 1 => Pc::FreeHead,
            _ => Pc::FreeTails,
        };
    }

    /// `Mapping::free_tails`, for one of them.
    fn free_tail(&self, state: &mut State, slot: usize, head: usize, distance: usize) {
        let Some(slab) = state.slabs.get_mut(head + distance) else {
            return;
        };
        let word = slab.word;
        let generation = match word.kind {
            Kind::Tail if word.generation as usize == distance => match self.mutant {
                Some(Mutant::TailForgets) => word.generation,
                _ => slab.kept,
            },
            Kind::Reserved if word.slot as usize == slot => word.generation,
            _ => return,
        };
        slab.kept = 0;
        slab.word = Word {
            kind: Kind::Free,
            slot: 0,
            generation: generation + 1,
        };
    }

    /// `resolve_journal`.
    pub(super) fn begin_journal(&self, state: &mut State, thread: usize) {
        let journal = &state.journals[state.acting(thread)];
        let this = &mut state.threads[thread];
        this.at = journal.log;
        this.pc = match journal.log {
            0 => Pc::Empty,
            _ if journal.committed => Pc::Free,
            _ => Pc::Undo,
        };
    }

    /// `replay::roll_back`: each entry is undone, then taken off the log.
    pub(super) fn roll_back(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let dead = state.acting(thread);
        let mut next = state.clone();
        match now.pc {
            Pc::Undo => {
                let entry = state.journals[dead].entries[now.at as usize - 1];
                next.threads[thread].pc = Pc::TakeOff;
                let broken = self.undo(&mut next, thread, dead, entry);
                steps.judge(thread, "undoes an entry", next, broken);
            }
            Pc::UndoGrowth => {
                self.free_tail(&mut next, dead, now.run as usize - 1, now.from as usize);
                let this = &mut next.threads[thread];
                (this.run, this.from, this.to) = (0, 0, 0);
                this.pc = Pc::TakeOff;
                steps.add(thread, "frees the tail", next);
            }
            _ => {
                let this = &mut next.threads[thread];
                this.at -= 1;
                this.pc = if this.at == 0 { Pc::Empty } else { Pc::Undo };
                if !self.is(Mutant::KeepLog) {
                    let journal = &mut next.journals[dead];
                    journal.log -= 1;
                    journal.entries[journal.log as usize] = Entry::None;
                }
                steps.add(thread, "takes the entry off the log", next);
            }
        }
    }

    fn undo(
        &self,
        state: &mut State,
        thread: usize,
        dead: usize,
        entry: Entry,
    ) -> Option<&'static str> {
        match entry {
            Entry::Undo { cell, old } => {
                let held = state.locks[cell as usize] == tag_of(&state.slots, dead);
                state.cells[cell as usize] = old;
                return (!held).then_some("undoes what the dead one has no lock for any more");
            }
            Entry::UndoInside { slab, old } => state.slabs[slab as usize].token = old,
            Entry::AllocSpan {
                head,
                count,
                claimed,
            } => {
                let slot = dead as u8;
                let reserved = Word {
                    kind: Kind::Reserved,
                    slot,
                    generation: claimed,
                };
                let published = reserved.next(Kind::Span, 0);
                let freeing = reserved.next(Kind::Freeing, slot);
                let word = &mut state.slabs[head as usize].word;
                if [reserved, published, freeing].contains(word) {
                    *word = freeing;
                    self.take_apart(state, thread, head as usize, count);
                }
            }
            Entry::GrowSpan {
                head,
                before,
                after,
            } => {
                state.slabs[head as usize].count = before;
                let this = &mut state.threads[thread];
                (this.run, this.from, this.to) = (head + 1, before, after);
                this.pc = Pc::UndoGrowth;
            }
            Entry::FreeSpan { .. } | Entry::None => {}
        }
        None
    }

    /// What else a dead slot has: slabs that it claimed, and no journal names.
    pub(super) fn release_reserved(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let dead = state.acting(thread);
        let mut next = state.clone();
        let reserved = next
            .slabs
            .iter_mut()
            .find(|slab| slab.word.kind == Kind::Reserved && slab.word.slot as usize == dead);
        match reserved {
            Some(slab) => {
                slab.word = slab.word.next(Kind::Free, 0);
                steps.add(thread, "frees a reserved slab", next);
            }
            None => {
                let this = &mut next.threads[thread];
                this.recovery.stage = Stage::Claim;
                this.pc = this.back;
                steps.add(thread, "finds no (more) reserved slabs", next);
            }
        }
    }
}
