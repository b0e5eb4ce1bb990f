//! Which program with which arguments, environment and folder a task may start.
//!
//! A task names a program as the configuration does, by the absolute path it resolved to, or by
//! that path's last part when only one program of the list has it. Nothing of a task is ever given
//! to a shell: `command` is cut into words, and its first word is looked up like `program`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pool_protocol::task::{InvalidTask, ShellData};
use pool_protocol::worker::{AllowedProgram, ShellSetup};
use regex::Regex;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// The default of `maxOutputBytes`.
const DEFAULT_OUTPUT_BYTES: u64 = 1024 * 1024;
/// The most a task may ask for; both streams are held in memory.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;

/// The variable that says where it is what time.
pub const TIME_ZONE: &str = "TZ";

/// Why a task starts no program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
    /// It is not allowed.
    #[error("{0}")]
    Denied(String),
}

/// An argument pattern of the configuration that is none.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the pattern of {program} in `shell.allow`: {reason}")]
pub struct BadPattern {
    program: String,
    reason: Box<regex::Error>,
}

/// One program of the allow-list.
#[derive(Debug)]
pub struct Program {
    /// As it is listed.
    pub listed: AllowedProgram,
    /// The listed file, if it was there when this process started. Held open, its number is not
    /// given to another file.
    pub file: Option<OwnedFd>,
    args: Option<Regex>,
}

/// The allow-list and what programs get.
#[derive(Debug)]
pub struct Rules {
    programs: Vec<Program>,
    env: BTreeMap<String, String>,
    task_env: Vec<String>,
    /// `TZ`, where neither the configuration nor a task sets it.
    time_zone: Option<String>,
    cwd: PathBuf,
    /// The largest file a program may write.
    pub file_bytes: u64,
    /// What a program that is told to end gets for it.
    pub kill_after: Duration,
    /// Permissions that files of programs' making do not get.
    pub umask: u32,
}

/// A command that may run.
#[derive(Debug)]
pub struct Command<'a> {
    /// What starts.
    pub program: &'a Program,
    /// Each matches the program's pattern as a whole.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Text for its standard input.
    pub stdin: String,
    /// Bytes per stream.
    pub max_output: usize,
    /// Exit codes that are results, besides 0.
    pub accept_exit: Vec<i32>,
}

impl Rules {
    /// Compiles the patterns and opens the programs.
    ///
    /// # Errors
    /// [`BadPattern`], naming the program.
    pub fn new(setup: &ShellSetup) -> Result<Self, BadPattern> {
        let programs = setup.allow.iter().map(|listed| {
            // INVARIANT: anchored outside a group, so that no alternative in the pattern escapes
            // the anchors.
            let args = listed
                .args
                .as_ref()
                .map(|args| Regex::new(&format!(r"\A(?:{args})\z")))
                .transpose();
            let args = args
                .map_err(|e| BadPattern { program: listed.program.clone(), reason: Box::new(e) })?;
            Ok(Program { listed: listed.clone(), file: open_listed(listed).ok(), args })
        });
        Ok(Self {
            programs: programs.collect::<Result<_, _>>()?,
            env: setup.env.clone(),
            task_env: setup.task_env.clone(),
            time_zone: None,
            cwd: PathBuf::from(setup.cwd.as_deref().unwrap_or("/")),
            file_bytes: setup.file_bytes,
            kill_after: Duration::from_millis(setup.kill_after_ms),
            umask: setup.umask,
        })
    }

    /// With the time zone that programs get when nobody sets `TZ` for them.
    #[must_use]
    pub fn in_time_zone(self, time_zone: Option<String>) -> Self {
        Self { time_zone, ..self }
    }

