//! Random operations on a vector of strings, or of vectors, done to `std`'s in the same way.

use proptest::prelude::*;
use sharena::{
    Result,
    collections::{String as AString, Vec as AVec},
    share::{Share, Store},
};

/// What the elements of the tested vectors are.
pub(crate) trait Element:
    Share + PartialEq<Self::Std> + std::fmt::Debug + Sync + Default
{
    type Std: Clone + Ord + std::fmt::Debug;
    fn make(seed: u32) -> Self::Std;
    fn source(value: &Self::Std) -> impl Store<Self> + '_;
    fn read(&self) -> Self::Std;
    /// Changes both in the same way.
    fn change(&mut self, std: &mut Self::Std, seed: u32) -> Result;
    fn sort(v: &mut AVec<Self>);
}

impl Element for u64 {
    type Std = u64;
    fn make(seed: u32) -> u64 {
        u64::from(seed) * 0x9e37_79b9
    }
    fn source(value: &u64) -> impl Store<u64> + '_ {
        *value
    }
    fn read(&self) -> u64 {
        *self
    }
    fn change(&mut self, std: &mut u64, seed: u32) -> Result {
        *self += u64::from(seed);
        *std += u64::from(seed);
        Ok(())
    }
    fn sort(v: &mut AVec<u64>) {
        v.sort();
    }
}

impl Element for AString {
    type Std = String;
    fn make(seed: u32) -> String {
        "äbcdefgh-".repeat(seed as usize % 40) + &seed.to_string()
    }
    fn source(value: &String) -> impl Store<AString> + '_ {
        value.as_str()
    }
    fn read(&self) -> String {
        self.as_str().to_owned()
    }
    fn change(&mut self, std: &mut String, seed: u32) -> Result {
        match seed % 7 {
            0 => {
                self.push_str("more and more")?;
                std.push_str("more and more");
            }
            1 => assert_eq!(self.pop(), std.pop()),
            2 => {
                self.clear();
                std.clear();
            }
            3 => {
                self.insert_str(0, "é")?;
                std.insert(0, 'é');
            }
            4 => {
                let text = Self::make(seed / 7);
                self.assign(&text)?;
                *std = text;
            }
            5 => {
                self.retain(|c| c != 'd');
                std.retain(|c| c != 'd');
            }
            _ => {
                self.make_ascii_uppercase();
                std.make_ascii_uppercase();
            }
        }
        Ok(())
    }
    fn sort(v: &mut AVec<AString>) {
        v.sort();
    }
}

impl Element for AVec<u64> {
    type Std = Vec<u64>;
    fn make(seed: u32) -> Vec<u64> {
        (0..u64::from(seed % 50)).collect()
    }
    fn source(value: &Vec<u64>) -> impl Store<AVec<u64>> + '_ {
        &value[..]
    }
    fn read(&self) -> Vec<u64> {
        self.to_vec()
    }
    fn change(&mut self, std: &mut Vec<u64>, seed: u32) -> Result {
        apply(&Op::from_seed(seed), self, std)
    }
    fn sort(v: &mut AVec<AVec<u64>>) {
        v.sort();
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Push(u32),
    Pop,
    PopBack,
    Insert(u32, u32),
    Remove(u32),
    SwapRemove(u32),
    Rotate(u32),
    Forget(u32),
    Take(u32),
    Truncate(u32),
    Clear,
    Extend(u32, u32),
    Drain(u32, u32, u32),
    Retain(u32),
    Change(u32, u32),
    ChangeAll(u32),
    ChangeSome(u32, u32),
    Swap(u32, u32),
    Sort,
    Dedup,
    Append(u32),
    Split(u32),
    Move,
    Reserve(u32),
    Shrink,
}

impl Op {
    fn from_seed(seed: u32) -> Op {
        let (a, b) = (seed / 25, seed / 7);
        match seed % 25 {
            0 | 1 => Op::Push(a),
            2 => Op::Pop,
            3 => Op::PopBack,
            4 => Op::Insert(a, b),
            5 => Op::Remove(a),
            6 => Op::SwapRemove(a),
            7 => Op::Rotate(a),
            8 => Op::Forget(a),
            9 => Op::Take(a),
            10 => Op::Truncate(a),
            11 if b % 3 == 0 => Op::Clear,
            11 | 12 => Op::Extend(a % 60, b),
            13 => Op::Drain(a, b, seed / 3),
            14 => Op::Retain(a),
            15 => Op::Change(a, b),
            16 => Op::ChangeAll(a),
            17 => Op::ChangeSome(a, b),
            18 => Op::Swap(a, b),
            19 => Op::Sort,
            20 => Op::Dedup,
            21 => Op::Append(a % 30),
            22 => Op::Split(a),
            23 if b % 2 == 0 => Op::Move,
            23 => Op::Shrink,
            _ => Op::Reserve(a % 300),
        }
    }
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    any::<u32>().prop_map(Op::from_seed)
}

pub(crate) fn contents<E: Element>(v: &AVec<E>) -> Vec<E::Std> {
    v.iter().map(E::read).collect()
}

