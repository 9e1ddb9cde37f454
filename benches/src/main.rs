//! Times sharena against what its users would pick instead, in the same run.

mod measure;
mod plot;
mod processes;
mod rivals;
mod settings;
mod table;
mod workloads;

use settings::{Settings, USAGE};
use std::process::ExitCode;
use table::Report;

fn main() -> ExitCode {
    keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == processes::WORKER)
    {
        workloads::play(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::from_arguments(arguments.into_iter()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    measure::pin(0);
    let mut report = Report::new(settings.json);
    report.print_settings(&settings);
    workloads::alloc::run(&settings, &mut report);
    workloads::map::run(&settings, &mut report);
    workloads::vec::run(&settings, &mut report);
    workloads::list::run(&settings, &mut report);
    workloads::mutex::run(&settings, &mut report);
    workloads::rwlock::run(&settings, &mut report);
    workloads::slots::run(&settings, &mut report);
    workloads::attach::run(&settings, &mut report);
    workloads::fill::run(&settings, &mut report);
    workloads::journal::run(&settings, &mut report);
    workloads::pages::run(&settings, &mut report);
    if report.rows.is_empty() {
        let asked = settings.filters().join("`, `");
        eprintln!("no workload's name contains `{asked}`: without one, all are run and listed");
        return ExitCode::FAILURE;
    }
    report.print_summary();
    if let Some(folder) = &settings.plot
        && let Err(error) = plot::write(folder, &report.rows)
    {
        eprintln!("could not write charts to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Has glibc and mimalloc keep what is freed, as an arena does: otherwise they, and `std` and
/// `hashbrown`, which allocate with glibc, would pay for fresh pages in every round.
fn keep_memory() {
    /// Not among the names that the crate gives; -1: never give pages back.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: these take numbers only.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
