//! The command line's grammar. What a value may be is judged here, so that a mistake is known
//! before anything is tried.

use std::path::PathBuf;

use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};
use pool_protocol::id::{TaskId, check_project_id};
use pool_protocol::limits::{DEFAULT_MAX_ATTEMPTS, MAX_ATTEMPTS, MAX_EVENTS, MAX_PRIORITY};
use pool_protocol::units::{parse_duration_ms, parse_size};

/// Talk to a process pool: run tasks, watch them, administer the pool.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, max_term_width = 100)]
pub(super) struct Args {
    /// The supervisor's control socket [default: $POOL_SOCKET, else pool.sock in
    /// $RUNTIME_DIRECTORY, in $XDG_RUNTIME_DIR/process-pool, or in /run/process-pool for root and
    /// /tmp/process-pool-UID for others]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run one task and print its result
    #[command(after_help = RUN_EXITS)]
    Run(Box<Run>),
    /// Run many tasks: one JSON object a line in, one outcome a line out as they finish
    #[command(after_help = SUBMIT_HELP)]
    Submit(Submit),
    /// Show the pool in figures
    Status(Form),
    /// List the workers
    Workers(Workers),
    /// List the projects
    Projects(Form),
    /// Show a task's state, or its outcome once it has ended
    Task(TaskArgs),
    /// Show what happened in the pool, oldest first
    #[command(after_help = EVENTS_HELP)]
    Events(Events),
    /// Cancel a task, waiting or running
    Cancel {
        /// The task
        #[arg(value_name = "ID", value_parser = task_id)]
        id: TaskId,
        #[command(flatten)]
        form: Form,
    },
    /// Set how many tasks of a project may run at once
    Limit {
        /// The project
        #[arg(value_name = "PROJECT", value_parser = project)]
        project: String,
        /// How many; 0 pauses it; none lifts what was set, and the configuration holds again
        #[arg(value_name = "N|none", value_parser = project_limit)]
        limit: ProjectLimit,
        #[command(flatten)]
        form: Form,
    },
    /// Take no new tasks, let those finish that can run before pool.drainTimeout, then stop
    Drain(Form),
    /// Apply the configuration file again
    Reload {
        /// With new workers, which load every module anew: the way to deploy changed module files
        #[arg(long)]
        modules: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Attack every layer and limit of the running pool, and show what stopped each attack
    #[command(after_help = DOCTOR_EXITS)]
    Doctor(Form),
    /// Stop the supervisor
    Shutdown {
        /// Without waiting for running tasks
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        form: Form,
    },
}

const RUN_EXITS: &str = "Exits with 0 when the task succeeded, 1 when it failed, 124 when its time \
    ran out, 125 when it was \
                         refused or there is no supervisor, 130 when it was cancelled. Ctrl-C \
                         cancels it.";

const DOCTOR_EXITS: &str = "Exits with 0 when all that the configured level promises bites, 1 when \
    something does not, naming \
                            it, 125 when there is no supervisor.";

const SUBMIT_HELP: &str = "A line that is no task is reported with its number, gives a line with \
    the status \"rejected\", and \
                           does not stop the others. While the queue, or the project's part of it, \
                           is full, the tasks wait \
                           here and are sent again. Exits with 0 when every task succeeded, 1 when \
                           one did not, 125 when \
                           there is no supervisor or the connection breaks, 130 after Ctrl-C, \
                           which cancels what is in flight.";

const EVENTS_HELP: &str = "The pool keeps up to 65536 events. Without --since and --last, `events` \
    prints all of them, and \
                           `events --follow` only those to come.";

/// How a table is printed.
#[derive(Clone, Copy, Debug, Arguments)]
pub(super) struct Form {
    /// Print JSON instead of a table or a sentence
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Arguments)]
pub(super) struct Workers {
    /// Those that have ended, with the reason
    #[arg(long)]
    pub(super) dead: bool,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Arguments)]
pub(super) struct TaskArgs {
    /// The task
    #[arg(value_name = "ID", value_parser = task_id)]
    pub(super) id: TaskId,
    /// Wait until it has ended; exits as `run` does
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Arguments)]
pub(super) struct Events {
    /// Go on with what comes
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Begin after the event of this number
    #[arg(long, value_name = "N")]
    pub(super) since: Option<u64>,
    /// Begin with the newest N events; all that are kept, if they are fewer
    #[arg(long, value_name = "N", conflicts_with = "since",
          value_parser = clap::value_parser!(u64).range(1..=MAX_EVENTS as u64))]
    pub(super) last: Option<u64>,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Arguments)]