    /// Checks a task.
    ///
    /// # Errors
    /// [`Refusal`], naming the field or what is not allowed.
    pub fn command(&self, data: ShellData) -> Result<Command<'_>, Refusal> {
        let (name, args) = words(data.program, data.args, data.command)?;
        let program = self.program(&name)?;
        for (at, arg) in args.iter().enumerate() {
            program.check_arg(at, arg)?;
        }
        let max_output = data.max_output_bytes.unwrap_or(DEFAULT_OUTPUT_BYTES);
        if max_output > MAX_OUTPUT_BYTES {
            let problem = format!("must be at most {MAX_OUTPUT_BYTES}, not {max_output}");
            return Err(InvalidTask::new("maxOutputBytes", problem).into());
        }
        Ok(Command {
            program,
            args,
            env: self.env(data.env.unwrap_or_default())?,
            cwd: self.cwd(data.cwd.as_deref())?,
            stdin: data.stdin.unwrap_or_default(),
            max_output: usize::try_from(max_output).expect("bounded above"),
            accept_exit: data.accept_exit.unwrap_or_default(),
        })
    }

    fn program(&self, name: &str) -> Result<&Program, Refusal> {
        let exact =
            self.programs.iter().find(|p| p.listed.program == name || p.listed.resolved == name);
        if let Some(program) = exact {
            return Ok(program);
        }
        let denied = |why: &str| Refusal::Denied(format!("program {name:?} is not allowed: {why}"));
        if name.contains('/') {
            return Err(denied("`shell.allow` does not list it"));
        }
        let mut same = self
            .programs
            .iter()
            .filter(|p| Path::new(&p.listed.program).file_name() == Some(name.as_ref()));
        match (same.next(), same.next()) {
            (Some(program), None) => Ok(program),
            (Some(_), Some(_)) => {
                Err(denied("`shell.allow` lists several with this name, so name one by its path"))
            }
            (None, _) => Err(denied("`shell.allow` does not list it")),
        }
    }

    fn env(&self, given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
        let mut env = self.env.clone();
        if let Some(zone) = self.time_zone.as_ref().filter(|_| !env.contains_key(TIME_ZONE)) {
            env.insert(TIME_ZONE.to_owned(), zone.clone());
        }
        for (name, value) in given {
            let field = format!("env.{}", name.escape_default());
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(
                    InvalidTask::new(&field, "is no name and value of a variable".into()).into()
                );
            }
            // A variable can make a program load or run another, or undo what a pattern forbids in
            // an argument (`MAKEFLAGS`, `ZIPOPT`), and no list of such names would ever be whole.
            let why = if self.env.contains_key(&name) {
                Some("`shell.env` sets it")
            } else if self.task_env.iter().any(|listed| names(listed, &name)) {
                None
            } else {
                Some("`shell.taskEnv` does not list it")
            };
            if let Some(why) = why {
                return Err(Refusal::Denied(format!(
                    "field `{field}` is not for tasks to set: {why}"
                )));
            }
            env.insert(name, value);
        }
        Ok(env)
    }

    /// A task's folder must lie in the configured one, all links followed.
    fn cwd(&self, asked: Option<&str>) -> Result<PathBuf, Refusal> {
        let Some(asked) = asked else {
            return Ok(self.cwd.clone());
        };
        let root = self.cwd.canonicalize().unwrap_or_else(|_| self.cwd.clone());
        let path = self.cwd.join(asked).canonicalize().map_err(|e| {
            InvalidTask::new("cwd", format!("names {asked:?}, which cannot be entered: {e}"))
        })?;
        if !path.starts_with(&root) {
            let root = root.display();
            return Err(Refusal::Denied(format!(
                "folder {asked:?} is not allowed: it is outside {root} (`shell.cwd`)"
            )));
        }
        if !path.is_dir() {
            return Err(
                InvalidTask::new("cwd", format!("names {asked:?}, which is no folder")).into()
            );
        }
        Ok(path)
    }
}

impl Program {
    fn check_arg(&self, at: usize, arg: &str) -> Result<(), Refusal> {
        if arg.contains('\0') {
            return Err(InvalidTask::new(
                &format!("args[{at}]"),
                "must not hold a zero byte".into(),
            )
            .into());
        }
        let program = &self.listed.program;
        match &self.args {
            None => Err(Refusal::Denied(format!(
                "argument {arg:?} is not allowed: {program} is listed without a pattern"
            ))),
            Some(pattern) if pattern.is_match(arg) => Ok(()),
            Some(_) => Err(Refusal::Denied(format!(
                "argument {arg:?} is not allowed: it does not match the pattern of {program} as a \
                 whole"
            ))),
        }
    }
}

/// Whether an entry of `shell.taskEnv` names the variable: the whole name, or its beginning with a
/// `*` behind it.
fn names(listed: &str, variable: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(beginning) => variable.starts_with(beginning),
        None => variable == listed,
    }
}

/// Opens a program's file and makes sure that it is the listed one.
///
/// # Errors
/// [`Refusal`] when it cannot be opened or is another file.
pub fn open_listed(listed: &AllowedProgram) -> Result<OwnedFd, Refusal> {
    let path = &listed.resolved;
    let denied = |why: String| Refusal::Denied(format!("program {path} is not allowed: {why}"));
    let file =
        open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| denied(format!("the listed file cannot be opened: {e}")))?;
    let stat =
        fstat(&file).map_err(|e| denied(format!("the listed file cannot be looked at: {e}")))?;
    let is_same = (stat.st_dev, stat.st_ino) == (listed.device, listed.inode);
    if !is_same || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(denied(
            "another file has been put in its place since the configuration was read".into(),
        ));
    }
    Ok(file)
}

