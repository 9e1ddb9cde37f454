//! Sections in one another, and guards that outlive them (S1, S2); `section::{held, end}`.
//!
//! Two locks, a word under each. What a thread does is not fixed: it opens scopes and closes them,
//! takes locks and drops guards, and writes, in whatever order the types allow, a few times. All
//! that it wrote from the first lock to the end of the outermost scope and of the last guard is one
//! unit: whenever a lock is free, its word is as the last whole unit left it.
//!
//! Left out: frees (see `section`), poison, panics.

use crate::{
    all,
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Look, Outcome, Recovery, Slot, Stage, Tag, claim, is_held, look, tag_of},
};

const SLOTS: usize = 4;
const LOCKS: usize = 2;
const THREADS: usize = 2;
/// Scopes in one another.
const DEEPEST: u8 = 2;

struct Config {
    /// What each thread may do, besides dropping its guards and closing its scopes.
    actions: [u8; THREADS],
    /// And one that comes back.
    respawned: u8,
    kills: u8,
    /// Whether locks may lie in what others protect: then they are freed where they are by now, all
    /// at once, by the slot's next generation (J4).
    enclosed: bool,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Journal {
    log: u8,
    /// Words, and their old values.
    entries: [(u8, u8); LOCKS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    /// Whatever the user wants.
    User,
    LookAtLock,
    TakeLock,
    Record,
    Write,
    /// `end_unit`, or a guard that goes.
    Commit,
    Release,
    Reap,
    Undo,
    TakeOff,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    slot: u8,
    tag: Tag,
    actions: u8,
    /// `Ctx::scopes`, `Ctx::plural`.
    scopes: u8,
    plural: bool,
    /// Locks that have a guard, and those that are held without one: a bit each.
    guarded: u8,
    retained: u8,
    /// Those to be released now.
    releases: u8,
    /// Words that the unit wrote.
    wrote: u8,
    /// The lock at hand.
    lock: u8,
    read: Tag,
    tried: u8,
    back: Pc,
    recovery: Recovery,
}

impl Thread {
    fn held(&self) -> u8 {
        self.guarded | self.retained
    }

    /// Whether the user's unit goes on.
    fn in_unit(&self) -> bool {
        self.scopes != 0 || self.guarded != 0
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    journals: [Journal; SLOTS],
    locks: [Tag; LOCKS],
    words: [u8; LOCKS],
    /// What whole units left there.
    expected: [u8; LOCKS],
    threads: [Thread; THREADS],
    kills: u8,
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if now.recovery.runs() && !now.recovery.acts() {
            return self.recover(state, thread, steps);
        }
        match now.pc {
            Pc::Done => {}
            Pc::Attach | Pc::Link | Pc::Reap => self.live(state, thread, steps),
            Pc::User => self.use_it(state, thread, steps),
            Pc::LookAtLock => self.look_at_lock(state, thread, steps),
            Pc::Undo | Pc::TakeOff => self.roll_back(state, thread, steps),
            _ => self.act(state, thread, steps),
        }
    }

    fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::Attach) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        if now.pc != Pc::Link {
            next.slots[now.slot as usize].life = Life::Dead;
        }
        next.threads[thread] = Thread {
            pc: Pc::Attach,
            incarnation: now.incarnation + 1,
            actions: self.respawned,
            ..Thread::default()
        };
        steps.add(thread, "IS KILLED", next);
    }