pub(super) struct Submit {
    /// The tasks, one JSON object a line; standard input without, or for `-`
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(super) file: PathBuf,
    /// Print each task's id as soon as it is queued, and do not wait for outcomes
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How many tasks may be in flight at once
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(super) window: u32,
    /// How often a task that names no maxAttempts may be tried (`run` tries once unless told
    /// otherwise)
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_ATTEMPTS,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_ATTEMPTS)))]
    pub(super) attempts: u16,
}

#[derive(Debug, Arguments)]
pub(super) struct Run {
    #[command(subcommand)]
    pub(super) task: GivenTask,
}

/// The five kinds of task.
#[derive(Debug, Subcommand)]
pub(super) enum GivenTask {
    /// A script: its completion value, or what it returns
    Code {
        /// The source; `-` reads it from standard input
        #[arg(value_name = "SOURCE", allow_negative_numbers = true)]
        source: String,
        /// A file with a JSON object whose keys become globals
        #[arg(long, value_name = "FILE")]
        context: Option<PathBuf>,
        #[command(flatten)]
        js: JsOptions,
        #[command(flatten)]
        common: RunOptions,
    },
    /// A function, called with arguments
    Function {
        /// The source of a function or an arrow; `-` reads it from standard input
        #[arg(value_name = "SOURCE", allow_negative_numbers = true)]
        source: String,
        /// Each is read as JSON; one that is no JSON is a string
        #[arg(value_name = "ARG", allow_negative_numbers = true)]
        args: Vec<String>,
        #[command(flatten)]
        js: JsOptions,
        #[command(flatten)]
        common: RunOptions,
    },
    /// A function of a module inside a configured root
    Module {
        /// The module
        #[arg(value_name = "PATH")]
        path: String,
        /// Each is read as JSON; one that is no JSON is a string
        #[arg(value_name = "ARG", allow_negative_numbers = true)]
        args: Vec<String>,
        /// The export to call; the default export without
        #[arg(long, value_name = "NAME")]
        method: Option<String>,
        #[command(flatten)]
        js: JsOptions,
        #[command(flatten)]
        common: RunOptions,
    },
    /// An HTTP request
    Http(Http),
    /// A program of the supervisor's allow-list, without a shell
    Shell(Shell),
}

#[derive(Debug, Arguments)]
pub(super) struct Http {
    /// Where to
    #[arg(value_name = "URL")]
    pub(super) url: String,
    /// GET, or POST when there is data
    #[arg(long, short = 'X', value_name = "NAME")]
    pub(super) method: Option<String>,
    /// A header line, such as 'Accept: text/plain'
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// Appended to the URL's query
    #[arg(long = "query", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(super) query: Vec<(String, String)>,
    /// The body: a text, or @FILE for a file's bytes (@- for standard input)
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) data: Option<String>,
    /// How many redirects are followed
    #[arg(long, value_name = "N")]
    pub(super) max_redirects: Option<u32>,
    /// The largest reply, such as 10MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_response: Option<u64>,
    /// Which replies are results: a status, a class such as 4xx, or any; several with commas
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    pub(super) accept_status: Vec<String>,
    #[command(flatten)]
    pub(super) common: RunOptions,
}

#[derive(Debug, Arguments)]
pub(super) struct Shell {
    /// The program and its arguments, after all options
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) words: Vec<String>,
    /// Where it starts
    #[arg(long, value_name = "FOLDER")]
    pub(super) cwd: Option<String>,
    /// Added to its environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(super) env: Vec<(String, String)>,
    /// A file for its standard input; `-` passes on our own
    #[arg(long, value_name = "FILE")]
    pub(super) stdin: Option<PathBuf>,
    /// The largest output per stream, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_output: Option<u64>,
    /// Exit codes that are results, besides 0
    #[arg(long, value_name = "N,…", value_delimiter = ',', allow_negative_numbers = true)]
    pub(super) accept_exit: Vec<i32>,
    #[command(flatten)]
    pub(super) common: RunOptions,
}

