//! Boost.Interprocess, where it is installed: see `boost.cpp`.

#[cfg(boost)]
pub(crate) use present::*;

/// What bars call the one of the system, and a newer one beside it.
pub(crate) const BOOST: &str = "Boost";
pub(crate) const NEWER: &str = "Boost newer";

#[cfg(boost)]
mod present {
    use super::BOOST;
    #[cfg(boost_newer)]
    use super::NEWER;
    use crate::rivals::{
        folder,
        heaps::Heap,
        maps::{Map, Text},
        name,
    };
    use std::{
        ffi::{CString, c_char, c_void},
        marker::PhantomData,
        path::PathBuf,
    };

    type Raw = *mut c_void;

    /// As in `boost.cpp`.
    #[repr(C)]
    struct Functions {
        version: u32,
        map_is_flat: bool,
        create: unsafe extern "C" fn(path: *const c_char, size: usize) -> Raw,
        open: unsafe extern "C" fn(path: *const c_char) -> Raw,
        close: unsafe extern "C" fn(segment: Raw),
        alloc: unsafe extern "C" fn(segment: Raw, size: usize) -> Raw,
        free: unsafe extern "C" fn(segment: Raw, block: Raw),
        handle: unsafe extern "C" fn(segment: Raw, block: Raw) -> u64,
        address: unsafe extern "C" fn(segment: Raw, handle: u64) -> Raw,
        name_number: unsafe extern "C" fn(segment: Raw, name: *const c_char),
        find_number: unsafe extern "C" fn(segment: Raw, name: *const c_char) -> u64,
        numbers: MapFunctions,
        texts: MapFunctions,
    }

    #[repr(C)]
    struct MapFunctions {
        make: unsafe extern "C" fn(segment: Raw) -> Raw,
        drop: unsafe extern "C" fn(segment: Raw, map: Raw),
        insert: unsafe extern "C" fn(segment: Raw, map: Raw, keys: *const c_void, count: usize),
        find:
            unsafe extern "C" fn(segment: Raw, map: Raw, keys: *const c_void, count: usize) -> u64,
        remove: unsafe extern "C" fn(segment: Raw, map: Raw, keys: *const c_void, count: usize),
        sum: unsafe extern "C" fn(map: Raw) -> u64,
    }

    unsafe extern "C" {
        safe fn boost_functions() -> &'static Functions;
        #[cfg(boost_newer)]
        safe fn boost_newer_functions() -> &'static Functions;
    }

    /// One of the versions that were found.
    #[derive(Clone, Copy)]
    pub(crate) struct Boost {
        /// What it is called in tables.
        pub(crate) name: &'static str,
        functions: &'static Functions,
    }

    /// All that were found.
    pub(crate) fn all() -> Vec<Boost> {
        vec![
            Boost {
                name: BOOST,
                functions: boost_functions(),
            },
            #[cfg(boost_newer)]
            Boost {
                name: NEWER,
                functions: boost_newer_functions(),
            },
        ]
    }

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Boost> {
        all().into_iter().find(|boost| boost.name == name)
    }

    impl Boost {
        /// Which one it is, and which of its maps.
        pub(crate) fn description(self) -> String {
            let Functions {
                version,
                map_is_flat,
                ..
            } = *self.functions;
            let (major, minor) = (version / 100_000, version / 100 % 1000);
            let map = match map_is_flat {
                true => "unordered_flat_map",
                false => {
                    "unordered_map (the flat one can live behind offset pointers from 1.84 on)"
                }
            };
            format!("{major}.{minor}, managed_mapped_file on tmpfs, {map}")
        }

        pub(crate) fn create(self, size: usize) -> Segment {
            let path = folder().join(name("boost"));
            let c_path = c_string(path.to_str().expect("names are ASCII"));
            // SAFETY: a new file, and the end of the string is marked.
            let raw = unsafe { (self.functions.create)(c_path.as_ptr(), size) };
            assert!(!raw.is_null(), "Boost could not create a segment");
            Segment {
                functions: self.functions,
                raw,
                path,
                created: true,
            }
        }

        pub(crate) fn open(self, path: &str) -> Segment {
            let c_path = c_string(path);
            // SAFETY: the end of the string is marked; the file was made by `create`.
            let raw = unsafe { (self.functions.open)(c_path.as_ptr()) };
            assert!(!raw.is_null(), "Boost could not open a segment");
            Segment {
                functions: self.functions,
                raw,
                path: path.into(),
                created: false,
            }
        }
    }

    /// A managed_mapped_file on tmpfs. Its file goes with whoever made it.
    pub(crate) struct Segment {
        functions: &'static Functions,
        raw: Raw,
        path: PathBuf,
        created: bool,
    }