fn words(
    program: Option<String>,
    args: Option<Vec<String>>,
    command: Option<String>,
) -> Result<(String, Vec<String>), Refusal> {
    match (program, command) {
        (Some(program), None) => Ok((program, args.unwrap_or_default())),
        (None, Some(command)) => {
            if args.is_some() {
                return Err(InvalidTask::new(
                    "args",
                    "goes with `program`, not with `command`".into(),
                )
                .into());
            }
            let words = shell_words::split(&command)
                .map_err(|e| InvalidTask::new("command", format!("is not words: {e}")))?;
            let mut words = words.into_iter();
            let program =
                words.next().ok_or_else(|| InvalidTask::new("command", "is empty".into()))?;
            Ok((program, words.collect()))
        }
        (None, None) => Err(InvalidTask::new("program", "is missing (or `command`)".into()).into()),
        (Some(_), Some(_)) => {
            Err(InvalidTask::new("command", "replaces `program`: give one of them".into()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(program: &str, args: Option<&str>) -> AllowedProgram {
        AllowedProgram {
            program: program.into(),
            resolved: format!("/real{program}"),
            device: 1,
            inode: 1,
            args: args.map(Into::into),
        }
    }

    fn rules() -> Rules {
        let allow = vec![
            allowed("/usr/bin/wc", Some("-l|-c|[A-Za-z0-9._/][A-Za-z0-9._/-]*")),
            allowed("/usr/bin/true", None),
            allowed("/a/tool", Some("x")),
            allowed("/b/tool", Some("x")),
            allowed("/usr/bin/find", Some("[a-z]+|-name")),
        ];
        let env = BTreeMap::from([
            ("LANG".to_owned(), "C".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        let task_env = vec!["NAME".to_owned(), "APP_*".to_owned()];
        Rules::new(&ShellSetup {
            allow,
            env,
            task_env,
            cwd: Some("/usr".into()),
            ..ShellSetup::default()
        })
        .unwrap()
    }

    fn data(json: &str) -> ShellData {
        serde_json::from_str(json).unwrap()
    }

    fn refusal(json: &str) -> Refusal {
        rules().command(data(json)).unwrap_err()
    }

    #[test]
    fn a_program_is_known_by_its_listed_path_its_real_path_and_its_only_name() {
        let rules = rules();
        for name in ["/usr/bin/wc", "/real/usr/bin/wc", "wc"] {
            let command = rules
                .command(data(&format!(r#"{{"program":"{name}","args":["-l","a.txt"]}}"#)))
                .unwrap();
            assert_eq!(command.program.listed.program, "/usr/bin/wc");
            assert_eq!(command.args, ["-l", "a.txt"]);
        }
        for name in ["tool", "/bin/wc", "../usr/bin/wc", "cat", "", "WC"] {
            let refusal = refusal(&format!(r#"{{"program":"{name}"}}"#));
            assert!(matches!(refusal, Refusal::Denied(_)), "{name}: {refusal}");
        }
        assert!(matches!(
            Rules::new(&ShellSetup::default()).unwrap().command(data(r#"{"program":"true"}"#)),
            Err(Refusal::Denied(_))
        ));
    }

    #[test]
    fn a_command_is_cut_into_words_and_nothing_in_it_is_special() {
        let rules = rules();
        let command = rules.command(data(r#"{"command":"wc -l 'a.txt' b\\c"}"#)).unwrap();
        assert_eq!(command.args, ["-l", "a.txt", "bc"]);
        for text in ["wc a; id", "wc $(id)", "wc `id`", "wc a | wc", "wc *", "wc a&&id", "wc >x"] {
            let refusal = refusal(&format!(r#"{{"command":"{text}"}}"#));
            assert!(matches!(refusal, Refusal::Denied(_)), "{text}: {refusal}");
        }
        for text in ["", "'open", "  "] {
            assert!(
                matches!(refusal(&format!(r#"{{"command":"{text}"}}"#)), Refusal::Invalid(_)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pattern_must_match_each_argument_whole() {
        for arg in ["-exec", "-l;id", "x -l", "-l\\n", "a\\nb", "-c --files0-from=x", "é"] {
            let refusal = refusal(&format!(r#"{{"program":"wc","args":["{arg}\u0021"]}}"#));
            assert!(matches!(refusal, Refusal::Denied(_)), "{arg}: {refusal}");
        }
        for option in ["--version", "-L", "--files0-from=/etc/shadow", "--", "-"] {
            let refusal = refusal(&format!(r#"{{"program":"wc","args":["{option}"]}}"#));
            assert!(matches!(refusal, Refusal::Denied(_)), "{option}: {refusal}");
        }
        assert!(matches!(
            refusal(r#"{"program":"find","args":["a","-exec"]}"#),
            Refusal::Denied(_)
        ));
        assert!(matches!(refusal(r#"{"program":"wc","args":["-l\n"]}"#), Refusal::Denied(_)));
        assert!(matches!(refusal(r#"{"program":"true","args":["x"]}"#), Refusal::Denied(_)));
        assert!(matches!(refusal(r#"{"program":"wc","args":["a\u0000"]}"#), Refusal::Invalid(_)));
        assert!(rules().command(data(r#"{"program":"true"}"#)).is_ok());
    }

    #[test]
    fn tasks_set_the_variables_that_are_listed_for_them_and_no_others() {
        for (name, why) in [
            ("LD_PRELOAD", "`shell.taskEnv` does not list it"),
            ("MAKEFLAGS", "`shell.taskEnv` does not list it"),
            ("http_proxy", "`shell.taskEnv` does not list it"),
            ("name", "`shell.taskEnv` does not list it"),
            ("NAMES", "`shell.taskEnv` does not list it"),
            ("app_x", "`shell.taskEnv` does not list it"),
            ("LANG", "`shell.env` sets it"),
            ("PATH", "`shell.env` sets it"),
        ] {
            let refusal = refusal(&format!(r#"{{"program":"true","env":{{"{name}":"x"}}}}"#));
            assert!(matches!(refusal, Refusal::Denied(_)), "{name}: {refusal}");
            let text = refusal.to_string();
            assert!(text.contains(&format!("`env.{name}`")) && text.ends_with(why), "{text}");
        }
        assert!(matches!(refusal(r#"{"program":"true","env":{"A=B":"x"}}"#), Refusal::Invalid(_)));
        assert!(matches!(
            refusal(r#"{"program":"true","env":{"APP_=":"x"}}"#),
            Refusal::Invalid(_)
        ));
        let rules = rules();
        let command =
            rules.command(data(r#"{"program":"true","env":{"NAME":"x","APP_B":"y"}}"#)).unwrap();
        let env: Vec<_> = command.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(env, ["APP_B=y", "LANG=C", "NAME=x", "PATH=/bin"]);
    }

    #[test]
    fn the_time_zone_is_the_tasks_else_the_configurations_else_the_machines() {
        let zone = |env: &[(&str, &str)], task: &str| {
            let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let (allow, task_env) = (vec![allowed("/usr/bin/true", None)], vec!["TZ".to_owned()]);
            let setup = ShellSetup { allow, env, task_env, ..ShellSetup::default() };
            let rules = Rules::new(&setup).unwrap().in_time_zone(Some("Asia/Tokyo".into()));
            rules.command(data(task)).map(|command| command.env["TZ"].clone())
        };
        let plain = r#"{"program":"true"}"#;
        let asking = r#"{"program":"true","env":{"TZ":"UTC"}}"#;
        assert_eq!(zone(&[], plain).unwrap(), "Asia/Tokyo");
        assert_eq!(zone(&[("TZ", "Europe/Rome")], plain).unwrap(), "Europe/Rome");
        assert_eq!(zone(&[], asking).unwrap(), "UTC");
        assert!(zone(&[("TZ", "Europe/Rome")], asking).is_err());
        assert!(!rules().command(data(plain)).unwrap().env.contains_key("TZ"));
    }

    #[test]
    fn a_folder_must_lie_in_the_configured_one() {
        let rules = rules();
        let cwd = |json: &str| rules.command(data(json)).map(|c| c.cwd);
        assert_eq!(cwd(r#"{"program":"true"}"#).unwrap(), Path::new("/usr"));
        assert_eq!(cwd(r#"{"program":"true","cwd":"bin"}"#).unwrap(), Path::new("/usr/bin"));
        assert_eq!(cwd(r#"{"program":"true","cwd":"/usr/bin"}"#).unwrap(), Path::new("/usr/bin"));
        for outside in ["/", "..", "/etc", "bin/../../etc", "/usr/../etc"] {
            let refusal = cwd(&format!(r#"{{"program":"true","cwd":"{outside}"}}"#)).unwrap_err();
            assert!(matches!(refusal, Refusal::Denied(_)), "{outside}: {refusal}");
        }
        assert!(matches!(cwd(r#"{"program":"true","cwd":"no/such"}"#), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn fields_that_exclude_each_other_are_named() {
        for (json, field) in [
            (r"{}", "program"),
            (r#"{"program":"true","command":"true"}"#, "command"),
            (r#"{"command":"true","args":[]}"#, "args"),
            (r#"{"program":"true","maxOutputBytes":1000000000}"#, "maxOutputBytes"),
        ] {
            let text = refusal(json).to_string();
            assert!(text.contains(&format!("`{field}`")), "{text}");
        }
        let bad = ShellSetup { allow: vec![allowed("/x", Some("("))], ..ShellSetup::default() };
        assert!(Rules::new(&bad).unwrap_err().to_string().contains("/x"));
    }
}
