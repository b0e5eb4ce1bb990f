//! From lines to frames: reads tasks, checks them, and sends as many as the window has room for.
//!
//! A batch leaves when the window is full, when it is long enough, and whenever the next line is
//! not here yet: a slow producer's task must not wait for the next one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pool_protocol::limits::MAX_BODY_BYTES;
use pool_protocol::task::{self, Deadline, InvalidTask, Task};

use super::super::error::CliError;
use super::super::output;
use super::window::Window;
use crate::client::{Batch, Sender, SubmitOptions, now_ms};

/// Bytes read from the input at once.
const READ_BYTES: usize = 256 * 1024;
/// A batch is sent when it is this long.
const BATCH_BYTES: usize = 64 * 1024;
/// What some editors put before a file's first line.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// No task is longer: its body would not fit.
const MAX_LINE: usize = MAX_BODY_BYTES;

/// The tasks' source.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

/// Opens the file, or standard input for `-`.
///
/// # Errors
/// [`CliError::File`] naming it.
pub(super) fn open(path: &Path) -> Result<Lines<File>, CliError> {
    let failed = |reason| CliError::File { what: "the tasks in", path: path.to_owned(), reason };
    if path != Path::new("-") {
        return Ok(Lines::new(File::open(path).map_err(failed)?));
    }
    let stdin = io::stdin();
    // Not through `Stdin`, whose lock cannot go to another thread and whose buffer is small.
    Ok(Lines::new(File::from(stdin.as_fd().try_clone_to_owned().map_err(failed)?)))
}

/// A person who types nothing should know that it is their turn.
pub(super) fn announce(path: &Path) {
    if path == Path::new("-") && io::stdin().is_terminal() {
        output::note(
            "poolctl: reading tasks from the terminal, one JSON object a line; Ctrl-D ends them",
        );
    }
}

/// What was read.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    /// A line, without its end.
    Text(&'a [u8]),
    /// A line over [`MAX_LINE`]; it was skipped.
    TooLong,
    /// The input is at its end.
    End,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self { reader: BufReader::with_capacity(READ_BYTES, source), line: Vec::new(), number: 0 }
    }

    /// The next line that is not blank, with its number from 1.
    fn next(&mut self, max: usize) -> io::Result<(u64, Line<'_>)> {
        loop {
            self.line.clear();
            let mut bounded = (&mut self.reader).take(max as u64 + 1);
            if bounded.read_until(b'\n', &mut self.line)? == 0 {
                return Ok((self.number, Line::End));
            }
            self.number += 1;
            if self.number == 1 && self.line.starts_with(MARK) {
                self.line.drain(..MARK.len());
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            } else if self.line.len() > max {
                self.skip_line()?;
                return Ok((self.number, Line::TooLong));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok((self.number, Line::Text(&self.line)));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        self.line = Vec::new();
        self.reader.skip_until(b'\n').map(|_| ())
    }

    /// Whether another whole line can be had without waiting.
    fn more_is_here(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }
}

/// Where tasks go.
pub(super) struct Feeder<'a> {
    pub(super) window: &'a Window,
    pub(super) sender: &'a Mutex<Sender>,
    pub(super) options: SubmitOptions,
    /// `maxAttempts` of tasks that name none.
    pub(super) attempts: u16,
    /// Called with a line that is no task.
    pub(super) reject: &'a dyn Fn(&Rejected) -> Result<(), CliError>,
}

/// A line that is no task.
#[derive(Debug)]
pub(super) struct Rejected {
    /// From 1.
    pub(super) line: u64,
    pub(super) invalid: InvalidTask,
    /// The task's own string, if it could be read.
    pub(super) tag: Option<String>,
}

/// Why feeding ended early.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The input broke.
    Input(io::Error),
    /// The connection broke. Why is told by its reading half, which takes first what the supervisor
    /// still said.
    Connection,
    /// Our output broke.
    Report(CliError),
}

