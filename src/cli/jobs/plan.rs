//! `--plan`: says what each torrent's transfer would do, and does none of it.

use std::io::{self, Write};

use crate::cli::Exit;
use crate::cli::jobs::load::Loaded;
use crate::cli::jobs::run::{Refusal, no_stdout};
use crate::cli::options::config::Config;
use crate::cli::show::plan::{exit_of, show_plan, show_plan_json};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::message;
use crate::client::{Planner, TorrentOptions};
use crate::text::escape;

/// Plans torrent after torrent, each with the weights of its files; the exit code is that of the worst.
pub(super) fn run_plan(config: &Config, torrents: Vec<(Loaded, Vec<u32>)>) -> Result<Exit, Refusal> {
    let mut planner = Planner::new(config.session.remedies);
    let mut exit = Exit::Complete;
    let mut out = Some(io::stdout().lock());
    for (number, (torrent, priorities)) in torrents.into_iter().enumerate() {
        let options = TorrentOptions { priorities, ..config.torrent.clone() };
        let metainfo = &torrent.metainfo;
        let plan = planner.plan(metainfo, &options);
        let shown = out.as_mut().map_or(Ok(()), |out| match config.json {
            Some(_) => show_plan_json(metainfo, &plan, out),
            None if number > 0 => out.write_all(b"\n").and_then(|()| show_plan(metainfo, &plan, out)),
            None => show_plan(metainfo, &plan, out),
        });
        match shown {
            // `btget --plan x.torrent | head` has all it wants; the exit code is that of all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => out = None,
            other => other.map_err(no_stdout)?,
        }
        if let Some((_, reason)) = plan.obstacles.first() {
            let code = exit_of(&plan).code();
            let text = format!("{}: {reason} (exit code {code})", escape(&metainfo.name));
            message(Mark::Error, &text, config.color_stderr);
        }
        exit = exit.worst(exit_of(&plan));
    }
    Ok(exit)
}
