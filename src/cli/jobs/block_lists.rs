//! `--ip-filter`: reads the block lists, and says what is in them.

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::load::cause;
use crate::cli::jobs::run::Refusal;
use crate::cli::options::config::{Config, Verbosity};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::message;
use crate::client::{IpFilterError, IpFilterFiles, IpFilterProblem, ListReport, Session};
use crate::text::{count, escape};

/// Reads the lists that the user names, if there are any. What is said of them goes to standard error.
pub(super) fn load(config: &Config) -> Result<Option<IpFilterFiles>, Refusal> {
    if config.ip_filter.is_empty() {
        return Ok(None);
    }
    let files = IpFilterFiles::load(config.ip_filter.clone())
        .map_err(|error| (Exit::Usage, anyhow!("{}", not_read(&error))))?;
    for (mark, text) in files.reports().flat_map(|report| said(report, config)) {
        message(mark, &text, config.color_stderr);
    }
    Ok(Some(files))
}

/// Reads those again that have changed, and has the session keep to them. Returns what is to be said.
pub(super) fn renew(files: &mut IpFilterFiles, session: &Session, config: &Config) -> Vec<(Mark, String)> {
    match files.reload() {
        Ok(reports) if reports.is_empty() => Vec::new(),
        Ok(reports) => {
            // An error means that the session has ended, and that comes as an event.
            let _ = session.set_ip_filter(Some(files.filter()));
            reports.iter().flat_map(|report| said(report, config)).collect()
        }
        Err(error) => {
            vec![(Mark::Error, format!("{}; the addresses of before stay refused", not_read(&error)))]
        }
    }
}

/// What is said of a list. No event tells of it, so that a warning is one beside `--json` too.
fn said(report: &ListReport, config: &Config) -> Vec<(Mark, String)> {
    let name = escape(&report.name);
    let mut said = Vec::new();
    if let Some(first) = report.first_bad.filter(|_| !config.is_quiet) {
        let text = match report.bad {
            1 => format!("{name}: line {first} names no addresses and was passed over"),
            bad => {
                format!("{name}: {bad} lines name no addresses and were passed over, line {first} the first")
            }
        };
        said.push((Mark::Warning, text));
    }
    if config.verbosity > Verbosity::Normal {
        let ranges = count(report.blocked, "range");
        said.push((Mark::Plain, format!("{name}: {ranges} of addresses to refuse")));
    }
    said
}

fn not_read(error: &IpFilterError) -> String {
    let path = escape(&error.path.to_string_lossy()).into_owned();
    let why = match &error.problem {
        IpFilterProblem::Unreadable(error) => {
            format!("{}; check the path given to --ip-filter", cause(error))
        }
        IpFilterProblem::NotAList => {
            "none of its lines names addresses; give a list as p2p, dat, ranges or CIDR, packed with gzip or not, e.g. lines like 192.0.2.0/24"
                .to_owned()
        }
        problem => format!("{problem}; give a shorter list"),
    };
    format!("cannot read the block list {path}: {why}")
}
