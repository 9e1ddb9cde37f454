//! What the command line asks for.

use std::path::PathBuf;

/// How much is to be done, and what is to come out.
pub(crate) struct Settings {
    /// Less work, so that all of it takes 20 seconds.
    pub(crate) quick: bool,
    /// Lines of JSON instead of tables.
    pub(crate) json: bool,
    /// The folder for charts.
    pub(crate) plot: Option<PathBuf>,
    /// Of how many rounds the median is taken.
    pub(crate) rounds: usize,
    /// Parts of names of workloads; none means all.
    filters: Vec<String>,
}

/// What `--help` says, and whoever asks for something else.
pub(crate) const USAGE: &str = "usage: sharena-bench [--quick] [--json] [--plot DIR] [WORKLOAD...]
  --quick     less work, in 20 seconds
  --json      one line for each workload and rival: workload, system, its number (ns, us, B or %),
              ratio_to, the rival's number, ratio, and the bar, if there is one; settings go to stderr
  --plot DIR  charts (SVG) of what was measured
  WORKLOAD    only workloads whose names contain one of these
Boost is measured where the system has its headers; also another one, if BOOST_INCLUDE names its folder
when this is built.";

impl Settings {
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut settings = Settings {
            quick: false,
            json: false,
            plot: None,
            rounds: 7,
            filters: Vec::new(),
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (settings.quick, settings.rounds) = (true, 3),
                "--json" => settings.json = true,
                "--plot" => {
                    let folder = arguments.next().ok_or("--plot needs a folder\n")?;
                    settings.plot = Some(folder.into());
                }
                "--help" => return Err(String::new()),
                // `cargo bench` and its like add this one.
                "--bench" => {}
                option if option.starts_with('-') => return Err(format!("no option {option}\n")),
                filter => settings.filters.push(filter.to_owned()),
            }
        }
        Ok(settings)
    }

    /// Whether a workload of one of these names was asked for.
    pub(crate) fn wants(&self, names: &[impl AsRef<str>]) -> bool {
        let wanted = |filter: &String| {
            let mut names = names.iter();
            names.any(|name| name.as_ref().contains(filter.as_str()))
        };
        self.filters.is_empty() || self.filters.iter().any(wanted)
    }

    /// The parts of names that were asked for.
    pub(crate) fn filters(&self) -> &[String] {
        &self.filters
    }

    /// A count of things to do: a tenth of it when it has to be quick.
    pub(crate) fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }
}
