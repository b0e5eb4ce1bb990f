//! What a person sees while tasks run: a bar on standard error when that is a terminal, and a
//! summary at the end.

use std::fmt::Write;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use pool_protocol::outcome::Status;

use super::super::error::CliError;
use super::super::output;

/// The bar, if there is a terminal for it, and the way past it to both outputs.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The lines go to a terminal too, likely the same: the bar must make way for them.
    shares_terminal: bool,
}

/// How tasks ended.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
    pub(super) cancelled: u64,
    pub(super) rejected: u64,
}

impl Tally {
    pub(super) fn count(&mut self, status: Status) {
        match status {
            Status::Succeeded => self.succeeded += 1,
            Status::Failed => self.failed += 1,
            Status::TimedOut => self.timed_out += 1,
            Status::Cancelled => self.cancelled += 1,
            Status::Rejected => self.rejected += 1,
        }
    }

    pub(super) fn all_succeeded(&self) -> bool {
        self.failed + self.timed_out + self.cancelled + self.rejected == 0
    }

    fn total(&self) -> u64 {
        self.succeeded + self.failed + self.timed_out + self.cancelled + self.rejected
    }

    fn summary(&self, success: &str) -> String {
        let mut text = format!("{} {success}", self.succeeded);
        for (count, name) in [
            (self.failed, "failed"),
            (self.timed_out, "timed out"),
            (self.cancelled, "cancelled"),
            (self.rejected, "rejected"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {name}"));
            }
        }
        text
    }
}

impl Progress {
    /// Shows a bar if standard error is a terminal. Its length is known when the tasks are in a
    /// file.
    pub(super) fn start(path: &Path) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, shares_terminal: false };
        }
        let bar = match count_lines(path) {
            Some(lines) => ProgressBar::new(lines)
                .with_style(style("{wide_bar} {human_pos}/{human_len} {rate} {eta}")),
            None => {
                ProgressBar::no_length().with_style(style("{spinner} {human_pos} tasks {rate}"))
            }
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar: Some(bar), shares_terminal: std::io::stdout().is_terminal() }
    }

    /// So many more tasks have been answered.
    pub(super) fn advance(&self, by: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(by as u64);
        }
    }

    /// Writes whole lines to standard output.
    ///
    /// # Errors
    /// [`CliError::Output`] when nobody reads it any more.
    pub(super) fn print(&self, lines: &[u8]) -> Result<(), CliError> {
        match &self.bar {
            _ if lines.is_empty() => Ok(()),
            Some(bar) if self.shares_terminal => bar.suspend(|| output::write_foreign(lines)),
            _ => output::write_foreign(lines),
        }
    }

    /// Says on standard error what is wrong with a line.
    pub(super) fn complain(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::complain(text)),
            None => output::complain(text),
        }
    }

    /// Takes the bar away and leaves a summary in its place.
    pub(super) fn finish(&self, tally: &Tally, no_wait: bool) {
        let Some(bar) = &self.bar else { return };
        let seconds = bar.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let success = if no_wait { "queued" } else { "succeeded" };
        let rate = tally.total() as f64 / seconds.max(1e-3);
        output::note(&format!("{} in {seconds:.1} s, {rate:.0} a second", tally.summary(success)));
    }
}

fn style(template: &'static str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        // The bar shows what it can; a line that cannot be written is drawn again soon.
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    let style = ProgressStyle::with_template(template).expect("the template is written here");
    style.with_key("rate", rate).progress_chars("=> ")
}

/// Lines of a plain file; a pipe cannot be read twice.
fn count_lines(path: &Path) -> Option<u64> {
    if path == Path::new("-") {
        return None;
    }
    let mut file =
        File::open(path).ok().filter(|file| file.metadata().is_ok_and(|m| m.is_file()))?;
    let mut chunk = vec![0; 256 * 1024];
    let mut lines = 0;
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(lines),
            n => lines += chunk[..n].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_did_not_succeed() {
        let mut tally = Tally::default();
        assert!(tally.all_succeeded());
        for status in [Status::Succeeded, Status::Rejected, Status::TimedOut, Status::Succeeded] {
            tally.count(status);
        }
        assert_eq!(tally.summary("succeeded"), "2 succeeded, 1 timed out, 1 rejected");
        assert!(!tally.all_succeeded());
    }
}