impl Feeder<'_> {
    /// Sends every task of the input; returns early when the window is stopped.
    ///
    /// # Errors
    /// [`FeedError`] with what broke.
    pub(super) fn feed<R: Read>(
        &self,
        lines: &mut Lines<R>,
        body_bytes: u64,
    ) -> Result<(), FeedError> {
        let mut batch = Batch::with_limit(body_bytes);
        let mut tasks = Vec::new();
        let mut room = 0;
        loop {
            if room == 0 {
                if !self.send(&mut batch, &mut tasks)? {
                    return Ok(());
                }
                room = match self.window.take_room() {
                    Some(room) => room,
                    None => return Ok(()),
                };
            }
            let (number, line) = lines.next(MAX_LINE).map_err(FeedError::Input)?;
            let rejected = |invalid, tag| Rejected { line: number, invalid, tag };
            let taken = match line {
                Line::End => break,
                Line::TooLong => Err(rejected(
                    InvalidTask::whole(format!("is longer than {MAX_LINE} bytes")),
                    None,
                )),
                Line::Text(text) => match task::parse(text) {
                    Ok(task) => self
                        .add(number, task, &mut batch)
                        .map_err(|(invalid, tag)| rejected(invalid, tag)),
                    Err(invalid) => Err(rejected(invalid, task::tag_of(text))),
                },
            };
            match taken {
                Ok(task) => {
                    tasks.push((number, task));
                    room -= 1;
                }
                Err(rejected) => (self.reject)(&rejected).map_err(FeedError::Report)?,
            }
            if (batch.len() >= BATCH_BYTES || !lines.more_is_here())
                && !self.send(&mut batch, &mut tasks)?
            {
                return Ok(());
            }
        }
        self.send(&mut batch, &mut tasks).map(|_| ())
    }

    /// Puts a task into the batch, as it may have to be sent again later.
    fn add(
        &self,
        number: u64,
        mut task: Task,
        batch: &mut Batch,
    ) -> Result<Box<Task>, (InvalidTask, Option<String>)> {
        let now_ms = now_ms();
        task.max_attempts.get_or_insert(self.attempts);
        if let Some(Deadline::In(ms)) = task.deadline {
            task.deadline = Some(Deadline::At(now_ms.saturating_add_unsigned(ms)));
        }
        match batch.submit(number, &task, now_ms, self.options) {
            Ok(()) => Ok(Box::new(task)),
            Err(too_long) => Err((InvalidTask::whole(too_long.to_string()), task.tag)),
        }
    }

    /// Sends what is gathered, once there is a place for it; `false` if nothing may be sent any
    /// more.
    fn send(
        &self,
        batch: &mut Batch,
        tasks: &mut Vec<(u64, Box<Task>)>,
    ) -> Result<bool, FeedError> {
        if batch.is_empty() {
            return Ok(true);
        }
        self.window.wait_until_clear();
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // INVARIANT: noted before sent and under the sender's lock, so that Ctrl-C either finds a
        // task in flight, and its cancel goes after it, or keeps it from being sent.
        if !self.window.note_sent(tasks) {
            return Ok(false);
        }
        sender.send(batch).map_err(|_| FeedError::Connection)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, max: usize) -> Vec<(u64, String)> {
        let mut lines = Lines::new(text.as_bytes());
        let mut seen = Vec::new();
        loop {
            match lines.next(max).expect("memory reads") {
                (_, Line::End) => return seen,
                (number, Line::TooLong) => seen.push((number, "too long".to_owned())),
                (number, Line::Text(text)) => {
                    seen.push((number, String::from_utf8_lossy(text).into_owned()))
                }
            }
        }
    }

    #[test]
    fn blank_lines_count_but_are_no_tasks_and_the_last_line_needs_no_end() {
        let seen = lines("a\n\n \r\nbb\r\nc", 100);
        assert_eq!(seen, [(1, "a".into()), (4, "bb\r".into()), (5, "c".into())]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(lines("\u{feff}a\nb", 100), [(1, "a".into()), (2, "b".into())]);
        assert_eq!(lines("\u{feff}\nb", 100), [(2, "b".into())]);
    }

    #[test]
    fn a_line_over_the_bound_is_skipped_whole() {
        let seen = lines("123456789\nab\n1234\n12345\n123456", 4);
        let long = || "too long".to_owned();
        assert_eq!(
            seen,
            [(1, long()), (2, "ab".into()), (3, "1234".into()), (4, long()), (5, long())]
        );
    }
}
