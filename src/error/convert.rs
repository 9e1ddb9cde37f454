//! From other errors, and to them.

use super::Error;
use std::io;

/// For functions that give `io::Result`. The kind is the nearest that there is; the message stays.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::Mutex};
/// use std::io;
///
/// fn count() -> io::Result<u64> {
///     let arena = Arena::in_memory()?;
///     Ok(*arena.find::<Mutex<u64>>("hits")?.lock()?)
/// }
/// assert_eq!(count().unwrap_err().kind(), io::ErrorKind::NotFound);
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        use io::ErrorKind;
        let kind = match &error {
            Error::Os { source, .. } => source.kind(),
            Error::Missing { .. } | Error::UnknownRoot { .. } => ErrorKind::NotFound,
            Error::Exists { .. } => ErrorKind::AlreadyExists,
            Error::WrongOwner { .. } | Error::WritableByOthers { .. } => {
                ErrorKind::PermissionDenied
            }
            Error::BadName { .. } | Error::BadOption { .. } => ErrorKind::InvalidInput,
            Error::Truncated { .. } | Error::ForeignMagic { .. } | Error::TypeMismatch { .. } => {
                ErrorKind::InvalidData
            }
            Error::Full { .. } | Error::NoSpace { .. } => ErrorKind::StorageFull,
            Error::NoAddressSpace { .. } => ErrorKind::OutOfMemory,
            Error::WouldBlock => ErrorKind::WouldBlock,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::WouldDeadlock | Error::Deadlock { .. } => ErrorKind::Deadlock,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// One that was made from an [`Error`] becomes that again.
impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        source
            .downcast()
            .unwrap_or_else(|source| Error::Other(source.into()))
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Error::Other(error)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Error::Other(message.into())
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Error::Other(message.into())
    }
}

/// What `?` meets in programs: it goes through a section as it is.
macro_rules! from_std {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::Other(error.into())
            }
        }
    )*};
}

from_std! {
    std::array::TryFromSliceError,
    std::char::CharTryFromError,
    std::char::ParseCharError,
    std::collections::TryReserveError,
    std::env::VarError,
    std::ffi::FromBytesWithNulError,
    std::ffi::NulError,
    std::fmt::Error,
    std::net::AddrParseError,
    std::num::ParseFloatError,
    std::num::ParseIntError,
    std::num::TryFromIntError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::sync::mpsc::RecvError,
    std::time::SystemTimeError,
}

#[cfg(test)]
mod tests {
    use crate::{Arena, Error, sync::Mutex};

    #[test]
    fn a_question_mark_carries_what_std_says_out_of_a_section() {
        let arena = Arena::in_memory().unwrap();
        let number = arena.root::<Mutex<u64>>("number").unwrap();
        let set = |text: &str| {
            arena.section(|| {
                *number.lock()? = text.parse()?;
                Ok(())
            })
        };
        set("7").unwrap();
        let error = set("seven").unwrap_err();
        assert!(matches!(&error, Error::Other(other) if other.is::<std::num::ParseIntError>()));
        assert_eq!(error.to_string(), "invalid digit found in string");
        assert_eq!(*number.lock().unwrap(), 7);
    }

    #[test]
    fn what_unwrap_prints_says_what_to_do() {
        let arena = Arena::in_memory().unwrap();
        let error = arena.find::<Mutex<u64>>("hits").err().unwrap();
        assert_eq!(format!("{error:?}"), format!("UnknownRoot: {error}"));
        let there_and_back = Error::from(std::io::Error::from(error));
        assert!(matches!(there_and_back, Error::UnknownRoot { .. }));
        let error = Error::from("no such account");
        assert_eq!(format!("{error:?}"), "Other(\"no such account\")");
    }
}
