//! What was measured, as tables or as lines of JSON.

use crate::measure::{Bar, OURS, Row};

/// All rows so far.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Report {
        Report {
            rows: Vec::new(),
            json,
        }
    }

    /// Prints rows that belong together, and keeps them.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        if self.json {
            rows.iter().for_each(print_json);
        } else {
            print_table(&rows);
        }
        self.rows.extend(rows);
    }

    pub(crate) fn title(&self, title: &str) {
        if !self.json {
            println!("\n{title}");
        }
    }

    /// How many bars were met, and which were not.
    pub(crate) fn print_summary(&self) {
        if self.json {
            return;
        }
        let verdicts = self.rows.iter().flat_map(|row| {
            let verdict = move |bar: &Bar| Verdict::of(row, *bar);
            row.bars.iter().filter_map(verdict)
        });
        let (met, missed): (Vec<_>, Vec<_>) = verdicts.partition(|verdict| verdict.met);
        println!("\n{} bars met, {} missed", met.len(), missed.len());
        for verdict in missed {
            println!("  {}: {}", verdict.workload, verdict.text);
        }
    }
}

/// Whether a bar was met.
struct Verdict<'a> {
    workload: &'a str,
    text: String,
    met: bool,
}

impl<'a> Verdict<'a> {
    /// None where the rival was not measured.
    fn of(row: &'a Row, bar: Bar) -> Option<Verdict<'a>> {
        let (_, ours) = *row.results.first()?;
        let (met, text) = match bar {
            Bar::Times(rival, limit) => {
                let ratio = ours / row.result(rival)?;
                let text = match limit < 0.1 {
                    false => format!("{ratio:.2} of {rival}, bar {limit:.2}"),
                    true => format!(
                        "{:.1} times faster than {rival}, bar {:.0}",
                        1.0 / ratio,
                        1.0 / limit
                    ),
                };
                (ratio <= limit, text)
            }
            Bar::Below(rival) => {
                let ratio = ours / row.result(rival)?;
                (ratio < 1.0, format!("{ratio:.2} of {rival}, bar <1"))
            }
            Bar::AtMost(limit) => (
                ours <= limit,
                format!("{} {}, bar {limit}", short(ours), row.unit),
            ),
        };
        let workload = &row.workload;
        Some(Verdict {
            workload,
            text,
            met,
        })
    }
}

/// Three digits, or what stands before the point.
pub(crate) fn short(number: f64) -> String {
    match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

fn print_table(rows: &[Row]) {
    let mut systems: Vec<&str> = Vec::new();
    for (system, _) in rows.iter().flat_map(|row| &row.results) {
        if !systems.contains(system) {
            systems.push(system);
        }
    }
    let width = rows.iter().map(|row| row.workload.len()).max();
    let width = width.unwrap_or(0).max(32);
    print!("  {:width$} {:4}", "", "");
    for system in &systems {
        print!(" {:>w$}", system, w = system.len().max(8));
    }
    println!("  bars");
    for row in rows {
        print!("  {:width$} {:4}", row.workload, row.unit);
        for system in &systems {
            let number = row.result(system).map_or("-".to_owned(), short);
            print!(" {:>w$}", number, w = system.len().max(8));
        }
        let verdicts = row.bars.iter().filter_map(|bar| Verdict::of(row, *bar));
        let verdicts: Vec<String> = verdicts
            .map(|verdict| {
                let word = if verdict.met { "met" } else { "MISSED" };
                format!("{word} ({})", verdict.text)
            })
            .collect();
        println!("  {}", verdicts.join(", "));
    }
}

/// One line for each rival; where there is none, one for the number alone.
fn print_json(row: &Row) {
    let is_ours = |result: &&(&str, f64)| result.0.starts_with(OURS);
    for (ours, number) in row.results.iter().filter(is_ours) {
        let workload = &row.workload;
        let unit = row.unit;
        let number_json = json_number(*number);
        let head = format!(r#"{{"workload":"{workload}","system":"{ours}","{unit}":{number_json}"#);
        let mut rivals = row
            .results
            .iter()
            .filter(|result| !is_ours(result))
            .peekable();
        if rivals.peek().is_none() {
            println!("{head}{}}}", json_bar(row, None));
        }
        for (rival, other) in rivals {
            let (ratio, bar) = (json_number(number / other), json_bar(row, Some(rival)));
            let other = json_number(*other);
            println!(
                r#"{head},"ratio_to":"{rival}","rival_{unit}":{other},"ratio":{ratio}{bar}}}"#
            );
        }
    }
}

/// The bar for a rival, or the one for the number alone.
fn json_bar(row: &Row, rival: Option<&str>) -> String {
    let bar = row.bars.iter().find_map(|bar| match bar {
        Bar::Times(name, limit) if Some(*name) == rival => Some(*limit),
        Bar::Below(name) if Some(*name) == rival => Some(1.0),
        Bar::AtMost(limit) if rival.is_none() => Some(*limit),
        _ => None,
    });
    bar.map_or(String::new(), |bar| format!(r#","bar":{bar}"#))
}

fn json_number(number: f64) -> String {
    match number.is_finite() {
        true => format!("{number:.4}"),
        false => "null".to_owned(),
    }
}

/// Sharena's ratios to one rival, for charts.
pub(crate) fn ratios<'a>(rows: &'a [Row], rival: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    rows.iter().filter_map(move |row| {
        let ratio = row.result(OURS)? / row.result(rival)?;
        Some((row.workload.as_str(), ratio))
    })
}

/// Under which conditions the numbers came about: the first lines of every run.
const CONDITIONS: &str = "\
times        medians of rounds in turns (A B A B); processor time of the thread where nothing waits
             each turn behind a run that does not count, unless the work itself begins with new memory
sharena      a file on tmpfs (Arena::named), 256 slots, journal on, no huge pages
             blocks: reserved, private until they are linked; published: each in its own section
mimalloc     crate `mimalloc`, secure mode off, keeps what is freed
snmalloc     crate `snmalloc-rs`, without checks
glibc        malloc keeps what is freed (M_MMAP_MAX 0, no trimming); std and hashbrown use it too
hashbrown    sharena's hash function, with a seed from run time
talc         512 MiB of its own, behind parking_lot's mutex
iceoryx2     its pool allocator: blocks of one size, that of the largest
parking_lot  as it comes
mmap-sync    in files on tmpfs, read without validation
LMDB         crate `heed`, on tmpfs, written through its map, no flushing, one transaction
";

impl Report {
    pub(crate) fn print_settings(&self, settings: &crate::settings::Settings) {
        let (mut text, rounds) = (CONDITIONS.to_owned(), settings.rounds);
        #[cfg(boost)]
        for boost in crate::rivals::boost::all() {
            text += &format!("{:12} {}\n", boost.name, boost.description());
        }
        #[cfg(not(boost))]
        text.push_str("Boost        not installed: left out\n");
        text += &format!("rounds       {rounds}");
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}
