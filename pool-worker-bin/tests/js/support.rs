//! An engine with a ticket counter and a few shorthands.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use pool_worker::js::{
    Engine, EngineConfig, FailureKind, JsFailure, JsOutcome, JsTask, LogLevel, Realm, StopReason,
    Work,
};

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) seen: Rc<RefCell<Vec<(u64, LogLevel, String)>>>,
    ticket: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let mut config = EngineConfig::default();
        change(&mut config);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&seen);
        let engine = Engine::new(
            config,
            Box::new(move |ticket, level, text| {
                sink.borrow_mut().push((ticket, level, text.to_owned()));
            }),
        );
        Self { engine, seen, ticket: 0 }
    }

    /// The ticket that the next task will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.ticket + 1
    }

    pub(crate) fn run(&mut self, project: &str, realm: Realm, work: Work<'_>) -> JsOutcome {
        self.ticket += 1;
        let outcome = self.engine.run(&JsTask {
            ticket: self.ticket,
            project,
            realm,
            work,
            memory_limit_bytes: None,
            capture_logs: true,
        });
        self.engine.tidy_up();
        outcome
    }

    /// Runs fresh code with a memory limit of its own.
    pub(crate) fn code_within(
        &mut self,
        memory_limit_bytes: usize,
        source: &str,
    ) -> Result<String, JsFailure> {
        self.within(memory_limit_bytes, Realm::Fresh, source)
    }

    /// Runs code in the default project's warm context, with a memory limit of its own.
    pub(crate) fn warm_code_within(
        &mut self,
        memory_limit_bytes: usize,
        source: &str,
    ) -> Result<String, JsFailure> {
        self.within(memory_limit_bytes, Realm::Warm, source)
    }

    /// Runs frozen code, with a memory limit of its own.
    pub(crate) fn frozen_code_within(
        &mut self,
        memory_limit_bytes: usize,
        source: &str,
    ) -> Result<String, JsFailure> {
        self.within(memory_limit_bytes, Realm::Frozen, source)
    }

    /// With somebody who looks at memory as often as a worker's watch does.
    fn within(
        &mut self,
        memory_limit_bytes: usize,
        realm: Realm,
        source: &str,
    ) -> Result<String, JsFailure> {
        let handle = self.engine.handle();
        let (over, is_over) = mpsc::channel::<()>();
        let watching = std::thread::spawn(move || {
            while is_over.recv_timeout(Duration::from_millis(5))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                handle.look_at_memory();
            }
        });
        self.ticket += 1;
        let outcome = self.engine.run(&JsTask {
            ticket: self.ticket,
            project: "default",
            realm,
            work: Work::Code { source, context_json: b"" },
            memory_limit_bytes: Some(memory_limit_bytes),
            capture_logs: true,
        });
        drop(over);
        watching.join().expect("the thread does not panic");
        self.engine.tidy_up();
        text(outcome)
    }

    pub(crate) fn code(&mut self, source: &str) -> Result<String, JsFailure> {
        self.code_with(source, "")
    }

    pub(crate) fn code_with(&mut self, source: &str, context: &str) -> Result<String, JsFailure> {
        let work = Work::Code { source, context_json: context.as_bytes() };
        text(self.run("default", Realm::Fresh, work))
    }

    pub(crate) fn warm_code(&mut self, project: &str, source: &str) -> Result<String, JsFailure> {
        let work = Work::Code { source, context_json: b"" };
        text(self.run(project, Realm::Warm, work))
    }

    pub(crate) fn function(&mut self, source: &str, args: &str) -> Result<String, JsFailure> {
        self.function_of("default", source, args)
    }

    pub(crate) fn function_of(
        &mut self,
        project: &str,
        source: &str,
        args: &str,
    ) -> Result<String, JsFailure> {
        let work = Work::Function { source, args_json: args.as_bytes() };
        text(self.run(project, Realm::Warm, work))
    }

    pub(crate) fn frozen_code(&mut self, source: &str) -> Result<String, JsFailure> {
        self.frozen_code_with(source, "")
    }

    pub(crate) fn frozen_code_with(
        &mut self,
        source: &str,
        context: &str,
    ) -> Result<String, JsFailure> {
        let work = Work::Code { source, context_json: context.as_bytes() };
        text(self.run("default", Realm::Frozen, work))
    }

    pub(crate) fn frozen_function(
        &mut self,
        source: &str,
        args: &str,
    ) -> Result<String, JsFailure> {
        let work = Work::Function { source, args_json: args.as_bytes() };
        text(self.run("default", Realm::Frozen, work))
    }

    /// Runs fresh code that somebody ends after the delay.
    pub(crate) fn code_ended_after(&mut self, source: &str, delay: Duration) -> JsFailure {
        self.ended_after(Realm::Fresh, Work::Code { source, context_json: b"" }, delay)
    }

    /// Runs frozen code that somebody ends after the delay.
    pub(crate) fn frozen_code_ended_after(&mut self, source: &str, delay: Duration) -> JsFailure {
        self.ended_after(Realm::Frozen, Work::Code { source, context_json: b"" }, delay)
    }

    /// Calls a module in a fresh context that somebody ends after the delay.
    pub(crate) fn module_ended_after(&mut self, path: &str, delay: Duration) -> JsFailure {
        self.ended_after(Realm::Fresh, Work::Module { path, method: None, args_json: b"" }, delay)
    }

    fn ended_after(&mut self, realm: Realm, work: Work<'_>, delay: Duration) -> JsFailure {
        let handle = self.engine.handle();
        let ticket = self.next_ticket();
        let ender = std::thread::spawn(move || {
            std::thread::sleep(delay);
            handle.terminate(ticket, StopReason::Timeout)
        });
        let result = self.run("default", realm, work).result;
        let ended = ender.join().expect("the thread does not panic");
        let failure = result.expect_err("the task never ends by itself");
        assert!(ended, "the task ended by itself: {failure:?}");
        failure
    }
}

/// Runs on a stack as large as a process's main thread has.
pub(crate) fn on_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(test)
        .expect("a thread can be started");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn text(outcome: JsOutcome) -> Result<String, JsFailure> {
    outcome.result.map(|json| String::from_utf8(json).expect("JSON is UTF-8"))
}

pub(crate) fn assert_kind(result: &Result<String, JsFailure>, kind: FailureKind) -> &JsFailure {
    match result {
        Err(failure) if failure.kind == kind => failure,
        other => panic!("expected {kind:?}, got {other:?}"),
    }
}
