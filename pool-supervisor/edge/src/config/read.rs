//! From the tree to the settings, section by section.

use std::collections::BTreeMap;

use pool_protocol::id::check_project_id;
use pool_protocol::layer::Level;
use pool_protocol::limits::{MAX_BODY_BYTES, MAX_DURATION_MS, OUTCOME_OVERHEAD_BYTES};
use pool_protocol::task::{MIN_MEMORY_BYTES, Realm};
use pool_protocol::worker::PublicAddresses;

use super::value::{Problem, Section, Setting, Value};
use super::{
    CgroupConfig, CgroupMode, Config, HttpConfig, JsConfig, LimitsConfig, LogConfig, LogFormat,
    LogLevel, MAX_WORKERS, PoolConfig, ProjectConfig, ShellConfig, Tenancy, Trust, allow,
    authorities, keys,
};

const HOUR_MS: u64 = 3_600_000;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
/// About what an idle engine uses: below it every worker would be replaced after every task.
const LEAST_WORKER_BYTES: u64 = 32 * MIB;

/// Reads the whole file; `cpus` is what the defaults are measured by.
pub(super) fn config(tree: Value, cpus: u32) -> Result<Config, Problem> {
    let mut top = Section::top(tree)?;
    let mut config = Config::with_defaults(cpus);
    if let Some(setting) = top.take("trust") {
        config.trust_as(setting.one_of(&Trust::ALL.map(|trust| (trust.name(), trust)))?);
    }
    let original = original(&mut top)?;
    pool(top.section("pool")?, original, &mut config.pool, cpus)?;
    limits(top.section("limits")?, &mut config.limits)?;
    if let Some(setting) = top.take("isolation") {
        config.isolation = isolation(&setting)?;
    }
    cgroup(top.section("cgroup")?, &mut config.cgroup)?;
    if let Some(setting) = top.take("tenancy") {
        config.tenancy = tenancy(&setting)?;
    }
    if let Some(setting) = top.take("workerPath") {
        config.worker_path = allow::auto_or_path(&setting)?;
        if config.worker_path.is_some() {
            allow::executable(&setting)?;
        }
    }
    config.projects = projects(top.section("projects")?)?;
    js(top.section("js")?, &mut config.js)?;
    shell(top.section("shell")?, &mut config.shell)?;
    http(top.section("http")?, &mut config.http)?;
    log(top.section("log")?, &mut config.log)?;
    top.finish()?;
    Ok(config)
}

/// Sets a field when its key is there.
fn set<T>(
    section: &mut Section,
    name: &str,
    field: &mut T,
    read: impl FnOnce(&Setting) -> Result<T, Problem>,
) -> Result<(), Problem> {
    if let Some(setting) = section.take(name) {
        *field = read(&setting)?;
    }
    Ok(())
}

/// The original's `daemon.worker`, each setting under the pool's name for it.
fn original(top: &mut Section) -> Result<BTreeMap<&'static str, Setting>, Problem> {
    let mut daemon = top.section("daemon")?;
    let mut worker = daemon.section("worker")?;
    daemon.finish()?;
    let mut found: BTreeMap<&'static str, Setting> = BTreeMap::new();
    for (name, means) in keys::ORIGINAL_NAMES {
        if let Some(setting) = worker.take(name) {
            refuse_second(found.get(means), &setting)?;
            found.insert(means, setting);
        }
    }
    worker.finish()?;
    Ok(found)
}

fn refuse_second(first: Option<&Setting>, second: &Setting) -> Result<(), Problem> {
    match first {
        None => Ok(()),
        Some(first) => {
            Err(second.problem(format!("is the same setting as {}; give one of them", first.key)))
        }
    }
}

/// A pool setting under either of its names.
struct PoolSettings {
    section: Section,
    original: BTreeMap<&'static str, Setting>,
}

impl PoolSettings {
    fn take(&mut self, name: &str) -> Result<Option<Setting>, Problem> {
        let original = self.original.remove(name);
        match self.section.take(name) {
            Some(setting) => {
                refuse_second(original.as_ref(), &setting)?;
                Ok(Some(setting))
            }
            None => Ok(original),
        }
    }

    fn set<T>(
        &mut self,
        name: &str,
        field: &mut T,
        read: impl FnOnce(&Setting) -> Result<T, Problem>,
    ) -> Result<(), Problem> {
        if let Some(setting) = self.take(name)? {
            *field = read(&setting)?;
        }
        Ok(())
    }
}

