//! Linked lists: following relative pointers.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, per_operation},
    settings::Settings,
    table::Report,
};
use sharena::{Arena, RelPtr, Share};
use std::{alloc::Layout, ptr};

/// Both ways to the next node: so both are followed over the same memory.
#[derive(Share)]
#[repr(C)]
struct Node {
    relative: Option<RelPtr<Node>>,
    /// An address of this process's mapping, or 0.
    address: u64,
    value: u64,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let names = ["list in order of memory", "list in random order"];
    if !settings.wants(&names) {
        return;
    }
    let count = settings.scaled(1_000_000);
    report.title(&format!("list: {count} nodes, following pointers"));
    let arena = &arena();
    let in_memory: Vec<u32> = (0..count as u32).collect();
    let at_random = Random(9).order(count);
    for (name, order) in names.into_iter().zip([in_memory, at_random]) {
        let first = build(arena, &order);
        let row = Row::new(name, &[Bar::Times("raw pointers", 1.05)]);
        let mut contest = Contest::new(settings, vec![row]);
        contest.entrant(OURS, || {
            vec![per_operation(count, || relative_sum(arena, first))]
        });
        contest.entrant("raw pointers", || {
            let first = first.resolve(arena).expect("just made");
            vec![per_operation(count, || raw_sum(first))]
        });
        contest.run(report);
    }
}

/// Makes nodes that lie one behind the other, and links them in that order.
fn build(arena: &Arena, order: &[u32]) -> RelPtr<Node> {
    let nodes: Vec<RelPtr<Node>> = order
        .iter()
        .map(|_| {
            let block = arena.alloc(Layout::new::<Node>()).expect("there is room");
            block.into_raw().expect("the journal has room").cast()
        })
        .collect();
    let mut next: Option<RelPtr<Node>> = None;
    for (value, &index) in order.iter().enumerate().rev() {
        let this = nodes[index as usize];
        let place = this.resolve(arena).expect("just made");
        let node = Node {
            relative: next,
            address: next.map_or(0, |next| {
                next.resolve(arena).expect("just made").addr() as u64
            }),
            value: value as u64,
        };
        // SAFETY: a block of this size, which nobody else knows yet.
        unsafe { place.write(node) };
        next = Some(this);
    }
    next.expect("lists are not empty")
}

fn relative_sum(arena: &Arena, first: RelPtr<Node>) -> u64 {
    let mut sum = 0;
    let mut next = Some(first);
    while let Some(pointer) = next {
        let node = pointer.resolve(arena).expect("leads into the arena");
        // SAFETY: `build` put a node there, and nobody changes it.
        let node = unsafe { &*node };
        sum += node.value;
        next = node.relative;
    }
    sum
}

fn raw_sum(first: *const Node) -> u64 {
    let mut sum = 0;
    let mut next = first;
    while !next.is_null() {
        // SAFETY: as in `relative_sum`.
        let node = unsafe { &*next };
        sum += node.value;
        next = ptr::with_exposed_provenance(node.address as usize);
    }
    sum
}
