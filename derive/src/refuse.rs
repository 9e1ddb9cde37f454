//! What can be told from a field's type as it is written to belong to one process.
//!
//! Names without a path are left to the compiler where they could be sharena's own or the user's
//! (`Vec`, `Box`, `Mutex`, `Option`, `Cell`): it requires `Share` of every field's type anyway, and
//! the trait explains itself. So this is about better words, never about safety.

use syn::{Error, Path, Type};

const HEAP: &str = "its memory belongs to the heap of this process";
const CELL: &str = "it changes behind a shared reference, which other processes may have too";
const LOCK: &str = "it works between the threads of one process only";
const HANDLE: &str = "it means something in this process only";
const LAYOUT: &str = "its layout is not fixed";

/// Types of `std`: name, why not, what to use instead.
const STD: [(&str, &str, &str); 37] = [
    ("Box", HEAP, "`sharena::collections::Box`"),
    ("Rc", HEAP, "a `sharena::RelPtr`, or a root of its own"),
    ("Arc", HEAP, "a `sharena::RelPtr`, or a root of its own"),
    ("Weak", HEAP, "a `sharena::RelPtr`"),
    ("Vec", HEAP, "`sharena::collections::Vec`"),
    ("VecDeque", HEAP, "`sharena::collections::Vec`"),
    ("String", HEAP, "`sharena::collections::String`"),
    ("HashMap", HEAP, "`sharena::collections::HashMap`"),
    ("HashSet", HEAP, "a `sharena::collections::HashMap` to `()`"),
    (
        "BTreeMap",
        HEAP,
        "`sharena::collections::HashMap`, or a sorted `Vec`",
    ),
    ("BTreeSet", HEAP, "a sorted `sharena::collections::Vec`"),
    ("BinaryHeap", HEAP, "a sorted `sharena::collections::Vec`"),
    ("LinkedList", HEAP, "`sharena::collections::Vec`"),
    ("CString", HEAP, "`sharena::collections::String`"),
    ("OsString", HEAP, "`sharena::collections::String`"),
    ("PathBuf", HEAP, "`sharena::collections::String`"),
    ("Cow", HEAP, "`sharena::collections::String` or `Vec`"),
    (
        "Cell",
        CELL,
        "an atomic, or a lock of `sharena::sync` around the whole",
    ),
    (
        "RefCell",
        CELL,
        "a lock of `sharena::sync` around the whole",
    ),
    (
        "UnsafeCell",
        CELL,
        "an atomic, or a lock of `sharena::sync` around the whole",
    ),
    ("OnceCell", CELL, "`root_with`, or a `sharena::sync::Mutex`"),
    ("LazyCell", CELL, "`root_with`, or a `sharena::sync::Mutex`"),
    ("OnceLock", LOCK, "`root_with`, or a `sharena::sync::Mutex`"),
    ("LazyLock", LOCK, "`root_with`, or a `sharena::sync::Mutex`"),
    ("Once", LOCK, "`root_with`, or a `sharena::sync::Mutex`"),
    ("Mutex", LOCK, "`sharena::sync::Mutex`"),
    ("RwLock", LOCK, "`sharena::sync::RwLock`"),
    ("Condvar", LOCK, "`sharena::sync::Semaphore`"),
    ("Barrier", LOCK, "`sharena::sync::Semaphore`"),
    ("File", HANDLE, "a path, opened by each process"),
    (
        "OwnedFd",
        HANDLE,
        "a path, or pass the descriptor over a socket",
    ),
    (
        "JoinHandle",
        HANDLE,
        "`sharena::sync` to wait for each other",
    ),
    ("AtomicPtr", HANDLE, "`sharena::AtomicRelPtr`"),
    ("NonNull", HANDLE, "`sharena::RelPtr`"),
    ("Duration", LAYOUT, "a number of nanoseconds"),
    (
        "Instant",
        HANDLE,
        "a number of nanoseconds on a clock of your choice",
    ),
    ("SystemTime", LAYOUT, "a number of seconds since 1970"),
];

/// Names that are so obviously those of `std` that they need no path, if they have arguments.
const KNOWN_WITHOUT_PATH: [&str; 5] = ["Rc", "RefCell", "UnsafeCell", "OnceCell", "AtomicPtr"];

/// Why a field of this type is refused, if that can be told from how it is written.
pub(crate) fn refuse(of: &Type) -> Option<Error> {
    let why = match of {
        Type::Array(array) => return refuse(&array.elem),
        Type::Group(group) => return refuse(&group.elem),
        Type::Paren(paren) => return refuse(&paren.elem),
        Type::Reference(_) => {
            "a reference is an address in this process: store the value itself, or own it by a \
             `sharena::collections::Box`, or point to it by a `sharena::RelPtr`"
        }
        Type::Ptr(_) => {
            "a raw pointer is an address in this process: use `sharena::RelPtr`, which is an \
             offset that every process can follow"
        }
        Type::FnPtr(_) => {
            "a function pointer is an address in this process: store an enum that says what to do"
        }
        Type::TraitObject(_) => {
            "a trait object points to functions of this process: use an enum with a variant for \
             each type"
        }
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            "the layout of a tuple is not fixed: use a struct with `#[repr(C)]`"
        }
        Type::Slice(_) => {
            "a slice has no size of its own: use an array, or `sharena::collections::Vec`"
        }
        Type::Path(path) => return refuse_path(&path.path),
        _ => return None,
    };
    Some(Error::new_spanned(of, why))
}

fn refuse_path(path: &Path) -> Option<Error> {
    let last = path.segments.last()?;
    let name = last.ident.to_string();
    let (_, why, instead) = STD.iter().find(|known| known.0 == name)?;
    let first = &path.segments.first()?.ident;
    let is_std = match path.segments.len() {
        1 => KNOWN_WITHOUT_PATH.contains(&&*name) && !last.arguments.is_none(),
        _ => ["std", "alloc", "core"].iter().any(|root| first == root),
    };
    is_std.then(|| {
        Error::new_spanned(
            path,
            format!("`{name}` cannot lie in an arena, as {why}: use {instead}"),
        )
    })
}