fn pool(
    section: Section,
    original: BTreeMap<&'static str, Setting>,
    pool: &mut PoolConfig,
    cpus: u32,
) -> Result<(), Problem> {
    let mut from = PoolSettings { section, original };
    worker_counts(&mut from, pool, cpus)?;
    from.set("autoScale", &mut pool.auto_scale, Setting::flag)?;
    thresholds(&mut from, pool)?;
    from.set("scaleCooldown", &mut pool.scale_cooldown_ms, |s| s.duration_ms(0..=HOUR_MS))?;
    from.set("maxTasksPerWorker", &mut pool.max_tasks_per_worker, |s| s.count(0..=1_000_000_000))?;
    from.set("maxMemoryPerWorker", &mut pool.max_memory_per_worker, worker_memory)?;
    from.set("maxWorkerAge", &mut pool.max_worker_age_ms, |s| s.duration_ms(0..=MAX_DURATION_MS))?;
    from.set("workerIdleTimeout", &mut pool.worker_idle_timeout_ms, |s| {
        s.duration_ms(0..=MAX_DURATION_MS)
    })?;
    from.set("heartbeatInterval", &mut pool.heartbeat_interval_ms, |s| {
        s.duration_ms(50..=HOUR_MS)
    })?;
    from.set("spawnTimeout", &mut pool.spawn_timeout_ms, |s| s.duration_ms(100..=HOUR_MS))?;
    from.set("drainTimeout", &mut pool.drain_timeout_ms, |s| s.duration_ms(0..=MAX_DURATION_MS))?;
    from.set("queueSize", &mut pool.queue_size, |s| s.count(1..=10_000_000))?;
    from.set("queueBytes", &mut pool.queue_bytes, |s| s.size(KIB * KIB..=1024 * GIB))?;
    from.set("resultTtl", &mut pool.result_ttl_ms, |s| s.duration_ms(0..=MAX_DURATION_MS))?;
    from.set("priorityAgeing", &mut pool.priority_ageing_ms, |s| {
        s.duration_ms(1..=MAX_DURATION_MS)
    })?;
    from.set("setAside", &mut pool.set_aside_ms, |s| s.duration_ms(0..=MAX_DURATION_MS))?;
    from.section.finish()
}

/// A maximum that is not given makes room for the minimum; two that are given must fit.
fn worker_counts(from: &mut PoolSettings, pool: &mut PoolConfig, cpus: u32) -> Result<(), Problem> {
    let count = |s: &Setting| s.count(1..=MAX_WORKERS);
    let least = from.take("minWorkers")?;
    let most = from.take("maxWorkers")?;
    if let Some(setting) = &least {
        pool.min_workers = count(setting)?;
    }
    pool.max_workers = cpus.max(pool.min_workers);
    if let Some(setting) = &most {
        pool.max_workers = count(setting)?;
    }
    match (&least, &most) {
        (Some(least), Some(most)) if pool.min_workers > pool.max_workers => {
            Err(least.problem(format!(
                "must be at most {} ({}), not {}",
                most.key, pool.max_workers, pool.min_workers
            )))
        }
        _ => Ok(()),
    }
}

fn thresholds(from: &mut PoolSettings, pool: &mut PoolConfig) -> Result<(), Problem> {
    let above_zero = |s: &Setting| match s.real(0.0..=1000.0)? {
        0.0 => Err(s.problem("must be over 0")),
        value => Ok(value),
    };
    let up = from.take("scaleUpThreshold")?;
    let down = from.take("scaleDownThreshold")?;
    if let Some(setting) = &up {
        pool.scale_up_threshold = above_zero(setting)?;
    }
    if let Some(setting) = &down {
        pool.scale_down_threshold = above_zero(setting)?;
    }
    if pool.scale_down_threshold < pool.scale_up_threshold {
        return Ok(());
    }
    let (lower, upper) = (pool.scale_down_threshold, pool.scale_up_threshold);
    // The one that was given is to blame; of two, the lower.
    Err(match (down, up) {
        (None, Some(up)) => {
            up.problem(format!("must be over scaleDownThreshold ({lower}), not {upper}"))
        }
        (Some(down), _) => {
            down.problem(format!("must be below scaleUpThreshold ({upper}), not {lower}"))
        }
        (None, None) => unreachable!("the defaults are in order"),
    })
}