/// What only JavaScript tasks have.
#[derive(Debug, Arguments)]
pub(super) struct JsOptions {
    /// What the code runs in
    #[arg(long, value_name = "REALM")]
    pub(super) realm: Option<Realm>,
    /// Print what it writes to the console, on standard error
    #[arg(long)]
    pub(super) logs: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Realm {
    /// A context of its own
    Fresh,
    /// A context kept per project and worker
    Warm,
    /// A context that all projects share, in which nothing can be left behind
    Frozen,
}

/// What every task has.
#[derive(Debug, Arguments)]
pub(super) struct RunOptions {
    /// Whose task it is
    #[arg(long, short, value_name = "PROJECT", value_parser = project)]
    pub(super) project: Option<String>,
    /// 0 to 10; 10 runs first
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_PRIORITY))
    )]
    pub(super) priority: Option<u8>,
    /// Wall time of an attempt, such as 500ms or 30s; a plain number is milliseconds
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<u64>,
    /// How often it may be tried (a task of `submit` or of the HTTP API that names no maxAttempts:
    /// 3 times)
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_ATTEMPTS)))]
    pub(super) attempts: u16,
    /// Wait this long before it may run
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) delay: Option<u64>,
    /// When it must have ended: a time from now such as 30s, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = deadline)]
    pub(super) deadline: Option<Deadline>,
    /// The same key in the same project is the same task
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// A string that comes back in the outcome
    #[arg(long, value_name = "TEXT")]
    pub(super) tag: Option<String>,
    /// CPU time of an attempt
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) cpu: Option<u64>,
    /// Memory of an attempt, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) memory: Option<u64>,
    /// Print the whole outcome as JSON, with its receipt
    #[arg(long)]
    pub(super) json: bool,
}

/// A deadline as the task's JSON says it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
pub(super) enum Deadline {
    /// Milliseconds from now.
    In(u64),
    /// RFC 3339.
    At(String),
}

fn task_id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|error: pool_protocol::id::BadTaskId| error.to_string())
}

/// What a project's limit is set to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProjectLimit(pub(super) Option<u32>);

fn project_limit(text: &str) -> Result<ProjectLimit, String> {
    if text == "none" {
        return Ok(ProjectLimit(None));
    }
    match text.parse() {
        Ok(limit) => Ok(ProjectLimit(Some(limit))),
        Err(_) => Err(format!("a number from 0 to {}, or none", u32::MAX)),
    }
}

fn project(text: &str) -> Result<String, String> {
    check_project_id(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<u64, String> {
    parse_duration_ms(text).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

fn deadline(text: &str) -> Result<Deadline, String> {
    if let Ok(ms) = parse_duration_ms(text) {
        return Ok(Deadline::In(ms));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(Deadline::At(text.to_owned())),
        Err(_) => Err(
            "not a time from now such as 30s, nor an RFC 3339 time such as 2026-01-31T12:00:00Z"
                .to_owned(),
        ),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("not of the form 'Name: value'".to_owned()),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not of the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn everything_after_the_program_is_the_programs() {
        for line in [
            &["poolctl", "run", "shell", "--", "/bin/echo", "--json", "-5"][..],
            &["poolctl", "run", "shell", "--timeout", "3s", "/bin/echo", "--json", "-5"],
        ] {
            let args = Args::try_parse_from(line).expect("valid");
            let Command::Run(run) = args.command else { panic!("{line:?}") };
            let GivenTask::Shell(shell) = run.task else { panic!("{line:?}") };
            assert_eq!(shell.words, ["/bin/echo", "--json", "-5"], "{line:?}");
            assert!(!shell.common.json, "{line:?}");
        }
    }

    #[test]
    fn options_may_stand_after_a_functions_arguments_and_numbers_may_be_negative() {
        let line = [
            "poolctl",
            "run",
            "function",
            "(a,b)=>a+b",
            "40",
            "-2",
            "x y",
            "--json",
            "--priority",
            "3",
        ];
        let args = Args::try_parse_from(line).expect("valid");
        let Command::Run(run) = args.command else { panic!() };
        let GivenTask::Function { args, common, .. } = run.task else { panic!() };
        assert_eq!(args, ["40", "-2", "x y"]);
        assert!(common.json && common.priority == Some(3));
    }

    #[test]
    fn the_helps_say_how_often_a_task_is_tried_and_how_many_events_are_kept() {
        let help = |path: &[&str]| {
            let mut command = Args::command();
            command.build();
            let found = path
                .iter()
                .fold(&mut command, |at, name| at.find_subcommand_mut(name).expect("a command"));
            found.render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for what in ["code", "function", "module", "http", "shell"] {
            let text = help(&["run", what]);
            let other = format!("no maxAttempts: {DEFAULT_MAX_ATTEMPTS} times) [default: 1]");
            assert!(text.contains(&other), "{what}: {text}");
        }
        let text = help(&["submit"]);
        assert!(
            text.contains(&format!("told otherwise) [default: {DEFAULT_MAX_ATTEMPTS}]")),
            "{text}"
        );
        assert!(help(&["events"]).contains(&format!("keeps up to {MAX_EVENTS} events")));
    }

    #[test]
    fn what_comes_later_is_not_offered() {
        let help = Args::command().render_long_help().to_string();
        for word in ["top", "explain", "bench"] {
            assert!(!help.split_whitespace().any(|w| w == word), "{word}: {help}");
        }
    }
}
