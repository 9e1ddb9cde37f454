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
            eprintln!("{error}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    keep_memory();
    measure::pin(0);
    let mut report = Report::new(settings.json);
    report.print_settings(&settings);
    workloads::alloc::run(&settings, &mut report);
    workloads::map::run(&settings, &mut report);
    workloads::vec::run(&settings, &mut report);
    workloads::list::run(&settings, &mut report);
    workloads::mutex::run(&settings, &mut report);
    workloads::slots::run(&settings, &mut report);
    workloads::attach::run(&settings, &mut report);
    workloads::fill::run(&settings, &mut report);
    report.print_summary();
    if let Some(folder) = &settings.plot
        && let Err(error) = plot::write(folder, &report.rows)
    {
        eprintln!("could not write charts to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Has glibc keep what is freed, as an arena does: otherwise `std` and `hashbrown`, which allocate
/// with it, would pay for fresh pages in every round.
fn keep_memory() {
    // SAFETY: these take numbers only.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
