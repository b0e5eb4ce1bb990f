//! Every setting there is: its key, its default, what it means.
//!
//! One table for three readers: the error about an unknown key, the page `docs/configuration.md`,
//! and the test that holds the effective configuration against it. `*` stands for a name of the
//! user's own.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Path from the top of the file.
    pub path: &'static str,
    /// As people write it; what it is without the key.
    pub default: &'static str,
    /// What it decides, with its bounds.
    pub meaning: &'static str,
}

const fn key(path: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { path, default, meaning }
}

/// All settings, in the order of the effective configuration.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("pool.minWorkers", "1", "workers that always live; 1 to 4096"),
    key("pool.maxWorkers", "the number of CPUs, at least \
        `minWorkers`", "workers that may live at once; 1 to 4096"),
    key("pool.autoScale", "true", "whether the number of workers follows the load"),
    key("pool.scaleUpThreshold", "0.8", "one more worker above this load, (running + waiting) / \
        workers; over `scaleDownThreshold`, at most 1000"),
    key("pool.scaleDownThreshold", "0.2", "one fewer worker below this load; over 0"),
    key("pool.scaleCooldown", "1s", "time between two steps of scaling; 0 to 1h"),
    key("pool.maxTasksPerWorker", "100", "tasks (± 10 %) until a worker is replaced, not before \
        they have kept it busy for 10 times as long as a start takes (about 50 ms), and with tiny \
        ones (under 300 µs each) not before it has lived for 80 times as long (about 400 ms); 0 is \
        never. For a process per task set `tenancy`"),
    key("pool.maxMemoryPerWorker", "512MiB", "resident memory above which a worker is replaced; 0 \
        is never, else at least 32MiB"),
    key("pool.maxWorkerAge", "1h", "age above which a worker is replaced; 0 is never"),
    key("pool.workerIdleTimeout", "60s", "idle time after which a worker above the minimum goes; 0 \
        is never"),
    key("pool.heartbeatInterval", "1s", "time between two heartbeats of a worker, three missed \
        ones and it is killed (ten where the machine is so busy that the supervisor is woken \
        late, by a tenth of this); 50ms to 1h"),
    key("pool.spawnTimeout", "10s", "time from a worker's start until it is ready, else it is \
        killed; 100ms to 1h"),
    key("pool.drainTimeout", "30s", "time that tasks get to finish when the pool stops; what could \
        not start within it (a longer delay, a paused project) is not waited for; 0 to 30d"),
    key("pool.queueSize", "100000", "tasks that may wait; 1 to 10000000"),
    key("pool.queueBytes", "1GiB", "bytes that the bodies of all tasks that have not ended may \
        hold together; 1MiB to 1TiB"),
    key("pool.resultTtl", "10m", "time a finished task's outcome is kept for those who ask later; \
        0 to 30d"),
    key("pool.priorityAgeing", "10s", "each such time of waiting counts as one more step of \
        priority; 1ms to 30d"),
    key("pool.setAside", "10m", "time for which a task that has ended its workers by its own doing \
        is not run again: its like, by project, type and body, fail at once; a reload forgets \
        them, as does 0; 0 to 30d"),
    key("limits.timeout", "5m", "a task's `timeout` when it names none; 1ms to 30d"),
    key("limits.cpuMs", "1m", "CPU time of a task: the default and the most; 1ms to 30d"),
    key("limits.memoryBytes", "128MiB", "memory of a task: the default and the most; 4MiB to \
        64GiB"),
    key("limits.resultBytes", "8MiB", "largest result of a task; 1KiB to 255MiB"),
    key("limits.bodyBytes", "8MiB", "largest task, and largest body of an HTTP API request; 1KiB \
        to 256MiB"),
    key("limits.openFiles", "64", "descriptors a worker may hold; 32 to 1048576"),
    key("limits.fileBytes", "1GiB", "largest file a program may write; 0 to 1024TiB"),
    key("limits.processes", "64", "processes and threads that a program may have at once, with all \
        its descendants, where there is a control group; 1 to 1000000"),
    key("limits.cpus", "none", "CPUs that one worker may use at once, such as `0.5` or `2`, where \
        there is a control group; 0.01 to 4096"),
    key("trust", "trusted", "whose code the tasks are: `trusted` implies nothing; `untrusted`, for \
        code of strangers, implies `isolation` `strict`, `tenancy` `project`, `cgroup.mode` \
        `required` and `http.public` `deny`, each unless it is given"),
    key("isolation", "standard", "`strict`: every layer of confinement that is promised, or no \
        pool; `standard`: every layer that the machine gives, what is missing is said; `off`: \
        limits of resources only"),
    key("cgroup.mode", "auto", "control groups: `auto` uses them where they are delegated to the \
        supervisor or `path` names one; `required`: no pool without a group, `memory.max` and \
        `pids.max` for each worker; `off`"),
    key("cgroup.path", "auto", "absolute path of a control group (version 2) that is the \
        supervisor's to use; `auto` is the one it was started in, if that was delegated"),
    key("tenancy", "shared", "what may share a worker: `shared`: tasks of all projects, one after \
        the other; `project`: tasks of one project, the worker is replaced before another one is \
        served; `task`: nothing, a worker serves one attempt of one task, and up to as many again \
        as run wait ready for the next"),
    key("workerPath", "auto", "absolute path of the `pool-worker` program; `auto` is beside the \
        supervisor's own"),
    key("projects.*.limit", "none", "tasks of the project that may run at once over the whole \
        pool; 0 pauses it"),
    key("projects.*.weight", "1", "the project's share of worker time against others; 0.001 to \
        1000"),
    key("projects.*.maxQueued", "half of `pool.queueSize`", "tasks of the project that may wait, \
        delayed ones too; 0 to 10000000"),
    key("projects.*.realm", "by the task's type", "realm of JavaScript tasks that name none: \
        `fresh`, `warm` or `frozen` (modules stay where they are without it)"),
    key("projects.*.forbidWarm", "false", "refuses tasks that ask for realm `warm`; those that \
        name none run in the project's `realm`, else in `fresh`"),
    key("js.moduleRoots", "[]", "folders from which modules may be loaded: absolute, existing"),
    key("js.conditions", "[\"worker\", \"browser\"]", "conditions that hold in the `exports` and \
        `imports` of packages besides `import` or `require`, `module-sync` and `default`; a file \
        for `node` is taken where there is no other"),
    key("js.nodeEnv", "production", "what modules find as `process.env.NODE_ENV`; `none`: they \
        find no `process`"),
    key("js.allowCodeGeneration", "false", "whether `eval` and `new Function` work"),
    key("js.allowWasm", "false", "whether WebAssembly works"),
    key("shell.allow", "[]", "programs that may run, each `{program, args}`: an absolute path, and \
        a pattern that each argument must match whole (no pattern: no arguments)"),
    key("shell.env", "{}", "the environment of programs, all of it but what `taskEnv` lets tasks \
        add and the supervisor's `TZ`"),
    key("shell.taskEnv", "[]", "variables that tasks may add to it, each a name such as `LANG`, or \
        the beginning of names and `*`, such as `APP_*`; never one that `env` sets"),
    key("shell.cwd", "/", "folder where programs start when the task names none: absolute, \
        existing; programs may read and write it unless it is `/`"),
    key("shell.readable", "[]", "files and folders that programs may read and execute, besides the \
        list and libraries of the system: absolute, existing"),
    key("shell.writable", "[]", "files and folders that programs may read and write, but not \
        execute: absolute, existing"),
    key("shell.sockets", "[]", "Unix sockets of the machine that programs may connect to, by \
        absolute path; with none, programs can make no Unix socket"),
    key("shell.killAfter", "2s", "time that a program gets to end by itself at a timeout or a \
        cancel: between SIGTERM and SIGKILL; 0 to 1h"),
    key("shell.umask", "077", "permissions that files and folders of programs' making do not get: \
        a text of three octal digits, as for `umask`; with `022` others may read them"),
    key("http.listen", "127.0.0.1:45678", "address and port of the HTTP API; `off` for none"),
    key("http.socket", "auto", "absolute path of a Unix socket with the same API; `off` for none; \
        `auto` is `api.sock` beside the control socket when `listen` is not `off`"),
    key("http.keyFile", "auto", "absolute path of the file with the API's key, made at first \
        start; `auto` is `api.key` beside the control socket"),
    key("http.public", "allow", "whether `http-request` tasks may reach public addresses that \
        `http.allow` does not list: `allow` or `deny`. With `deny` a NAME in the list opens the \
        public addresses that it resolves to, and an inner address needs an entry of its own"),
    key("http.allow", "[]", "what `http-request` tasks may reach besides public addresses, or with \
        `http.public` `deny` at all: `ADDRESS`, `ADDRESS:PORT`, `NETWORK/BITS`, `NAME`, \
        `NAME:PORT`"),
    key("http.ca", "[]", "files of certificates in PEM, a path or a list of paths: authorities \
        that `http-request` tasks trust besides the machine's"),
    key("log.level", "info", "`error`, `warn`, `info`, `debug` or `trace`"),
    key("log.format", "auto", "`text`, `json`, or `auto`: text, without time stamps where the \
        journal adds them"),
];

