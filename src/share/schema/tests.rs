//! Containers are stood in for by stubs of their own here: this room knows only how they are
//! described.

use std::{
    marker::PhantomData,
    mem::offset_of,
    num::{NonZero, Wrapping},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::share::TypeInfo;

macro_rules! stub {
    ($name:ident<$($arg:ident),*> = $builtin:ident) => {
        #[repr(C)]
        pub(super) struct $name<$($arg),*>(u64, u64, PhantomData<($($arg,)*)>);

        // SAFETY: never used as a container.
        unsafe impl<$($arg: Share),*> Share for $name<$($arg),*> {
            const TYPE: TypeInfo =
                TypeInfo::builtin::<Self>(Builtin::$builtin, &[$(node::<$arg>),*]);
        }
    };
}

/// Named as sharena's own.
mod stubs {
    use super::*;

    stub!(Vec<T> = Vec);
    stub!(String<> = String);
    stub!(Box<T> = Box);
    stub!(HashMap<K, V> = HashMap);
    stub!(Semaphore<> = Semaphore);
    stub!(RelPtr<T> = RelPtr);

    #[repr(C)]
    pub(super) struct Mutex<T>(u32, pub(super) T);

    // SAFETY: never used as a lock.
    unsafe impl<T: Share> Share for Mutex<T> {
        const TYPE: TypeInfo =
            TypeInfo::inline::<Self>(Builtin::Mutex, &[node::<T>], offset_of!(Self, 1));
    }
}

use stubs::{HashMap as Map, Mutex, RelPtr, Semaphore, String as Text, Vec as List};

#[derive(sharena_derive::Share, Clone, Copy)]
#[repr(C)]
struct Fill {
    price: f64,
    quantity: u64,
}

#[derive(sharena_derive::Share)]
#[repr(C)]
struct Order {
    id: u32,
    symbol: Text,
    fills: List<Fill>,
    r#type: u8,
}

#[derive(sharena_derive::Share)]
#[repr(C)]
struct Tree<T> {
    value: T,
    children: List<Self>,
}

#[derive(sharena_derive::Share)]
#[repr(C, align(64))]
struct Padded<T, const N: usize>(T, [u8; N])
where
    T: Copy;

#[derive(sharena_derive::Share)]
#[repr(transparent)]
struct Id<T>(u64, PhantomData<T>);

#[derive(sharena_derive::Share)]
#[repr(C)]
struct Nothing;

#[derive(sharena_derive::Share, Clone, Copy)]
#[repr(u8)]
enum Event<T> {
    Opened,
    Filled(u8, Fill) = 7,
    Closed { flag: bool, at: u32, why: T },
}

#[derive(sharena_derive::Share, Clone, Copy)]
#[repr(C, u8)]
#[allow(dead_code)]
enum Outside {
    Small(u8, u16),
    Large(u32, u64),
}

#[derive(sharena_derive::Share)]
#[repr(i16)]
#[allow(dead_code)]
enum Signed {
    Low = -5,
    Next,
    High = 3 * 100,
}

fn print<T: Share>() -> std::string::String {
    Schema::of::<T>().to_string()
}

/// Types that differ at first sight are left as they are: that is what comparing them gives, too.
#[test]
fn the_short_way_gives_the_same() {
    fn check<T: Share>() {
        let types = collect(node::<T>());
        assert_eq!(merge(types.clone()), merge_by_classes(&types));
    }
    check::<u8>();
    check::<[[i16; 3]; 2]>();
    check::<Mutex<Map<u64, Order>>>();
    check::<Mutex<List<List<Text>>>>();
    check::<Tree<List<Text>>>();
    check::<Tree<Tree<u64>>>();
    check::<Outside>();
    check::<Signed>();
    check::<[List<Outside>; 4]>();
}

#[test]
fn types_print_as_in_rust() {
    assert_eq!(print::<u8>(), "u8");
    assert_eq!(print::<()>(), "()");
    assert_eq!(print::<[[i16; 3]; 2]>(), "[[i16; 3]; 2]");
    assert_eq!(print::<AtomicU64>(), "AtomicU64");
    assert_eq!(print::<Option<NonZero<u32>>>(), "Option<NonZero<u32>>");
    assert_eq!(print::<Wrapping<i8>>(), "Wrapping<i8>");
    assert_eq!(
        print::<Mutex<Map<u64, Order>>>(),
        "Mutex<HashMap<u64, Order>>"
    );
    assert_eq!(print::<Tree<List<Text>>>(), "Tree<Vec<String>>");
}

#[test]
fn definitions_print_with_offsets() {
    assert_eq!(
        format!("{:#}", Schema::of::<Mutex<Order>>()),
        "Mutex<Order>

struct Order { // 48 bytes, aligned to 8
    id: u32, // at 0
    symbol: String, // at 8
    fills: Vec<Fill>, // at 24
    type: u8, // at 40
}

struct Fill { // 16 bytes, aligned to 8
    price: f64, // at 0
    quantity: u64, // at 8
}"
    );
    assert_eq!(
        format!("{:#}", Schema::of::<Signed>()),
        "Signed

#[repr(i16)]
enum Signed { // 2 bytes, aligned to 2
    Low = -5,
    Next = -4,
    High = 300,
}"
    );
    assert_eq!(
        format!("{:#}", Schema::of::<Event<u16>>()),
        "Event<u16>

#[repr(u8)]
enum Event<u16> { // 24 bytes, aligned to 8
    Opened = 0,
    Filled {
        0: u8, // at 1
        1: Fill, // at 8
    } = 7,
    Closed {
        flag: bool, // at 1
        at: u32, // at 4
        why: u16, // at 8
    } = 8,
}

struct Fill { // 16 bytes, aligned to 8
    price: f64, // at 0
    quantity: u64, // at 8
}"
    );
}

/// The offset of a field of a value, in fact.
fn offset<T, F>(of: &T, field: &F) -> u64 {
    (ptr::from_ref(field).addr() - ptr::from_ref(of).addr()) as u64
}

fn variants<T: Share>() -> Vec<VariantShape> {
    match Schema::of::<T>().root().shape.clone() {
        Shape::Enum { variants, .. } => variants,
        other => panic!("{other:?}"),
    }
}

fn offsets(variant: &VariantShape) -> Vec<u64> {
    variant.fields.iter().map(|field| field.offset).collect()
}

#[test]
fn offsets_in_enums_are_the_real_ones() {
    let described = variants::<Event<u64>>();
    let fill = Fill {
        price: 1.0,
        quantity: 2,
    };
    for event in [
        Event::Opened,
        Event::Filled(1, fill),
        Event::Closed {
            flag: true,
            at: 2,
            why: 3u64,
        },
    ] {
        match &event {
            Event::Opened => assert_eq!(offsets(&described[0]), []),
            Event::Filled(a, b) => {
                let real = [offset(&event, a), offset(&event, b)];
                assert_eq!(offsets(&described[1]), real);
            }
            Event::Closed { flag, at, why } => {
                let real = [
                    offset(&event, flag),
                    offset(&event, at),
                    offset(&event, why),
                ];
                assert_eq!(offsets(&described[2]), real);
            }
        }
    }
    let described = variants::<Outside>();
    for outside in [Outside::Small(1, 2), Outside::Large(3, 4)] {
        match &outside {
            Outside::Small(a, b) => {
                assert_eq!(
                    offsets(&described[0]),
                    [offset(&outside, a), offset(&outside, b)]
                );
            }
            Outside::Large(a, b) => {
                assert_eq!(
                    offsets(&described[1]),
                    [offset(&outside, a), offset(&outside, b)]
                );
            }
        }
    }
    assert_eq!(offsets(&described[0]), [8, 10]);
}

#[test]
fn offsets_in_structs_are_the_real_ones() {
    let schema = Schema::of::<Padded<u16, 5>>();
    assert_eq!(schema.root().parts(), [(0, 1), (2, 2)]);
    assert_eq!((schema.root().size, schema.root().align), (64, 64));
    assert_eq!(Schema::of::<Id<Fill>>().root().size, 8);
    assert_eq!(Schema::of::<Nothing>().root().size, 0);
}

#[test]
fn a_type_may_contain_itself_through_a_container() {
    let schema = Schema::of::<Tree<u64>>();
    assert_eq!(schema.types().len(), 3);
    assert_eq!(schema.types()[2].owned(), [0]);
}

#[test]
fn the_same_definition_elsewhere_is_the_same_type() {
    mod elsewhere {
        use super::stubs::*;

        #[derive(sharena_derive::Share)]
        #[repr(C)]
        pub(super) struct Fill {
            price: f64,
            quantity: u64,
        }

        #[derive(sharena_derive::Share)]
        #[repr(C)]
        pub(super) struct Tree<T: crate::Share> {
            value: T,
            children: Vec<other::Tree<T>>,
        }

        mod other {
            #[derive(sharena_derive::Share)]
            #[repr(C)]
            pub(crate) struct Tree<T: crate::Share> {
                value: T,
                children: super::Vec<super::Tree<T>>,
            }
        }
    }
    assert_eq!(encode::<Fill>(), encode::<elsewhere::Fill>());
    assert_eq!(encode::<Tree<u8>>(), encode::<elsewhere::Tree<u8>>());
    assert_eq!(
        Schema::of::<Map<Fill, elsewhere::Fill>>().types().len(),
        Schema::of::<Map<Fill, Fill>>().types().len()
    );
}

#[test]
fn other_definitions_are_other_types() {
    mod elsewhere {
        #[derive(sharena_derive::Share)]
        #[repr(C)]
        pub(super) struct Fill {
            quantity: u64,
            price: f64,
        }
    }
    assert_ne!(encode::<Fill>(), encode::<elsewhere::Fill>());
    assert_ne!(encode::<List<Fill>>(), encode::<List<elsewhere::Fill>>());
    assert_ne!(encode::<Tree<u8>>(), encode::<Tree<i8>>());
    assert_ne!(encode::<Id<u8>>(), encode::<Id<i8>>());
    assert_ne!(Schema::of::<u8>().hash64(), Schema::of::<i8>().hash64());
    assert_ne!(encode::<List<u8>>(), encode::<stubs::Box<u8>>());
}

#[test]
fn the_bytes_are_fixed() {
    let mut expected = vec![2, 0, 0, 0];
    expected.extend([
        7, 16, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
    ]);
    expected.extend([0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
    assert_eq!(encode::<List<u16>>(), expected);
}

#[test]
fn atomics_and_locks_are_found_where_a_reference_reaches() {
    fn found<T: Share>() -> bool {
        Schema::of::<T>().contains_atomics_or_locks()
    }
    assert!(found::<AtomicU64>());
    assert!(found::<Semaphore>());
    assert!(found::<List<[AtomicU64; 2]>>());
    assert!(found::<Tree<Mutex<u8>>>());
    assert!(found::<Event<AtomicU64>>());
    assert!(!found::<Tree<Order>>());
    assert!(
        !found::<RelPtr<AtomicU64>>(),
        "it is not followed in safe code"
    );
    assert!(!found::<Id<AtomicU64>>(), "it is an argument only");
}

#[test]
fn an_atomic_field_is_one_field() {
    #[derive(sharena_derive::Share)]
    #[repr(C)]
    struct Counter {
        count: AtomicU64,
    }
    let counter = Counter {
        count: AtomicU64::new(1),
    };
    assert_eq!(counter.count.load(Ordering::Relaxed), 1);
    assert_eq!(print::<Counter>(), "Counter");
}

#[test]
fn names_lose_their_paths() {
    assert_eq!(without_paths("a::b::C<d::E, [f::G; 3]>"), "C<E, [G; 3]>");
    assert_eq!(without_paths("<u8 as a::B>::C"), "<u8 as B>C");
    assert_eq!(without_paths("::a"), "a");
}

#[test]
fn a_schema_survives_its_bytes() {
    for bytes in samples() {
        let schema = decode(&bytes).unwrap();
        assert_eq!(schema.to_bytes(), bytes);
    }
    let schema = Schema::of::<Mutex<Map<u64, Order>>>();
    assert_eq!(decode(&schema.to_bytes()).unwrap(), schema);
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        encode::<Mutex<Map<u64, Order>>>(),
        encode::<Tree<Event<Signed>>>(),
        encode::<Map<Outside, Padded<u8, 3>>>(),
        encode::<Map<Option<NonZero<u16>>, RelPtr<Id<Text>>>>(),
    ]
}

/// What everybody does with a schema that was read.
fn use_up(bytes: &[u8]) -> bool {
    decode(bytes).is_ok_and(|schema| {
        let length = format!("{schema:#}").len();
        assert!(length <= 10_000 + 10_000 * bytes.len());
        schema.contains_atomics_or_locks();
        assert_eq!(schema.to_bytes(), bytes);
        true
    })
}

#[test]
fn cut_bytes_are_refused() {
    for bytes in samples() {
        assert!((0..bytes.len()).all(|len| decode(&bytes[..len]).is_err()));
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    let mut accepted = 0;
    for bytes in samples() {
        for position in 0..bytes.len() {
            for value in [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, bytes[position] ^ 1] {
                let mut changed = bytes.clone();
                changed[position] = value;
                accepted += u32::from(use_up(&changed));
            }
        }
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut changed = bytes.clone();
            for _ in 0..3 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let position = (random >> 33) as usize % bytes.len();
                changed[position] = (random >> 24) as u8 & ((random >> 20) as u8 | 7);
            }
            accepted += u32::from(use_up(&changed));
        }
    }
    assert!(
        accepted > 1000,
        "only {accepted} were accepted: nothing was tried"
    );
}

fn schema(types: Vec<Type>) -> Result<Schema, String> {
    decode(&bytes::write(&types))
}

fn list(elem: TypeIndex) -> Type {
    Type {
        size: 16,
        align: 8,
        shape: Shape::Builtin {
            which: Builtin::HashMap,
            args: vec![elem, elem],
            value: None,
        },
    }
}

fn whole(size: u64, align: u32, offsets: &[u64], of: TypeIndex) -> Type {
    let field = |offset: &u64| FieldShape {
        name: "field".into(),
        offset: *offset,
        of,
    };
    Type {
        size,
        align,
        shape: Shape::Struct {
            name: "Whole".into(),
            args: vec![],
            fields: offsets.iter().map(field).collect(),
        },
    }
}

fn number_type() -> Type {
    Type {
        size: 4,
        align: 4,
        shape: Shape::Primitive(Primitive::U32),
    }
}

#[test]
fn a_false_schema_is_refused() {
    let refused = |first: Type, why: &str| {
        let wrong = schema(vec![first, number_type()]).unwrap_err();
        assert!(wrong.contains(why), "{wrong}");
    };
    assert!(schema(vec![whole(8, 4, &[0, 4], 1), number_type()]).is_ok());
    refused(whole(8, 4, &[0, 8], 1), "a part at 8");
    refused(whole(8, 4, &[0, u64::MAX - 3], 1), "a part at");
    refused(whole(8, 4, &[2], 1), "a part at 2");
    refused(whole(8, 4, &[4, 0], 1), "overlaps");
    refused(whole(8, 4, &[0], 2), "it refers to type 2 of 2");
    refused(whole(8, 2, &[0], 1), "a part at 0");
    refused(whole(8, 3, &[], 1), "alignment 3");
    refused(whole(9, 4, &[], 1), "size 9");
    refused(whole(8192, 8192, &[], 1), "alignment 8192");
    refused(whole(u64::MAX, 1, &[], 1), "size");
    refused(whole(4, 4, &[0], 0), "contains itself");
    refused(
        Type {
            size: 0,
            align: 4,
            shape: Shape::Array {
                elem: 1,
                len: 1 << 62,
            },
        },
        "0 bytes for",
    );
    let variant = |discriminant| VariantShape {
        name: "V".into(),
        discriminant,
        fields: vec![],
    };
    let either = |variants| Type {
        size: 1,
        align: 1,
        shape: Shape::Enum {
            name: "E".into(),
            args: vec![],
            tag: Primitive::I8,
            variants,
        },
    };
    refused(either(vec![variant(1), variant(1)]), "the discriminant 1");
    refused(either(vec![variant(128)]), "the discriminant 128");
    assert!(schema(vec![either(vec![variant(-128), variant(127)])]).is_ok());
}

#[test]
fn a_schema_too_deep_to_walk_is_refused() {
    let chain = |length: u32| {
        let mut types: Vec<_> = (1..length).map(|next| whole(4, 4, &[0], next)).collect();
        types.push(number_type());
        schema(types)
    };
    assert!(chain(MAX_DEPTH).is_ok());
    assert!(chain(100_000).unwrap_err().contains("in one another"));
}

#[test]
fn names_without_end_are_cut_off() {
    let in_a_circle = schema(vec![list(1), list(0)]).unwrap();
    assert!(in_a_circle.to_string().len() < 3000);
    let doubling: Vec<_> = (1..100u32).map(|next| list(next % 99)).collect();
    assert!(schema(doubling).unwrap().to_string().contains('…'));
}

#[test]
fn a_count_without_bytes_allocates_nothing() {
    assert!(decode(&[0xff; 4]).is_err());
    assert!(decode(&[]).is_err());
    assert!(decode(&[0; 4]).is_err());
}
