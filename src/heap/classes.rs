//! Size classes: 16 to 128 bytes by 16, then four to each doubling, up to 8 KiB.
//!
//! Above 128 bytes less than a fifth of a block is waste; below, less than 16 bytes are.
//! An arena uses the classes up to half of its slab size; larger requests take whole slabs.

/// How many classes there are.
pub(crate) const CLASSES: usize = 32;
/// The largest class of all.
pub(crate) const LARGEST: usize = 8192;

struct Tables {
    size: [u32; CLASSES],
    /// `offset * reciprocal >> 32` is the index of the block at that offset in its slab.
    reciprocal: [u64; CLASSES],
    /// The class of a size, by sixteenths of it rounded up.
    class_of: [u8; LARGEST / 16 + 1],
}

const fn tables() -> Tables {
    let mut t = Tables {
        size: [0; CLASSES],
        reciprocal: [0; CLASSES],
        class_of: [0; LARGEST / 16 + 1],
    };
    let mut class = 0;
    while class < 8 {
        t.size[class] = 16 * (class as u32 + 1);
        class += 1;
    }
    let mut base = 128;
    while base < LARGEST as u32 {
        let mut quarter = 1;
        while quarter <= 4 {
            t.size[class] = base + base / 4 * quarter;
            class += 1;
            quarter += 1;
        }
        base *= 2;
    }
    class = 0;
    while class < CLASSES {
        let size = t.size[class] as u64;
        t.reciprocal[class] = (1u64 << 32).div_ceil(size);
        class += 1;
    }
    let mut sixteenths = 0;
    while sixteenths < t.class_of.len() {
        let mut class = 0;
        while (t.size[class] as usize) < sixteenths * 16 {
            class += 1;
        }
        t.class_of[sixteenths] = class as u8;
        sixteenths += 1;
    }
    t
}

static TABLES: Tables = tables();

/// The smallest class that holds `size` bytes; `size` is at most [`LARGEST`].
#[inline(always)]
pub(crate) fn class_of(size: usize) -> usize {
    // The remainder tells the compiler what the table holds.
    TABLES.class_of[size.div_ceil(16)] as usize % CLASSES
}

/// The smallest class that holds `size` bytes at multiples of `align`, if there is one: blocks
/// begin at multiples of their size from the slab's begin.
pub(crate) fn class_aligned(size: usize, align: usize) -> Option<usize> {
    if size > LARGEST || align > LARGEST {
        return None;
    }
    (class_of(size.max(align))..CLASSES).find(|&class| size_of_class(class).is_multiple_of(align))
}

/// Bytes of a block of the class.
#[inline(always)]
pub(crate) fn size_of_class(class: usize) -> usize {
    TABLES.size[class] as usize
}

/// The index of the block in which the `within`th byte of a slab lies.
#[inline(always)]
pub(crate) fn index_of(within: usize, class: usize) -> usize {
    ((within as u64 * TABLES.reciprocal[class]) >> 32) as usize
}

/// The same, and whether that is the block's first byte.
#[inline(always)]
pub(crate) fn split_by_class(within: usize, class: usize) -> (usize, bool) {
    let reciprocal = TABLES.reciprocal[class];
    let product = within as u64 * reciprocal;
    // The lower half is the remainder's share of the reciprocal.
    ((product >> 32) as usize, product & 0xffff_ffff < reciprocal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class() {
        for size in 0..=LARGEST {
            let class = class_of(size);
            assert!(size_of_class(class) >= size);
            assert!(class == 0 || size_of_class(class - 1) < size);
        }
        assert_eq!(size_of_class(CLASSES - 1), LARGEST);
    }

    #[test]
    fn waste_is_bounded() {
        for size in 129..=LARGEST {
            let block = size_of_class(class_of(size));
            assert!((block - size) * 5 < block, "{size}");
        }
    }

    #[test]
    fn reciprocals_divide_exactly() {
        for class in 0..CLASSES {
            for within in 0..1 << 16 {
                let size = size_of_class(class);
                assert_eq!(index_of(within, class), within / size);
                let exact = within.is_multiple_of(size);
                assert_eq!(split_by_class(within, class), (within / size, exact));
            }
        }
    }

    #[test]
    fn alignment() {
        for shift in 0..=13 {
            let align = 1 << shift;
            for size in [1, align, 3 * align, 100] {
                if let Some(class) = class_aligned(size, align) {
                    let block = size_of_class(class);
                    assert!(block >= size && block.is_multiple_of(align));
                } else {
                    assert!(size > LARGEST);
                }
            }
        }
    }
}
