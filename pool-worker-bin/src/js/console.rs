//! `console`: lines of text that leave the engine as they are written.
//!
//! Owns the running task's log and its cap. Decides how arguments become a line; must not run code
//! of the user's while doing so.

use std::collections::HashMap;
use std::time::Instant;

use super::errors::{bounded, truncate, write_frames};
use super::host::host;
use super::inspect::inspect;
use super::task::{LogLevel, LogLine};

/// Called with a task's ticket for each line of its console, as it is written.
pub type LogSink = Box<dyn FnMut(u64, LogLevel, &str)>;

/// One line's length, before the task's own cap.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Labels of counters and stopwatches a task may have.
const MAX_LABELS: usize = 1000;

const MAX_GROUPS: usize = 20;

/// The log of the running task.
pub(super) struct TaskLog {
    sink: LogSink,
    limit: usize,
    ticket: u64,
    capture: bool,
    lines: Vec<LogLine>,
    bytes: usize,
    truncated: bool,
    groups: usize,
    counts: HashMap<String, u32>,
    clocks: HashMap<String, Instant>,
}

impl TaskLog {
    pub(super) fn new(sink: LogSink, limit: usize) -> Self {
        Self {
            sink,
            limit,
            ticket: 0,
            capture: false,
            lines: Vec::new(),
            bytes: 0,
            truncated: false,
            groups: 0,
            counts: HashMap::new(),
            clocks: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self, ticket: u64, capture: bool) {
        self.ticket = ticket;
        self.capture = capture;
    }

    /// The captured lines, and whether some are missing. Leaves an empty log.
    pub(super) fn end(&mut self) -> (Vec<LogLine>, bool) {
        self.bytes = 0;
        self.groups = 0;
        self.counts.clear();
        self.clocks.clear();
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.truncated))
    }

    fn write(&mut self, level: LogLevel, text: &str) {
        if self.truncated {
            return;
        }
        // The newline a line would end with counts, or empty lines were free.
        self.bytes += text.len() + 1;
        if self.bytes > self.limit {
            self.truncated = true;
            let mark = format!("(log truncated: more than {} bytes)", self.limit);
            self.deliver(LogLevel::Warn, &mark);
        } else {
            self.deliver(level, text);
        }
    }

    fn deliver(&mut self, level: LogLevel, text: &str) {
        (self.sink)(self.ticket, level, text);
        if self.capture {
            self.lines.push(LogLine { level, text: text.to_owned() });
        }
    }
}

/// Names and functions of the console object.
pub(super) fn functions() -> Vec<(&'static str, v8::FunctionCallback)> {
    use v8::MapFnTo as _;
    vec![
        ("log", log.map_fn_to()),
        ("info", info.map_fn_to()),
        ("debug", debug.map_fn_to()),
        ("warn", warn.map_fn_to()),
        ("error", error.map_fn_to()),
        ("dir", dir.map_fn_to()),
        ("table", dir.map_fn_to()),
        ("trace", trace.map_fn_to()),
        ("assert", assert.map_fn_to()),
        ("group", group.map_fn_to()),
        ("groupCollapsed", group.map_fn_to()),
        ("groupEnd", group_end.map_fn_to()),
        ("count", count.map_fn_to()),
        ("time", time.map_fn_to()),
        ("timeLog", time_log.map_fn_to()),
        ("timeEnd", time_end.map_fn_to()),
    ]
}

type Args<'s> = v8::FunctionCallbackArguments<'s>;
type Return<'s> = v8::ReturnValue<'s, v8::Value>;

fn log<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    print(scope, LogLevel::Log, &args, 0);
}

fn info<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    print(scope, LogLevel::Info, &args, 0);
}

fn debug<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    print(scope, LogLevel::Debug, &args, 0);
}

fn warn<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    print(scope, LogLevel::Warn, &args, 0);
}

fn error<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    print(scope, LogLevel::Error, &args, 0);
}

/// `console.dir(value)` and `console.table(value)`: the value alone, options ignored.
fn dir<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    if is_full(scope) {
        return;
    }
    let text = inspect(scope, args.get(0));
    emit(scope, LogLevel::Log, text);
}

fn trace<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    if is_full(scope) {
        return;
    }
    let mut text = String::from("Trace: ") + &format(scope, &args, 0);
    if let Some(frames) = v8::StackTrace::current_stack_trace(scope, 16) {
        write_frames(scope, frames, &mut text);
    }
    emit(scope, LogLevel::Error, text);
}

fn assert<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    if args.get(0).boolean_value(scope) || is_full(scope) {
        return;
    }
    let mut text = String::from("Assertion failed");
    if args.length() > 1 {
        text.push_str(": ");
        text.push_str(&format(scope, &args, 1));
    }
    emit(scope, LogLevel::Error, text);
}

fn group<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    if args.length() > 0 {
        print(scope, LogLevel::Log, &args, 0);
    }
    let host = host(scope);
    let mut log = host.log.borrow_mut();
    log.groups = (log.groups + 1).min(MAX_GROUPS);
}

fn group_end<'s>(scope: &mut v8::PinScope<'s, '_>, _args: Args<'s>, _rv: Return<'s>) {
    let host = host(scope);
    let mut log = host.log.borrow_mut();
    log.groups = log.groups.saturating_sub(1);
}

