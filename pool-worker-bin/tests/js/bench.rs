//! What a known function saves, in processor time of this thread, which a busy machine does not add
//! to.

use std::time::Duration;

use pool_worker::js::{JsTask, Realm, Work};
use rustix::time::{ClockId, clock_gettime};

use crate::support::Bench;

#[test]
fn a_known_function_is_called_without_compiling_it_again() {
    const CALLS: u32 = 2_000;
    let mut bench = Bench::new();
    let mut ticket = bench.next_ticket();
    let mut ran = |sources: &dyn Fn(u32) -> String| {
        let before = cpu_time();
        for call in 0..CALLS {
            call_with_sum(&mut bench, ticket, &sources(call));
            ticket += 1;
        }
        cpu_time() - before
    };
    // The context is made, and V8 has what it needs, before either is measured.
    ran(&|_| "({a, b}) => b + a".to_owned());
    let new = ran(&|call| format!("({{a, b}}) => a + b + 0 * {call}"));
    let known = ran(&|_| "({a, b}) => a + b".to_owned());
    println!("{CALLS} calls: {known:?} of a known function, {new:?} of new ones");
    assert!(known * 2 < new, "{known:?} is not less than half of {new:?}");
}

fn call_with_sum(bench: &mut Bench, ticket: u64, source: &str) {
    let outcome = bench.engine.run(&JsTask {
        ticket,
        project: "default",
        realm: Realm::Warm,
        work: Work::Function { source, args_json: br#"[{"a":1,"b":2}]"# },
        memory_limit_bytes: None,
        capture_logs: false,
    });
    assert_eq!(outcome.result.as_deref(), Ok(b"3".as_slice()));
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        spent.tv_sec.unsigned_abs(),
        u32::try_from(spent.tv_nsec).expect("below a second"),
    )
}
