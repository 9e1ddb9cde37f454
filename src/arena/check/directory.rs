//! The directory: each list of roots, each entry, each value.

use super::{Found, Kind};
use crate::{
    arena::directory::{Entry, bucket_of},
    layout::{BUCKETS, Header},
    mapping::Mapping,
    walk::{Plan, Purpose, Walk},
};
use std::{collections::HashSet, fmt, mem::offset_of, sync::atomic::Ordering::*};

/// Walks over all roots, and keeps a plan of each.
pub(super) fn walk_roots<'m>(
    mapping: &'m Mapping,
    walk: &mut Walk<'m, Found<'_>>,
    plans: &mut Vec<Plan>,
) {
    let mut roots = Roots {
        mapping,
        walk,
        plans,
        names: HashSet::new(),
        numbers: HashSet::new(),
    };
    for bucket in 0..BUCKETS {
        roots.list(bucket);
    }
    let orphans = mapping.header().orphans.load(Acquire);
    if orphans > 1 || (orphans == 0 && roots.walk.visitor.report.removed > 0) {
        let removed = roots.walk.visitor.report.removed;
        roots.walk.visitor.report.wrong(
            Kind::Header,
            offset_of!(Header, orphans) as u64,
            format_args!("expected a note that {removed} removed roots wait, found {orphans}"),
        );
    }
}

struct Roots<'c, 'm, 'r> {
    mapping: &'m Mapping,
    walk: &'c mut Walk<'m, Found<'r>>,
    plans: &'c mut Vec<Plan>,
    names: HashSet<Vec<u8>>,
    numbers: HashSet<u64>,
}

impl Roots<'_, '_, '_> {
    fn wrong(&mut self, at: u64, what: fmt::Arguments<'_>) {
        let report = &mut *self.walk.visitor.report;
        report.wrong(Kind::Directory, at, what);
    }

    /// A list of roots. Ends where it comes to an entry that it had before.
    fn list(&mut self, bucket: usize) {
        let mut from = (offset_of!(Header, buckets) + bucket * 8) as u64;
        let mut next = self.mapping.header().buckets[bucket].load(Acquire);
        while next != 0 {
            let Some(entry) = Entry::at(self.mapping, next) else {
                self.wrong(
                    from,
                    format_args!("expected the offset of a root's entry, found {next:#x}"),
                );
                return;
            };
            // An entry is a block that is reached once, so this ends.
            if self.walk.reach(from, next, Some(entry.size())).is_none() {
                return;
            }
            self.entry(&entry, bucket);
            from = next;
            next = entry.next();
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, bucket: usize) {
        let at = entry.offset;
        if entry.is_linked() {
            self.walk.visitor.report.roots += 1;
        } else {
            self.walk.visitor.report.removed += 1;
        }
        if !entry.has_state() {
            self.wrong(
                at,
                format_args!("expected a root with a name or without, found neither"),
            );
        }
        self.name(entry, bucket);
        let slots = self.mapping.geometry().slots as u64;
        if entry.users() != slots {
            let users = entry.users();
            self.wrong(
                at,
                format_args!("expected room for the handles of {slots} processes, found {users}"),
            );
        }
        let next_root = self.mapping.header().next_root.load(Acquire);
        let number = entry.number();
        if number >= next_root || !self.numbers.insert(number) {
            self.wrong(
                at,
                format_args!(
                    "expected a number of its own below {next_root} for a root, found {number}"
                ),
            );
        }
        self.value(entry);
    }

    fn name(&mut self, entry: &Entry<'_>, bucket: usize) {
        let (at, name) = (entry.offset, entry.name());
        if name.is_empty() || std::str::from_utf8(name).is_err() {
            self.wrong(
                at,
                format_args!("expected the name of a root, found {name:02x?}"),
            );
        }
        if bucket_of(name) != bucket {
            self.wrong(
                at,
                format_args!(
                    "expected the root {:?} in list {}, found it in list {bucket}",
                    String::from_utf8_lossy(name),
                    bucket_of(name)
                ),
            );
        }
        if entry.is_linked() && !self.names.insert(name.to_owned()) {
            self.wrong(
                at,
                format_args!(
                    "expected one root named {:?}, found another",
                    String::from_utf8_lossy(name)
                ),
            );
        }
    }

    /// The root's type, then its value with all that it owns.
    fn value(&mut self, entry: &Entry<'_>) {
        let at = entry.offset;
        let len = entry.schema_bytes().map(|bytes| bytes.len() as u64);
        let reached = self.walk.reach(at, entry.schema_block(), len);
        let size = entry.value_size();
        let value = self.walk.reach(at, entry.value(), Some(size));
        if reached.is_none() || value.is_none() {
            return;
        }
        let schema = match entry.schema() {
            Ok(schema) => schema,
            Err(why) => {
                let name = String::from_utf8_lossy(entry.name());
                self.walk.visitor.report.wrong(
                    Kind::Schema,
                    at,
                    format_args!("expected the type of the root {name:?}, found that {why}"),
                );
                return;
            }
        };
        self.walk.visitor.plan = self.plans.len();
        self.plans.push(Plan::new(&schema, Purpose::Everything));
        let plan = self.plans.last().expect("pushed just now");
        self.walk.value(plan, 0, entry.value());
    }
}
