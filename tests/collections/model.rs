//! Sequences of operations under one guard and across guards, against `std`.

use crate::ops::{Element, Op, apply, contents, op};
use proptest::{collection::vec, prelude::*};
use sharena::{
    Arena,
    collections::{String, Vec},
    sync::Mutex,
};

/// Operations in sections: each inner vector is one guard.
fn sections() -> impl Strategy<Value = std::vec::Vec<std::vec::Vec<Op>>> {
    vec(vec(op(), 0..24), 0..6)
}

fn run<E: Element>(sections: &[std::vec::Vec<Op>]) {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<E>>>("v").unwrap();
    let mut expected = std::vec::Vec::new();
    for ops in sections {
        let mut v = root.lock().unwrap();
        for op in ops {
            apply(op, &mut v, &mut expected).unwrap();
            assert_eq!(contents(&v), expected, "after {op:?}");
        }
        drop(v);
        assert!(arena.check().problems().is_empty());
    }
    assert_eq!(contents(&root.lock().unwrap()), expected);
    root.lock().unwrap().clear();
    assert!(arena.check().problems().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn numbers(sections in sections()) {
        run::<u64>(&sections);
    }

    #[test]
    fn strings(sections in sections()) {
        run::<String>(&sections);
    }

    #[test]
    fn vectors(sections in sections()) {
        run::<Vec<u64>>(&sections);
    }
}