/// Where the original's worker settings stood; accepted as they stand.
pub const ORIGINAL: &str = "daemon.worker";

/// The names of the pool's settings under [`ORIGINAL`].
pub const ORIGINAL_NAMES: &[(&str, &str)] = &[
    ("minProcesses", "minWorkers"),
    ("minWorkers", "minWorkers"),
    ("maxProcesses", "maxWorkers"),
    ("maxWorkers", "maxWorkers"),
    ("autoScale", "autoScale"),
    ("scaleUpThreshold", "scaleUpThreshold"),
    ("scaleDownThreshold", "scaleDownThreshold"),
    ("maxTasksPerWorker", "maxTasksPerWorker"),
    ("workerIdleTimeout", "workerIdleTimeout"),
];

/// What stands in one entry of a list.
const IN_LISTS: [(&str, Option<&str>); 2] =
    [("shell.allow.*", Some("program")), ("shell.allow.*", Some("args"))];

/// The names that a section knows: `""` is the top, `projects.*` any project.
fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    let original = ORIGINAL_NAMES.iter().map(|(name, _)| (ORIGINAL, Some(*name)));
    let listed = KEYS.iter().map(|key| (key.path, None)).chain(original).chain(IN_LISTS);
    for (path, leaf) in listed {
        let rest = match path.strip_prefix(section) {
            Some("") => leaf,
            Some(rest) if section.is_empty() => Some(rest),
            Some(rest) => rest.strip_prefix('.'),
            None => None,
        };
        let first = rest.and_then(|rest| rest.split('.').next());
        names.extend(first.filter(|name| !names.contains(name)));
    }
    names
}