/// Does the operation to both. `std` is the expected outcome if there is no error.
pub(crate) fn apply<E: Element>(op: &Op, v: &mut AVec<E>, std: &mut Vec<E::Std>) -> Result {
    let len = std.len();
    let at = |n: u32| n as usize % len.max(1);
    match *op {
        Op::Push(seed) => {
            let value = E::make(seed);
            v.push_from(E::source(&value))?;
            std.push(value);
        }
        Op::Pop => {
            let popped = v.pop().map(|guard| guard.read());
            assert_eq!(popped, std.pop());
        }
        Op::PopBack if len > 0 => {
            // Out and in again.
            let value = v.pop().unwrap().take();
            v.push(value)?;
        }
        Op::Insert(index, seed) => {
            let (index, value) = (index as usize % (len + 1), E::make(seed));
            v.insert(index, E::source(&value))?;
            std.insert(index, value);
        }
        Op::Remove(index) if len > 0 => {
            assert_eq!(v.remove(at(index)).read(), std.remove(at(index)));
        }
        Op::SwapRemove(index) if len > 0 => {
            assert_eq!(v.swap_remove(at(index)).read(), std.swap_remove(at(index)));
        }
        Op::Rotate(mid) if len > 0 => {
            v.rotate_left(at(mid));
            std.rotate_left(at(mid));
        }
        Op::Forget(index) if len > 0 => {
            std::mem::forget(v.remove(at(index)));
            std::mem::forget(v.drain(at(index)..));
            let mut iter = v.iter_mut();
            iter.next();
            std::mem::forget(iter);
        }
        Op::Take(index) if len > 0 => {
            let value = v.remove(at(index)).take();
            let moved = std::mem::take(v);
            assert_eq!((moved.len(), v.len()), (len - 1, 0));
            *v = moved;
            v.insert(at(index), value)?;
        }
        Op::Truncate(to) => {
            let to = to as usize % (len + 3);
            v.truncate(to);
            std.truncate(to);
        }
        Op::Clear => {
            v.clear();
            std.clear();
        }
        Op::Extend(count, seed) => {
            let values: Vec<_> = (0..count).map(|i| E::make((seed ^ i) % 10_000)).collect();
            v.try_extend(values.iter().map(|value| E::source(value)))?;
            std.extend(values);
        }
        Op::Drain(from, to, how) => {
            let (from, to) = (from as usize % (len + 1), to as usize % (len + 1));
            let range = from.min(to)..from.max(to);
            let some = how as usize % 5;
            let expected: Vec<_> = std.drain(range.clone()).take(some).collect();
            let mut drain = v.drain(range);
            let mut items: Vec<_> = drain.by_ref().take(some).collect();
            if how % 2 == 0 {
                // Items that outlive the iterator, dropped in another order.
                drop(drain);
                let by = (how as usize / 2) % items.len().max(1);
                items.rotate_left(by);
                let found: Vec<_> = items.iter().map(|item| item.read()).collect();
                let mut sorted = (found, expected);
                sorted.0.sort();
                sorted.1.sort();
                assert_eq!(sorted.0, sorted.1);
            } else {
                let found: Vec<_> = items.iter().map(|item| item.read()).collect();
                assert_eq!(found, expected);
            }
        }
        Op::Retain(seed) => {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 30 != 0
            };
            let keep: Vec<bool> = (0..len).map(|_| next()).collect();
            let (mut a, mut b) = (keep.iter(), keep.iter());
            v.retain(|_| *a.next().unwrap());
            std.retain(|_| *b.next().unwrap());
        }
        Op::Change(index, seed) if len > 0 => v[at(index)].change(&mut std[at(index)], seed)?,
        Op::ChangeAll(seed) => {
            for (mine, theirs) in v.iter_mut().zip(&mut *std) {
                mine.change(theirs, seed)?;
            }
        }
        Op::ChangeSome(from, seed) if len > 0 => {
            let from = at(from);
            let mine = v.get_mut(from..).unwrap();
            for (mine, theirs) in mine.iter_mut().zip(&mut std[from..]) {
                mine.change(theirs, seed)?;
            }
            for (mine, theirs) in v.iter_mut().zip(&mut *std).rev().skip(from).step_by(2) {
                mine.change(theirs, seed)?;
            }
        }
        Op::Swap(a, b) if len > 0 => {
            v.swap(at(a), at(b));
            std.swap(at(a), at(b));
        }
        Op::Sort => {
            E::sort(v);
            std.sort();
        }
        Op::Dedup => {
            v.dedup_by(|a, b| a.read() == b.read());
            std.dedup();
        }
        Op::Append(count) => {
            let rest = v.split_off(len - (count as usize).min(len))?;
            v.push(E::default())?;
            v.pop();
            append_back(v, rest)?;
        }
        Op::Split(at) => {
            let rest = v.split_off(at as usize % (len + 1))?;
            append_back(v, rest)?;
        }
        Op::Move => {
            let moved = std::mem::take(v);
            v.push(E::default())?;
            v.clear();
            *v = moved;
        }
        Op::Reserve(count) => {
            v.reserve(count as usize)?;
            assert!(v.capacity() >= len + count as usize);
        }
        Op::Shrink => v.shrink_to_fit()?,
        _ => {}
    }
    Ok(())
}

/// Puts the end of a vector back, which is on the stack: it has to lie in the arena for that.
fn append_back<E: Element>(v: &mut AVec<E>, mut rest: AVec<E>) -> Result {
    let mut head = std::mem::replace(v, std::mem::take(&mut rest));
    // `v` is the end now; what comes before is inserted at its begin, element by element.
    let count = head.len();
    let mut elements = Vec::new();
    std::mem::swap(v, &mut head);
    while !v.is_empty() {
        elements.push(v.pop().unwrap().take());
    }
    std::mem::swap(v, &mut head);
    assert_eq!(elements.len(), count);
    for element in elements {
        v.insert(0, element)?;
    }
    drop(head);
    Ok(())
}
