//~ may be aligned to 4096 bytes (a page) at most
//! Alignment ends at a page, also if a field brings it in.

use sharena::Share;

struct Inner;

// SAFETY: it is not: this is what the compiler has to find.
unsafe impl Share for Wide {
    const TYPE: sharena::__private::TypeInfo = <u8 as Share>::TYPE;
}

#[repr(C, align(8192))]
struct Wide(Inner);

#[derive(Share)]
#[repr(C)]
struct Outer {
    inner: Wide,
}

fn main() {}