fn worker_memory(setting: &Setting) -> Result<u64, Problem> {
    match setting.size(0..=1024 * GIB)? {
        bytes if bytes != 0 && bytes < LEAST_WORKER_BYTES => {
            Err(setting.problem(format!("must be at least 32MiB, or 0 for never, not {bytes}")))
        }
        bytes => Ok(bytes),
    }
}

fn limits(mut from: Section, limits: &mut LimitsConfig) -> Result<(), Problem> {
    let largest = MAX_BODY_BYTES as u64;
    set(&mut from, "timeout", &mut limits.timeout_ms, |s| s.duration_ms(1..=MAX_DURATION_MS))?;
    set(&mut from, "cpuMs", &mut limits.cpu_ms, |s| s.duration_ms(1..=MAX_DURATION_MS))?;
    set(&mut from, "memoryBytes", &mut limits.memory_bytes, |s| {
        s.size(MIN_MEMORY_BYTES..=64 * GIB)
    })?;
    set(&mut from, "resultBytes", &mut limits.result_bytes, |s| {
        s.size(KIB..=largest - OUTCOME_OVERHEAD_BYTES as u64)
    })?;
    set(&mut from, "bodyBytes", &mut limits.body_bytes, |s| s.size(KIB..=largest))?;
    set(&mut from, "openFiles", &mut limits.open_files, |s| s.whole(32..=1_048_576))?;
    set(&mut from, "fileBytes", &mut limits.file_bytes, |s| s.size(0..=1024 * 1024 * GIB))?;
    set(&mut from, "processes", &mut limits.processes, |s| s.whole(1..=1_000_000))?;
    set(&mut from, "cpus", &mut limits.cpus, |s| s.real(0.01..=4096.0).map(Some))?;
    from.finish()
}

fn isolation(setting: &Setting) -> Result<Level, Problem> {
    setting.one_of(&[Level::Strict, Level::Standard, Level::Off].map(|level| (level.name(), level)))
}

fn cgroup(mut from: Section, cgroup: &mut CgroupConfig) -> Result<(), Problem> {
    let modes =
        [CgroupMode::Auto, CgroupMode::Required, CgroupMode::Off].map(|mode| (mode.name(), mode));
    set(&mut from, "mode", &mut cgroup.mode, |s| s.one_of(&modes))?;
    if let Some(setting) = from.take("path") {
        cgroup.path = allow::auto_or_path(&setting)?;
        if cgroup.path.is_some() {
            if cgroup.mode == CgroupMode::Off {
                return Err(setting.problem(
                    "names a control group, but cgroup.mode is \"off\"; leave one of them out",
                ));
            }
            cgroup.path = Some(allow::folder(&setting)?);
        }
    }
    from.finish()
}

fn tenancy(setting: &Setting) -> Result<Tenancy, Problem> {
    setting.one_of(
        &[Tenancy::Shared, Tenancy::Project, Tenancy::Task]
            .map(|tenancy| (tenancy.name(), tenancy)),
    )
}

fn projects(from: Section) -> Result<BTreeMap<String, ProjectConfig>, Problem> {
    let mut projects = BTreeMap::new();
    for (id, setting) in from.all() {
        check_project_id(&id).map_err(|e| setting.problem(format!("is no project id: it {e}")))?;
        projects.insert(id, project(setting.section("projects.*".to_owned())?)?);
    }
    Ok(projects)
}

fn project(mut from: Section) -> Result<ProjectConfig, Problem> {
    let mut project = ProjectConfig::default();
    set(&mut from, "limit", &mut project.limit, |s| s.count(0..=u32::MAX).map(Some))?;
    set(&mut from, "weight", &mut project.weight, |s| s.real(0.001..=1000.0))?;
    set(&mut from, "maxQueued", &mut project.max_queued, |s| s.count(0..=10_000_000).map(Some))?;
    set(&mut from, "forbidWarm", &mut project.forbid_warm, Setting::flag)?;
    if let Some(setting) = from.take("realm") {
        project.realm = Some(realm(&setting, project.forbid_warm)?);
    }
    from.finish()?;
    Ok(project)
}

