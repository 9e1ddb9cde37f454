//! Telling processes apart that have, or had, the same number.
//!
//! Linux numbers processes anew when it has come to the end, and in each PID namespace by itself. What
//! tells one from another is the inode of its descriptor, from Linux 6.11 on: counted up for each
//! task, and never again in this boot. Before, and where descriptors are forbidden, it is the time at
//! which the process started, which `/proc` tells: that takes ten times as long, in a process that was
//! not looked at before.
//!
//! It serves as a second opinion: it is asked only where the kernel's mark of a death is missing, and then
//! it decides. So what is not certain counts as there.

use super::memory::WipedWord;
use super::process::read_at_once;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

/// What tells a process from others of its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Incarnation {
    /// 0 when unknown.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
}

/// What the number of an [`Incarnation`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Clock ticks from the boot to its start, as the time namespace has them.
    Start,
    /// The inode of its descriptor.
    Descriptor,
}

impl Incarnation {
    /// That of this process.
    pub(crate) fn own() -> Incarnation {
        let word = WipedWord::Incarnation.or_find(|| match look_at_self() {
            Some(found) => {
                WipedWord::PidNamespace.or_find(|| found.namespace);
                found.inode << 1 | 1
            }
            None => own_start_time() << 1,
        });
        let kind = match word & 1 {
            0 => Kind::Start,
            _ => Kind::Descriptor,
        };
        Incarnation {
            number: word >> 1,
            kind,
        }
    }
}

/// What a descriptor tells of this process.
struct Found {
    inode: u64,
    namespace: u64,
}

/// `None` where the kernel does not know the request: then the inode may be that of all descriptors.
fn look_at_self() -> Option<Found> {
    let own = own_descriptor()?;
    let namespace = namespace_of(&own, PIDFD_GET_PID_NAMESPACE)?;
    Some(Found {
        inode: inode(own)?,
        namespace,
    })
}

/// Inode of the namespace in which this process has its number; 0 when unknown.
pub(crate) fn pid_namespace() -> u64 {
    // What a process unshares is its children's.
    WipedWord::PidNamespace.or_find(|| namespace(PIDFD_GET_PID_NAMESPACE, "pid"))
}

/// Inode of the namespace by whose clock this process sees when others started; 0 when unknown.
pub(crate) fn time_namespace() -> u64 {
    WipedWord::TimeNamespace.or_find(|| namespace(PIDFD_GET_TIME_NAMESPACE, "time"))
}

/// Requests to a process descriptor (`linux/pidfd.h`, Linux 6.11), which give that of a namespace.
const PIDFD_GET_PID_NAMESPACE: libc::Ioctl = 0xff05;
const PIDFD_GET_TIME_NAMESPACE: libc::Ioctl = 0xff07;

fn namespace(request: libc::Ioctl, kind: &str) -> u64 {
    own_descriptor()
        .and_then(|own| namespace_of(&own, request))
        .or_else(|| namespace_by_path(kind))
        .unwrap_or(0)
}

fn namespace_of(process: &OwnedFd, request: libc::Ioctl) -> Option<u64> {
    // SAFETY: these requests take no argument, and give a descriptor or an error.
    let found = unsafe { libc::ioctl(process.as_raw_fd(), request, 0) };
    if found < 0 {
        return None;
    }
    // SAFETY: a fresh descriptor, which is nobody else's.
    inode(unsafe { OwnedFd::from_raw_fd(found) })
}

fn namespace_by_path(kind: &str) -> Option<u64> {
    let path = format!("/proc/thread-self/ns/{kind}");
    fs::metadata(path).ok().map(|namespace| namespace.ino())
}

fn own_descriptor() -> Option<OwnedFd> {
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()
}

fn inode(descriptor: OwnedFd) -> Option<u64> {
    Some(fs::File::from(descriptor).metadata().ok()?.ino())
}

/// When this process started; 0 when unknown.
fn own_start_time() -> u64 {
    let mut buffer = [0; 1024];
    let stat = read_at_once("/proc/self/stat", &mut buffer).ok();
    stat.and_then(parse_stat).map_or(0, |stat| stat.start)
}

/// What can be told of a process of this namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A process of that number is there, of this incarnation.
    There(u64),
    /// None is there, or one of which nothing runs any more and that only waits to be waited for.
    Gone,
    /// It cannot be told: the kernel has no such descriptors, or `/proc` is not there, hides the process,
    /// or is that of another namespace.
    Unknown,
}

/// Looks for a process of this namespace.
pub(crate) fn fate(pid: u32, kind: Kind) -> Fate {
    match kind {
        Kind::Start => fate_by_stat(pid),
        Kind::Descriptor => fate_by_descriptor(pid),
    }
}

fn fate_by_descriptor(pid: u32) -> Fate {
    if Incarnation::own().kind != Kind::Descriptor {
        return Fate::Unknown;
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Fate::Gone;
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) if has_ended(&process) => Fate::Gone,
        Ok(process) => inode(process).map_or(Fate::Unknown, Fate::There),
        // Nobody has the number, or a thread that is not its process's first.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Fate::Gone,
        Err(_) => Fate::Unknown,
    }
}

