//! `--plan`: says what each torrent's transfer would do, and does none of it.

use std::io::{self, Write};
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::cli::Exit;
use crate::cli::jobs::beside::beside;
use crate::cli::jobs::check::check_status;
use crate::cli::jobs::load::Loaded;
use crate::cli::jobs::run::{Refusal, no_stdout};
use crate::cli::options::config::Config;
use crate::cli::show::plan::{exit_of, show_plan, show_plan_json};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::{Screen, message};
use crate::client::{HashCheck, Plan, Planner, TorrentOptions};
use crate::metainfo::Metainfo;
use crate::text::escape;

/// Plans torrent after torrent, each with the weights of its files; the exit code is that of the worst.
pub(super) fn run_plan(config: &Config, torrents: Vec<(Loaded, Vec<u32>)>) -> Result<Exit, Refusal> {
    let mut planner = Planner::new(config.session.remedies);
    let mut screen = Screen::new(config, torrents.len(), Instant::now());
    let mut exit = Exit::Complete;
    let mut out = Some(io::stdout().lock());
    for (number, (torrent, priorities)) in torrents.into_iter().enumerate() {
        let options = TorrentOptions { priorities, ..config.torrent.clone() };
        let metainfo = &torrent.metainfo;
        let plan = plan_one(&mut planner, metainfo, &options, number, &mut screen)?;
        screen.hide(number);
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
    screen.clear();
    Ok(exit)
}

/// Plans a torrent beside this thread, and shows how far the reading is.
fn plan_one(
    planner: &mut Planner,
    metainfo: &Metainfo,
    options: &TorrentOptions,
    number: usize,
    screen: &mut Screen,
) -> Result<Plan, Refusal> {
    let check = HashCheck::new(Instant::now(), metainfo.layout.num_pieces());
    let pieces = Bitfield::full(metainfo.layout.num_pieces());
    // Until it is known how much there is to read, nothing of it would look like all.
    let status = |other, now| {
        let is_known = other == number && check.progress(now).1 > 0;
        is_known.then(|| check_status(metainfo, &pieces, &check, now))
    };
    beside(screen, "plan", || planner.plan_by(metainfo, options, &check), status)
}