    fn c_string(text: &str) -> CString {
        CString::new(text).expect("names have no zeros")
    }

    impl Segment {
        /// What another process finds a block by.
        pub(crate) fn handle(&self, block: &Block) -> u64 {
            // SAFETY: a block of this segment.
            unsafe { (self.functions.handle)(self.raw, block.0) }
        }

        /// The block of a handle.
        pub(crate) fn block(&self, handle: u64) -> Block {
            // SAFETY: made by `handle`, in this segment.
            Block(unsafe { (self.functions.address)(self.raw, handle) })
        }

        pub(crate) fn path(&self) -> &str {
            self.path.to_str().expect("names are ASCII")
        }

        pub(crate) fn name_number(&self, name: &str) {
            // SAFETY: a segment, and the end of the string is marked.
            unsafe { (self.functions.name_number)(self.raw, c_string(name).as_ptr()) };
        }

        pub(crate) fn find_number(&self, name: &str) -> u64 {
            // SAFETY: as above.
            unsafe { (self.functions.find_number)(self.raw, c_string(name).as_ptr()) }
        }
    }

    impl Drop for Segment {
        fn drop(&mut self) {
            // SAFETY: nobody uses the segment any more.
            unsafe { (self.functions.close)(self.raw) };
            if self.created {
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }

    // SAFETY: its allocator has a lock.
    unsafe impl Sync for Segment {}

    /// A block of a segment.
    pub(crate) struct Block(Raw);

    // SAFETY: memory belongs to whoever has it, on any thread.
    unsafe impl Send for Block {}

    impl Heap for Segment {
        type Block = Block;

        #[inline(always)]
        fn alloc(&self, size: usize) -> Block {
            // SAFETY: an open segment.
            let block = unsafe { (self.functions.alloc)(self.raw, size) };
            assert!(!block.is_null(), "Boost has no room");
            Block(block)
        }

        #[inline(always)]
        fn free(&self, block: Block) {
            // SAFETY: made by `alloc`, and used by nobody any more.
            unsafe { (self.functions.free)(self.raw, block.0) };
        }

        #[inline(always)]
        fn address(&self, block: &Block) -> *mut u8 {
            block.0.cast()
        }
    }

    /// What keys a map in a segment can have: those that `boost.cpp` knows.
    pub(crate) trait SegmentKey: Sized {
        const IS_TEXT: bool;
    }

    impl SegmentKey for u64 {
        const IS_TEXT: bool = false;
    }

    impl SegmentKey for Text {
        const IS_TEXT: bool = true;
    }

    /// A map in a segment.
    pub(crate) struct SegmentMap<K> {
        functions: &'static MapFunctions,
        raw: Raw,
        segment: Segment,
        keys: PhantomData<K>,
    }

    impl<K: SegmentKey> SegmentMap<K> {
        pub(crate) fn new(boost: Boost, size: usize) -> Self {
            let functions = match K::IS_TEXT {
                true => &boost.functions.texts,
                false => &boost.functions.numbers,
            };
            let segment = boost.create(size);
            // SAFETY: an open segment.
            let raw = unsafe { (functions.make)(segment.raw) };
            SegmentMap {
                functions,
                raw,
                segment,
                keys: PhantomData,
            }
        }
    }

    impl<K: SegmentKey> Map<K> for SegmentMap<K> {
        fn insert_all(&mut self, keys: &[K]) {
            let (from, count) = (keys.as_ptr().cast(), keys.len());
            // SAFETY: a map of this segment with keys of this type, and as many of them as are said to be.
            unsafe { (self.functions.insert)(self.segment.raw, self.raw, from, count) };
        }

        fn find_all(&mut self, keys: &[K]) -> u64 {
            let (from, count) = (keys.as_ptr().cast(), keys.len());
            // SAFETY: as above.
            unsafe { (self.functions.find)(self.segment.raw, self.raw, from, count) }
        }

        fn sum(&mut self) -> u64 {
            // SAFETY: a map.
            unsafe { (self.functions.sum)(self.raw) }
        }

        fn remove_all(&mut self, keys: &[K]) {
            let (from, count) = (keys.as_ptr().cast(), keys.len());
            // SAFETY: as for `insert_all`.
            unsafe { (self.functions.remove)(self.segment.raw, self.raw, from, count) };
        }

        fn reset(&mut self) {
            // SAFETY: the old map is not used any more.
            unsafe {
                (self.functions.drop)(self.segment.raw, self.raw);
                self.raw = (self.functions.make)(self.segment.raw);
            }
        }
    }
}