fn count<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    let label = label(scope, &args);
    let host = host(scope);
    let mut log = host.log.borrow_mut();
    if log.counts.len() >= MAX_LABELS && !log.counts.contains_key(&label) {
        return;
    }
    let count = log.counts.entry(label.clone()).or_default();
    *count += 1;
    let text = format!("{label}: {count}");
    drop(log);
    emit(scope, LogLevel::Log, text);
}

fn time<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    let label = label(scope, &args);
    let host = host(scope);
    let mut log = host.log.borrow_mut();
    if log.clocks.len() < MAX_LABELS {
        log.clocks.entry(label).or_insert_with(Instant::now);
    }
}

fn time_log<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    let label = label(scope, &args);
    let started = host(scope).log.borrow().clocks.get(&label).copied();
    print_time(scope, &label, started);
}

fn time_end<'s>(scope: &mut v8::PinScope<'s, '_>, args: Args<'s>, _rv: Return<'s>) {
    let label = label(scope, &args);
    let started = host(scope).log.borrow_mut().clocks.remove(&label);
    print_time(scope, &label, started);
}

fn print_time(scope: &mut v8::PinScope<'_, '_>, label: &str, started: Option<Instant>) {
    if let Some(started) = started {
        let ms = started.elapsed().as_secs_f64() * 1000.0;
        emit(scope, LogLevel::Log, format!("{label}: {ms:.3}ms"));
    } else {
        emit(scope, LogLevel::Warn, format!("no timer named {label}"));
    }
}

fn label<'s>(scope: &mut v8::PinScope<'s, '_>, args: &Args<'s>) -> String {
    const MAX_LABEL_BYTES: usize = 128;
    let label = args.get(0);
    if label.is_undefined() {
        return "default".to_owned();
    }
    let mut label = display(scope, label);
    truncate(&mut label, MAX_LABEL_BYTES);
    label
}

/// Whether the task's log is full, so that formatting would be wasted.
fn is_full(scope: &mut v8::PinScope<'_, '_>) -> bool {
    host(scope).log.borrow().truncated
}

fn print<'s>(scope: &mut v8::PinScope<'s, '_>, level: LogLevel, args: &Args<'s>, first: i32) {
    if is_full(scope) {
        return;
    }
    let text = format(scope, args, first);
    emit(scope, level, text);
}

fn emit(scope: &mut v8::PinScope<'_, '_>, level: LogLevel, mut text: String) {
    truncate(&mut text, MAX_LINE_BYTES);
    let host = host(scope);
    let mut log = host.log.borrow_mut();
    if log.groups > 0 {
        let indent = "  ".repeat(log.groups);
        text = indent.clone() + &text.replace('\n', &format!("\n{indent}"));
    }
    log.write(level, &text);
}

/// The arguments as one line: `%` directives of the first one if it is a string, the rest separated
/// by blanks.
fn format<'s>(scope: &mut v8::PinScope<'s, '_>, args: &Args<'s>, first: i32) -> String {
    let mut text = String::new();
    let mut next = first;
    if let Ok(template) = v8::Local::<v8::String>::try_from(args.get(first))
        && args.length() > first
    {
        let template = bounded(scope, template, MAX_LINE_BYTES);
        next += 1;
        if args.length() > next && template.contains('%') {
            expand(scope, &template, args, &mut next, &mut text);
        } else {
            text.push_str(&template);
        }
    }
    while next < args.length() && text.len() < MAX_LINE_BYTES {
        if next > first {
            text.push(' ');
        }
        text.push_str(&display(scope, args.get(next)));
        next += 1;
    }
    text
}

fn expand<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    template: &str,
    args: &Args<'s>,
    next: &mut i32,
    text: &mut String,
) {
    let mut chars = template.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        match chars.peek().copied() {
            Some('%') => {
                text.push('%');
                chars.next();
            }
            Some(directive @ ('s' | 'd' | 'i' | 'f' | 'j' | 'o' | 'O' | 'c'))
                if *next < args.length() =>
            {
                chars.next();
                let value = args.get(*next);
                *next += 1;
                match directive {
                    'c' => {}
                    's' => text.push_str(&display(scope, value)),
                    'i' => text.push_str(&whole_number(scope, value)),
                    _ => text.push_str(&inspect(scope, value)),
                }
            }
            _ => text.push('%'),
        }
        if text.len() > MAX_LINE_BYTES {
            return;
        }
    }
}

fn whole_number(scope: &mut v8::PinScope<'_, '_>, value: v8::Local<'_, v8::Value>) -> String {
    match v8::Local::<v8::Number>::try_from(value) {
        Ok(number) => {
            let whole = v8::Number::new(scope, number.value().trunc());
            inspect(scope, whole.into())
        }
        Err(_) => inspect(scope, value),
    }
}

/// A string as it is, anything else inspected.
fn display(scope: &mut v8::PinScope<'_, '_>, value: v8::Local<'_, v8::Value>) -> String {
    match v8::Local::<v8::String>::try_from(value) {
        Ok(string) => bounded(scope, string, MAX_LINE_BYTES),
        Err(_) => inspect(scope, value),
    }
}