/// A sentence's end that names what was probably meant: a near name in the same section, or the
/// same name in another.
pub(super) fn suggestion(pattern: &str, shown: &str, unknown: &str) -> String {
    let distance =
        |name: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &unknown.to_lowercase());
    let names = names_in(pattern);
    let near = names.iter().map(|name| (distance(name), name)).min();
    if let Some((_, name)) =
        near.filter(|(distance, name)| *distance <= 3 && *distance * 2 < name.len())
    {
        return format!("; did you mean {}?", join(shown, name));
    }
    let elsewhere =
        KEYS.iter().map(|key| key.path).find(|path| path.rsplit('.').next() == Some(unknown));
    match elsewhere {
        Some(path) => format!("; did you mean {}?", path.replace('*', "<project>")),
        None => format!("; known here: {}", names.join(", ")),
    }
}

/// A key's path below a section's.
pub(super) fn join(section: &str, name: &str) -> String {
    // A name of the user's own may hold dots.
    let plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let name = if plain { name.to_owned() } else { format!("{name:?}") };
    if section.is_empty() { name } else { format!("{section}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_know_their_own_names() {
        assert_eq!(names_in("log"), ["level", "format"]);
        assert_eq!(names_in("daemon"), ["worker"]);
        assert!(names_in("daemon.worker").contains(&"minProcesses"));
        assert!(names_in("projects.*").contains(&"forbidWarm"));
        assert_eq!(names_in("projects"), ["*"]);
        let top = names_in("");
        assert!(
            top.contains(&"pool") && top.contains(&"daemon") && top.contains(&"isolation"),
            "{top:?}"
        );
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(suggestion("pool", "pool", "maxWorker"), "; did you mean pool.maxWorkers?");
        assert_eq!(suggestion("", "", "maxWorkers"), "; did you mean pool.maxWorkers?");
        assert_eq!(
            suggestion("projects.*", "projects.a", "wieght"),
            "; did you mean projects.a.weight?"
        );
        assert_eq!(suggestion("log", "log", "colour"), "; known here: level, format");
    }
}
