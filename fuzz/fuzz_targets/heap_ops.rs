//! The heap against a map of live blocks: alignment, overlap, contents, conservation.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sharena::{Arena, Error, RelPtr, Reserved, Share, sync::Mutex};
use std::{alloc::Layout, collections::BTreeMap};

#[derive(Arbitrary, Debug)]
enum Op {
    Alloc { size: u16, scale: u8, align: u8 },
    Free { which: u16 },
    Reserve { size: u16 },
    DropReserved,
    Link { place: u8 },
    FreeElsewhere { which: u16 },
    DoubleFree { which: u16 },
    Foreign { offset: u64 },
    Undo { blocks: u8 },
    Commit,
}

#[derive(Arbitrary, Debug)]
struct Input {
    megabytes: u8,
    ops: Vec<Op>,
}

#[derive(Share, Default)]
#[repr(C)]
struct Places {
    places: [Option<RelPtr<u64>>; 8],
}

struct State {
    arena: Arena,
    live: BTreeMap<u64, (usize, u8)>,
    reserved: Vec<Reserved<u8>>,
    byte: u8,
}

impl State {
    fn pointer(offset: u64) -> RelPtr<u8> {
        RelPtr::from_offset(offset).expect("no block lies at 0")
    }

    fn take(&mut self, layout: Layout) {
        let block = match self.arena.alloc(layout) {
            Ok(block) => block,
            Err(Error::Full { .. } | Error::Layout { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let Ok(pointer) = block.into_raw() else {
            return;
        };
        let address = pointer.resolve(&self.arena).expect("a block");
        assert_eq!(address.addr() % layout.align(), 0);
        let (offset, size) = (pointer.offset(), layout.size());
        let before = self.live.range(..=offset).next_back();
        assert!(before.is_none_or(|(at, (len, _))| at + *len as u64 <= offset && *at != offset));
        let after = self.live.range(offset..).next();
        assert!(after.is_none_or(|(at, _)| offset + size as u64 <= *at));
        self.byte = self.byte.wrapping_add(1);
        // SAFETY: the block is ours, and `size` bytes long.
        unsafe { address.write_bytes(self.byte, size) };
        self.live.insert(offset, (size, self.byte));
    }

    fn pick(&mut self, which: u16) -> Option<u64> {
        let index = which as usize % self.live.len().max(1);
        let (&offset, &(size, byte)) = self.live.iter().nth(index)?;
        let address = Self::pointer(offset).resolve(&self.arena).expect("a block");
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(address, size) };
        assert!(bytes.iter().all(|found| *found == byte));
        self.live.remove(&offset);
        Some(offset)
    }

    fn check(&self) {
        let report = self.arena.check();
        assert!(report.is_ok(), "{report}");
        let mut unowned: Vec<u64> = report.unowned().iter().map(|one| one.offset).collect();
        unowned.sort_unstable();
        assert!(unowned.iter().eq(self.live.keys()), "{report}");
    }
}

fuzz_target!(|input: Input| {
    let size = 1 << (18 + input.megabytes % 5);
    let arena = Arena::options()
        .max_size(size)
        .slots(4)
        .in_memory()
        .expect("an arena");
    let root = arena.root::<Mutex<Places>>("places").expect("a root");
    let mut state = State {
        arena: arena.clone(),
        live: BTreeMap::new(),
        reserved: Vec::new(),
        byte: 0,
    };
    for op in input.ops.iter().take(200) {
        match *op {
            Op::Alloc { size, scale, align } => {
                let size = (size as usize) << (scale % 4) >> 4;
                if let Ok(layout) = Layout::from_size_align(size, 1 << (align % 14)) {
                    state.take(layout);
                }
            }
            Op::Free { which } => {
                if let Some(offset) = state.pick(which) {
                    // SAFETY: live until now.
                    unsafe { arena.dealloc(State::pointer(offset)) }.expect("it was live");
                }
            }
            Op::Reserve { size } => {
                let layout = Layout::from_size_align(size as usize, 8).expect("a layout");
                state.reserved.extend(arena.alloc(layout));
            }
            Op::DropReserved => drop(state.reserved.pop()),
            Op::Link { place } => {
                let Ok(block) = arena.alloc_value(u64::from(place)) else {
                    continue;
                };
                let mut guard = root.lock().expect("the lock");
                let place = &mut guard.places[place as usize % 8];
                let old = place.take();
                let linked = block.link(place);
                if let Some(old) = old {
                    // SAFETY: linked here only.
                    unsafe { arena.dealloc(old) }.expect("it was linked");
                }
                let _ = linked;
            }
            Op::FreeElsewhere { which } => {
                if let Some(offset) = state.pick(which) {
                    let arena = arena.clone();
                    // SAFETY: live until now.
                    let free = move || unsafe { arena.dealloc(State::pointer(offset)) };
                    match std::thread::spawn(free).join().expect("no panic") {
                        Ok(()) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            Op::DoubleFree { which } => {
                if let Some(offset) = state.pick(which) {
                    // SAFETY: live until now; the second is refused.
                    unsafe {
                        arena.dealloc(State::pointer(offset)).expect("it was live");
                        assert!(arena.dealloc(State::pointer(offset)).is_err());
                    }
                }
            }
            Op::Foreign { offset } => {
                if let Some(pointer) = RelPtr::<u8>::from_offset(offset)
                    && !state.live.contains_key(&offset)
                    && !root
                        .lock()
                        .expect("the lock")
                        .places
                        .iter()
                        .flatten()
                        .any(|p| p.offset() == offset)
                    && arena.check().is_ok()
                {
                    let owned = arena
                        .roots()
                        .expect("roots")
                        .iter()
                        .any(|root| root.offset == offset);
                    // Blocks of the directory can be named by nobody but a liar.
                    if !owned && offset % 8 != 0 {
                        // SAFETY: no block begins at such an offset.
                        assert!(unsafe { arena.dealloc(pointer) }.is_err());
                    }
                }
            }
            Op::Undo { blocks } => {
                let _: sharena::Result = arena.section(|| {
                    for _ in 0..blocks % 8 {
                        let pointer = arena.alloc_value(7u64)?.into_raw()?;
                        // SAFETY: allocated just now.
                        unsafe { arena.dealloc(pointer)? };
                    }
                    Err("enough".into())
                });
            }
            Op::Commit => {
                let mut guard = root.lock().expect("the lock");
                guard.places[0] = guard.places[0].take();
                guard.commit().expect("the only guard");
            }
        }
    }
    drop(state.reserved.split_off(0));
    state.check();
});