fn realm(setting: &Setting, forbid_warm: bool) -> Result<Realm, Problem> {
    match setting.one_of(&[
        ("fresh", Realm::Fresh),
        ("warm", Realm::Warm),
        ("frozen", Realm::Frozen),
    ])? {
        Realm::Warm if forbid_warm => {
            Err(setting.problem("is \"warm\", which the same project's forbidWarm forbids"))
        }
        realm => Ok(realm),
    }
}

fn js(mut from: Section, js: &mut JsConfig) -> Result<(), Problem> {
    if let Some(setting) = from.take("moduleRoots") {
        for root in setting.list("a list of folders")? {
            js.module_roots.push(allow::named_folder(&root)?);
        }
    }
    if let Some(setting) = from.take("conditions") {
        js.conditions.clear();
        for condition in setting.list("a list of conditions")? {
            js.conditions.push(allow::condition(&condition)?);
        }
    }
    set(&mut from, "nodeEnv", &mut js.node_env, |setting| {
        let text = setting.text("a text such as \"production\", or \"none\"")?;
        Ok(Some(text.to_owned()).filter(|text| text != "none"))
    })?;
    set(&mut from, "allowCodeGeneration", &mut js.allow_code_generation, Setting::flag)?;
    set(&mut from, "allowWasm", &mut js.allow_wasm, Setting::flag)?;
    from.finish()
}

fn shell(mut from: Section, shell: &mut ShellConfig) -> Result<(), Problem> {
    if let Some(setting) = from.take("allow") {
        for entry in setting.list("a list of {program, args}")? {
            let key = entry.key.clone();
            let (program, file) = allow::program(entry)?;
            if shell.allow.iter().any(|other| allow::same_program(other, &program)) {
                return Err(Problem::new(key, format!("names {} a second time", program.program)));
            }
            shell.allow.push(program);
            shell.held.add(file);
        }
    }
    for (name, setting) in from.section("env")?.all() {
        shell.env.insert(name.clone(), allow::variable(&name, &setting)?);
    }
    if let Some(setting) = from.take("taskEnv") {
        for entry in setting.list("a list of names of variables")? {
            shell.task_env.push(allow::task_variable(&entry, &shell.env)?);
        }
    }
    set(&mut from, "cwd", &mut shell.cwd, allow::folder)?;
    for (name, list) in [("readable", &mut shell.readable), ("writable", &mut shell.writable)] {
        if let Some(setting) = from.take(name) {
            for path in setting.list("a list of files and folders")? {
                list.push(allow::existing(&path)?);
            }
        }
    }
    if let Some(setting) = from.take("sockets") {
        for path in setting.list("a list of paths of sockets")? {
            shell.sockets.push(allow::listed_socket(&path)?);
        }
    }
    set(&mut from, "killAfter", &mut shell.kill_after_ms, |s| s.duration_ms(0..=HOUR_MS))?;
    set(&mut from, "umask", &mut shell.umask, allow::umask)?;
    from.finish()
}

fn http(mut from: Section, http: &mut HttpConfig) -> Result<(), Problem> {
    set(&mut from, "listen", &mut http.listen, |s| {
        allow::parse_listen(s.text("\"off\" or ADDRESS:PORT")?)
            .map_err(|problem| s.problem(problem))
    })?;
    set(&mut from, "socket", &mut http.socket, allow::socket_path)?;
    set(&mut from, "keyFile", &mut http.key_file, allow::auto_or_path)?;
    set(&mut from, "public", &mut http.public, |s| {
        s.one_of(
            &[PublicAddresses::Allow, PublicAddresses::Deny].map(|public| (public.name(), public)),
        )
    })?;
    if let Some(setting) = from.take("allow") {
        for entry in setting.list("a list of addresses, networks and names")? {
            http.allow.push(allow::destination(&entry)?);
        }
    }
    if let Some(setting) = from.take("ca") {
        for entry in
            setting.one_or_list("a file of certificates in PEM, or a list of such files")?
        {
            let path = allow::existing(&entry)?;
            authorities::add(&entry, &path, &mut http.authorities)?;
            http.ca.push(path);
        }
    }
    from.finish()
}

fn log(mut from: Section, log: &mut LogConfig) -> Result<(), Problem> {
    let levels = LogLevel::ALL.map(|level| (level.name(), level));
    set(&mut from, "level", &mut log.level, |s| s.one_of(&levels))?;
    let formats = [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
    set(&mut from, "format", &mut log.format, |s| s.one_of(&formats))?;
    from.finish()
}
