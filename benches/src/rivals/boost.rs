//! Boost.Interprocess, where it is installed: see `boost.cpp`.

#[cfg(boost)]
pub(crate) use present::*;

#[cfg(boost)]
mod present {
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

    unsafe extern "C" {
        fn boost_version() -> u32;
        fn boost_map_is_flat() -> bool;
        fn boost_create(path: *const c_char, size: usize) -> Raw;
        fn boost_open(path: *const c_char) -> Raw;
        fn boost_close(segment: Raw);
        fn boost_alloc(segment: Raw, size: usize) -> Raw;
        fn boost_free(segment: Raw, block: Raw);
        fn boost_handle(segment: Raw, block: Raw) -> u64;
        fn boost_address(segment: Raw, handle: u64) -> Raw;
        fn boost_name_number(segment: Raw, name: *const c_char);
        fn boost_find_number(segment: Raw, name: *const c_char) -> u64;
    }

    /// Which one it is, and which of its maps.
    pub(crate) fn description() -> String {
        // SAFETY: both give constants.
        let (version, flat) = unsafe { (boost_version(), boost_map_is_flat()) };
        let (major, minor) = (version / 100_000, version / 100 % 1000);
        let map = match flat {
            true => "unordered_flat_map",
            false => "unordered_map (the flat one can live behind offset pointers from 1.84 on)",
        };
        format!("{major}.{minor}, managed_mapped_file on tmpfs, {map}")
    }

    /// A managed_mapped_file on tmpfs. Its file goes with whoever made it.
    pub(crate) struct Segment {
        raw: Raw,
        path: PathBuf,
        created: bool,
    }

    fn c_string(text: &str) -> CString {
        CString::new(text).expect("names have no zeros")
    }

    impl Segment {
        pub(crate) fn new(size: usize) -> Segment {
            let path = folder().join(name("boost"));
            let c_path = c_string(path.to_str().expect("names are ASCII"));
            // SAFETY: a new file, and the end of the string is marked.
            let raw = unsafe { boost_create(c_path.as_ptr(), size) };
            assert!(!raw.is_null(), "Boost could not create a segment");
            Segment {
                raw,
                path,
                created: true,
            }
        }

        pub(crate) fn open(path: &str) -> Segment {
            let c_path = c_string(path);
            // SAFETY: the end of the string is marked; the file was made by `new`.
            let raw = unsafe { boost_open(c_path.as_ptr()) };
            assert!(!raw.is_null(), "Boost could not open a segment");
            Segment {
                raw,
                path: path.into(),
                created: false,
            }
        }

        /// What another process finds a block by.
        pub(crate) fn handle(&self, block: &Block) -> u64 {
            // SAFETY: a block of this segment.
            unsafe { boost_handle(self.raw, block.0) }
        }

        /// The block of a handle.
        pub(crate) fn block(&self, handle: u64) -> Block {
            // SAFETY: made by `handle`, in this segment.
            Block(unsafe { boost_address(self.raw, handle) })
        }

        pub(crate) fn path(&self) -> &str {
            self.path.to_str().expect("names are ASCII")
        }

        pub(crate) fn name_number(&self, name: &str) {
            // SAFETY: a segment, and the end of the string is marked.
            unsafe { boost_name_number(self.raw, c_string(name).as_ptr()) };
        }

        pub(crate) fn find_number(&self, name: &str) -> u64 {
            // SAFETY: as above.
            unsafe { boost_find_number(self.raw, c_string(name).as_ptr()) }
        }
    }

    impl Drop for Segment {
        fn drop(&mut self) {
            // SAFETY: nobody uses the segment any more.
            unsafe { boost_close(self.raw) };
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
            let block = unsafe { boost_alloc(self.raw, size) };
            assert!(!block.is_null(), "Boost has no room");
            Block(block)
        }

        #[inline(always)]
        fn free(&self, block: Block) {
            // SAFETY: made by `alloc`, and used by nobody any more.
            unsafe { boost_free(self.raw, block.0) };
        }

        #[inline(always)]
        fn address(&self, block: &Block) -> *mut u8 {
            block.0.cast()
        }
    }

    /// A map in a segment.
    pub(crate) struct SegmentMap<K> {
        raw: Raw,
        segment: Segment,
        keys: PhantomData<K>,
    }

    macro_rules! segment_map {
        ($key:ty, $new:ident, $delete:ident, $insert:ident, $find:ident, $remove:ident, $sum:ident) => {
            unsafe extern "C" {
                fn $new(segment: Raw) -> Raw;
                fn $delete(segment: Raw, map: Raw);
                fn $insert(segment: Raw, map: Raw, keys: *const $key, count: usize);
                fn $find(segment: Raw, map: Raw, keys: *const $key, count: usize) -> u64;
                fn $remove(segment: Raw, map: Raw, keys: *const $key, count: usize);
                fn $sum(map: Raw) -> u64;
            }

            impl SegmentMap<$key> {
                pub(crate) fn new(size: usize) -> Self {
                    let segment = Segment::new(size);
                    // SAFETY: an open segment.
                    let raw = unsafe { $new(segment.raw) };
                    SegmentMap {
                        raw,
                        segment,
                        keys: PhantomData,
                    }
                }
            }

            impl Map<$key> for SegmentMap<$key> {
                fn insert_all(&mut self, keys: &[$key]) {
                    // SAFETY: a map of this segment, and as many keys as are said to be.
                    unsafe { $insert(self.segment.raw, self.raw, keys.as_ptr(), keys.len()) };
                }

                fn find_all(&mut self, keys: &[$key]) -> u64 {
                    // SAFETY: as above.
                    unsafe { $find(self.segment.raw, self.raw, keys.as_ptr(), keys.len()) }
                }

                fn sum(&mut self) -> u64 {
                    // SAFETY: a map.
                    unsafe { $sum(self.raw) }
                }

                fn remove_all(&mut self, keys: &[$key]) {
                    // SAFETY: as for `insert_all`.
                    unsafe { $remove(self.segment.raw, self.raw, keys.as_ptr(), keys.len()) };
                }

                fn reset(&mut self) {
                    // SAFETY: the old map is not used any more.
                    unsafe {
                        $delete(self.segment.raw, self.raw);
                        self.raw = $new(self.segment.raw);
                    }
                }
            }
        };
    }

    segment_map!(
        u64,
        boost_numbers_new,
        boost_numbers_delete,
        boost_numbers_insert,
        boost_numbers_find,
        boost_numbers_remove,
        boost_numbers_sum
    );
    segment_map!(
        Text,
        boost_texts_new,
        boost_texts_delete,
        boost_texts_insert,
        boost_texts_find,
        boost_texts_remove,
        boost_texts_sum
    );
}