/// Whether all threads of a process have ended: then its descriptor can be read.
fn has_ended(process: &OwnedFd) -> bool {
    let mut asked = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, which is open; returns at once.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

fn fate_by_stat(pid: u32) -> Fate {
    if !sees_own_namespace() {
        return Fate::Unknown;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok();
    match stat.as_deref().and_then(parse_stat) {
        // The first thread of a process may end before the others.
        Some(stat) if stat.ended && stat.threads <= 1 => Fate::Gone,
        Some(stat) => Fate::There(stat.start),
        None if exists(pid) => Fate::Unknown,
        None => Fate::Gone,
    }
}

/// Whether `/proc` numbers processes as this process's namespace does. (In a new namespace it is
/// still the one of outside, until somebody mounts another.)
fn sees_own_namespace() -> bool {
    let own = std::process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

/// Whether there is a process, or a zombie, of that number, seen or not.
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 0) else {
        return false;
    };
    // SAFETY: asks only, sends nothing.
    let asked = unsafe { libc::kill(pid, 0) };
    asked == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// What is of interest in a `stat` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Whether the first thread has ended.
    ended: bool,
    /// Threads that are not cleared away yet, the first one included.
    threads: u64,
    start: u64,
}

/// Fields 3, 20 and 22 of a `stat` line. The name in field 2 may hold spaces, parentheses and any byte.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let after_name = str::from_utf8(&stat[name_end + 1..]).ok()?;
    // The first field after the name is number 3.
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Stat {
        ended: matches!(state, "Z" | "X" | "x"),
        threads: fields.nth(20 - 4)?.parse().ok()?,
        start: fields.nth(22 - 21)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{
        process::thread_id,
        testing::{Child, eventually, sleep_for_ever},
    };
    use std::process::{Command, id};

    /// Those that this kernel has.
    fn kinds() -> impl Iterator<Item = Kind> {
        let known = [Kind::Start, Incarnation::own().kind];
        let count = if known[0] == known[1] { 1 } else { 2 };
        known.into_iter().take(count)
    }

    fn own(kind: Kind) -> u64 {
        match kind {
            Kind::Start => own_start_time(),
            Kind::Descriptor => Incarnation::own().number,
        }
    }

    #[test]
    fn the_namespace_is_that_of_this_process() {
        let seen = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        assert_eq!(pid_namespace(), seen);
        assert_eq!(namespace(PIDFD_GET_PID_NAMESPACE, "pid"), seen);
    }

    #[test]
    fn incarnations_tell_processes_apart() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        for kind in kinds() {
            let mine = own(kind);
            assert_ne!(mine, 0);
            assert_eq!(fate(id(), kind), Fate::There(mine));
            assert!(matches!(fate(child.id(), kind), Fate::There(later) if later > mine));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for kind in kinds() {
            assert_eq!(fate(child.id(), kind), Fate::Gone);
            assert_eq!(fate(0, kind), Fate::Gone);
            assert_eq!(fate(u32::MAX, kind), Fate::Gone);
        }
        assert!(exists(1) && !exists(0) && !exists(u32::MAX));
    }

    #[test]
    fn a_forked_child_is_another() {
        let mine = Incarnation::own();
        let child = Child::fork(|| {
            let own = Incarnation::own();
            assert!(own.kind == Kind::Start || own.number > mine.number);
            assert!(own.number >= mine.number && own.kind == mine.kind);
        });
        child.succeed();
    }

    #[test]
    fn a_zombie_is_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        for kind in kinds() {
            eventually("it has ended", || fate(child.id(), kind) == Fate::Gone);
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_process_lives_without_its_first_thread() {
        let child = Child::fork(|| {
            std::thread::spawn(|| sleep_for_ever());
            // SAFETY: ends this thread only, at once.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        let stat = || parse_stat(&fs::read(format!("/proc/{}/stat", child.pid)).unwrap()).unwrap();
        eventually("its first thread has ended", || stat().ended);
        assert_eq!(stat().threads, 2);
        for kind in kinds() {
            assert!(matches!(fate(child.pid as u32, kind), Fate::There(_)));
        }
        child.kill();
    }

    #[test]
    fn a_number_of_a_thread_is_no_process() {
        let numbers = std::thread::spawn(|| {
            let number = thread_id();
            (number, kinds().map(|kind| fate(number, kind)).collect())
        });
        let (number, fates): (u32, Vec<_>) = numbers.join().unwrap();
        assert_ne!(number, id());
        for (kind, fate) in kinds().zip(fates) {
            match kind {
                // `/proc` has files for threads, too.
                Kind::Start => assert!(matches!(fate, Fate::There(_))),
                Kind::Descriptor => assert_eq!(fate, Fate::Gone),
            }
        }
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let fields: Vec<String> = (4..30).map(|field| field.to_string()).collect();
        let stat = format!("12 (a) b (\u{fe} S 1 2) Z {}", fields.join(" "));
        let expected = Stat {
            ended: true,
            threads: 20,
            start: 22,
        };
        assert_eq!(parse_stat(stat.as_bytes()), Some(expected));
        assert_eq!(parse_stat(b"12 (a) R 1"), None);
        assert_eq!(parse_stat(b""), None);
    }
}