    /// Attaching, behind which others are recovered if this is not the first thread here.
    fn live(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Attach => {
                let free = (0..SLOTS).find(|&slot| state.slots[slot].is_free(self.mutant));
                let Some(free) = free else {
                    this.pc = Pc::Done;
                    return steps.add(thread, "finds no slot, and gives up", next);
                };
                (this.slot, this.pc) = (free as u8, Pc::Link);
                let mine = Claim::of(thread, now.incarnation);
                claim(&mut next.slots, free, mine, self.mutant);
                "claims a slot"
            }
            Pc::Link => {
                next.slots[now.slot as usize].life = Life::Alive;
                this.tag = tag_of(&next.slots, now.slot as usize);
                this.pc = if now.incarnation == 0 {
                    Pc::User
                } else {
                    Pc::Reap
                };
                "links its life word"
            }
            _ => {
                let dead = |slot: &usize| {
                    now.tried & 1 << slot == 0 && state.slots[*slot].life == Life::Dead
                };
                if let Some(dead) = (0..SLOTS).find(dead) {
                    this.tried |= 1 << dead;
                    (this.recovery, this.back) = (Recovery::begin(dead, true), Pc::Reap);
                    return self.recover(&next, thread, steps);
                }
                (this.tried, this.pc) = (0, Pc::User);
                "has reaped"
            }
        };
        steps.add(thread, name, next);
    }

    /// Whatever can be done next with scopes, guards and values.
    fn use_it(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if now.actions > 0 {
            self.go_on(state, thread, steps);
        }
        if now.scopes > 0 {
            let mut next = state.clone();
            self.close_scope(&mut next, thread);
            steps.add(thread, "closes a scope", next);
        }
        for lock in (0..LOCKS).filter(|lock| now.guarded & 1 << lock != 0) {
            let mut next = state.clone();
            self.drop_guard(&mut next, thread, lock);
            steps.add(thread, "drops a guard", next);
        }
        if !now.in_unit() {
            let mut next = state.clone();
            let stored = &mut next.slots[now.slot as usize];
            stored.generation += 1;
            (stored.life, stored.claim) = (Life::Nobody, Claim::NONE);
            next.threads[thread] = Thread {
                incarnation: now.incarnation,
                ..Thread::default()
            };
            steps.add(thread, "detaches", next);
        }
    }

    fn go_on(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        // `may_lock`: a second lock, or a scope, beside a guard that is in none, is an error.
        let alone = now.guarded == 0 || self.is(Mutant::LocksBesideGuard);
        let mut act = |name, change: &dyn Fn(&mut Thread)| {
            let mut next = state.clone();
            next.threads[thread].actions -= 1;
            change(&mut next.threads[thread]);
            steps.add(thread, name, next);
        };
        if now.scopes > 0 && now.scopes < DEEPEST || now.scopes == 0 && now.guarded == 0 {
            act("opens a scope", &|this| {
                (this.scopes, this.plural) = (now.scopes + 1, true);
            });
        }
        for lock in 0..LOCKS as u8 {
            let guarded = now.guarded & 1 << lock != 0;
            if !guarded && (now.scopes > 0 || alone) {
                act("wants a lock", &|this| {
                    (this.lock, this.pc) = (lock, Pc::LookAtLock);
                });
            }
            if guarded && now.wrote & 1 << lock == 0 {
                act("wants to write", &|this| {
                    (this.lock, this.pc) = (lock, Pc::Record);
                });
            }
        }
    }

    /// `close_scope`.
    fn close_scope(&self, state: &mut State, thread: usize) {
        let slot = state.threads[thread].slot as usize;
        let this = &mut state.threads[thread];
        this.scopes -= 1;
        if this.scopes != 0 {
            if self.is(Mutant::InnerEndReleases) {
                (this.releases, this.retained) = (this.retained, 0);
                this.pc = if this.releases == 0 {
                    Pc::User
                } else {
                    Pc::Release
                };
            }
            if self.is(Mutant::InnerEndCommits) {
                state.journals[slot] = Journal::default();
            }
            return;
        }
        if this.guarded == 0 || self.is(Mutant::ScopeEndsUnit) {
            self.end_unit(this);
        }
    }

    /// `guard_dropped`: the guard of a unit's only lock ends it; otherwise the lock is retained.
    fn drop_guard(&self, state: &mut State, thread: usize, lock: usize) {
        let this = &mut state.threads[thread];
        this.guarded &= !(1 << lock);
        if !this.plural {
            (this.releases, this.pc) = (1 << lock, Pc::Commit);
            if self.is(Mutant::ReleaseFirst) {
                this.pc = Pc::Release;
            }
            return;
        }
        if self.is(Mutant::ReleaseEarly) {
            (this.releases, this.pc) = (1 << lock, Pc::Release);
            return;
        }
        this.retained |= 1 << lock;
        let last = this.guarded == 0;
        if last && (this.scopes == 0 || self.is(Mutant::GuardEndsUnit)) {
            self.end_unit(this);
        }
    }

    /// `end_unit`: commits, then releases every lock.
    fn end_unit(&self, this: &mut Thread) {
        (this.releases, this.pc) = (this.held(), Pc::Commit);
        if self.is(Mutant::ReleaseFirst) && this.releases != 0 {
            this.pc = Pc::Release;
        }
        this.retained = 0;
    }

    fn look_at_lock(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let word = state.locks[now.lock as usize];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        match look(&state.slots, word, now.tag) {
            Look::Free => {
                (this.read, this.pc) = (word, Pc::TakeLock);
                steps.add(thread, "finds the lock free", next);
            }
            Look::Mine if now.retained & 1 << now.lock != 0 => {
                this.retained &= !(1 << now.lock);
                this.guarded |= 1 << now.lock;
                this.pc = Pc::User;
                steps.add(thread, "has a guard of the lock again", next);
            }
            Look::Mine => {
                let broken = Some("a lock names a thread that does not hold it");
                steps.judge(thread, "finds its own name in the lock", next, broken);
            }
            Look::Dead(holder) => {
                (this.recovery, this.back) = (Recovery::begin(holder, false), Pc::LookAtLock);
                self.recover(&next, thread, steps);
            }
            Look::Held => {
                let other = &state.threads[1 - thread];
                let waits = other.pc == Pc::LookAtLock && now.held() & 1 << other.lock != 0;
                if waits {
                    this.pc = Pc::User;
                    steps.add(thread, "is told of a deadlock", next);
                }
            }
        }
    }

    fn act(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let (slot, lock) = (now.slot as usize, now.lock as usize);
        let release_first = self.is(Mutant::ReleaseFirst);
        let mut next = state.clone();
        let journal = &mut next.journals[slot];
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::TakeLock => {
                this.read = Tag::NOBODY;
                this.pc = Pc::LookAtLock;
                if state.locks[lock] == now.read {
                    (this.guarded, this.pc) = (now.guarded | 1 << lock, Pc::User);
                    next.locks[lock] = now.tag;
                }
                "takes the lock"
            }
            Pc::Record => {
                journal.entries[journal.log as usize] = (lock as u8, state.words[lock]);
                journal.log += 1;
                this.pc = Pc::Write;
                "records the word"
            }
            Pc::Write => {
                next.words[lock] ^= 1;
                (this.wrote, this.pc) = (now.wrote | 1 << lock, Pc::User);
                "writes"
            }
            Pc::Commit => {
                *journal = Journal::default();
                if !now.in_unit() {
                    next.expected = state.words;
                    for other in 0..LOCKS {
                        if now.wrote & 1 << other == 0 {
                            next.expected[other] = state.expected[other];
                        }
                    }
                    this.wrote = 0;
                }
                this.pc = Pc::Release;
                if now.releases == 0 || release_first {
                    self.leave_unit(&mut next, thread);
                }
                "commits"
            }
            _ => {
                if self.enclosed && now.releases.count_ones() > 1 {
                    next.slots[slot].generation += 1;
                    this.tag = tag_of(&next.slots, slot);
                    this.releases = 0;
                } else {
                    let last = now.releases.ilog2();
                    this.releases &= !(1 << last);
                    next.locks[last as usize] = Tag::NOBODY;
                }
                let early = self.is(Mutant::ReleaseEarly) || self.is(Mutant::InnerEndReleases);
                if next.threads[thread].releases == 0 {
                    match () {
                        _ if release_first => next.threads[thread].pc = Pc::Commit,
                        _ if early && now.in_unit() => next.threads[thread].pc = Pc::User,
                        _ => self.leave_unit(&mut next, thread),
                    }
                }
                "releases"
            }
        };
        steps.add(thread, name, next);
    }

    fn leave_unit(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        (this.pc, this.releases, this.lock) = (Pc::User, 0, 0);
        this.plural = this.scopes != 0;
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let by = state.threads[thread].tag;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        if this.recovery.stage == Stage::Rest {
            this.recovery.stage = Stage::Claim;
            return self.recover(&next, thread, steps);
        }
        match this.recovery.step(&mut next.slots, by, self.mutant) {
            Outcome::Blocked => {}
            Outcome::Went(name) => {
                if this.recovery.stage == Stage::Journal {
                    this.pc = Pc::Undo;
                }
                steps.add(thread, name, next);
            }
            Outcome::Over(name) => {
                this.pc = std::mem::take(&mut this.back);
                steps.add(thread, name, next);
            }
        }
    }

    fn roll_back(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let dead = state.threads[thread].recovery.dead as usize;
        let mut next = state.clone();
        let journal = &mut next.journals[dead];
        let this = &mut next.threads[thread];
        let name = match (state.threads[thread].pc, journal.log) {
            (Pc::Undo, 0) => {
                this.pc = Pc::User;
                this.recovery.stage = Stage::Generation;
                return self.recover(&next, thread, steps);
            }
            (Pc::Undo, log) => {
                let (word, old) = journal.entries[log as usize - 1];
                next.words[word as usize] = old;
                this.pc = Pc::TakeOff;
                "undoes an entry"
            }
            _ => {
                journal.log -= 1;
                journal.entries[journal.log as usize] = (0, 0);
                this.pc = Pc::Undo;
                "takes the entry off the log"
            }
        };
        steps.add(thread, name, next);
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        State {
            slots: Default::default(),
            journals: Default::default(),
            locks: Default::default(),
            words: Default::default(),
            expected: Default::default(),
            threads: self.actions.map(|actions| Thread {
                pc: Pc::Attach,
                actions,
                ..Thread::default()
            }),
            kills: self.kills,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for thread in 0..THREADS {
            self.step(state, thread, steps);
            self.kill(state, thread, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for lock in 0..LOCKS {
            let free = !is_held(&state.slots, state.locks[lock]);
            if free && state.words[lock] != state.expected[lock] {
                return Err(format!(
                    "lock {lock} is free, and a unit took place by half"
                ));
            }
            for thread in &state.threads {
                if thread.held() & 1 << lock != 0 && state.locks[lock] != thread.tag {
                    return Err("a lock is taken from a thread that holds it".into());
                }
            }
        }
        for thread in &state.threads {
            let idle = thread.pc == Pc::User && !thread.in_unit();
            if idle && state.locks.contains(&thread.tag) {
                return Err("a lock is held by a thread that has no section".into());
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        Ok(())
    }
}

fn scopes() -> Config {
    Config {
        actions: [6, 2],
        respawned: 0,
        kills: 1,
        enclosed: false,
        mutant: None,
    }
}

#[test]
fn sections_in_one_another() {
    prove("nested", &scopes());
    let enclosed = Config {
        enclosed: true,
        ..scopes()
    };
    prove("nested, locks in values", &enclosed);
}

#[test]
fn killed_twice() {
    let both = Config {
        actions: [3, 2],
        kills: 2,
        ..scopes()
    };
    prove("nested, two kills", &both);
}

#[test]
fn larger_sizes() {
    if all() {
        let more = Config {
            actions: [6, 3],
            respawned: 2,
            kills: 2,
            ..scopes()
        };
        prove("nested, more", &more);
    }
}

#[test]
fn mutants_of_nesting() {
    for mutant in [
        Mutant::InnerEndReleases,
        Mutant::InnerEndCommits,
        Mutant::ScopeEndsUnit,
        Mutant::GuardEndsUnit,
        Mutant::LocksBesideGuard,
        Mutant::ReleaseEarly,
        Mutant::ReleaseFirst,
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..scopes()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
}
