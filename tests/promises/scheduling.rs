//! The order of tasks: priority, shares between projects, first come first served, and nobody
//! starves.

use pool_tests::tasks::{code, hold, with};
use pool_tests::{Client, Pool, Value, json, until};

/// One worker that takes one task at a time: the order of starts is the order of choice.
fn narrow(more: Value) -> Pool {
    let mut config = json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "maxTasksPerWorker": 0}});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = match config.get(key) {
            Some(own) => with(own.clone(), value.clone()),
            None => value.clone(),
        };
    }
    Pool::start(config)
}

/// Occupies the only worker; the tasks submitted meanwhile wait together. Ends with [`release`].
fn occupy(pool: &Pool) -> String {
    let id = pool.submit(with(hold(), json!({"projectId": "holder", "priority": 10})));
    until("the holder runs", || pool.task(&id)["state"] == "running");
    id
}

/// The tags of started tasks, in order.
fn order(pool: &Pool, client: &mut Client, holder: &str, requests: &[u64]) -> Vec<String> {
    pool.cancel(holder);
    let tag = |request: &u64| {
        let outcome = client.outcome(*request);
        (outcome["taskId"].clone(), outcome["tag"].as_str().expect("each has a tag").to_owned())
    };
    let tags: Vec<_> = requests.iter().map(tag).collect();
    let started = pool.events_named("task-started");
    let name = |event: &Value| Some(tags.iter().find(|(id, _)| *id == event["taskId"])?.1.clone());
    started.iter().filter_map(name).collect()
}

/// 3 ms of work: long enough that a worker is not handed a bundle of them.
fn work(tag: &str, fields: Value) -> Value {
    with(
        with(code("const end = Date.now() + 3; while (Date.now() < end);"), json!({"tag": tag})),
        fields,
    )
}

#[test]
fn the_highest_priority_goes_first() {
    let pool = narrow(json!({}));
    let holder = occupy(&pool);
    let mut client = pool.client();
    let requests: Vec<u64> = [3, 10, 0, 7, 1]
        .map(|p| client.submit(&work(&p.to_string(), json!({"priority": p}))))
        .to_vec();
    client.id(requests[4]);
    assert_eq!(order(&pool, &mut client, &holder, &requests), ["10", "7", "3", "1", "0"]);
}

#[test]
fn inside_a_project_first_come_is_first_served() {
    let pool = narrow(json!({}));
    let holder = occupy(&pool);
    let mut client = pool.client();
    let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let requests: Vec<u64> = names.iter().map(|n| client.submit(&work(n, json!({})))).collect();
    client.id(requests[19]);
    assert_eq!(order(&pool, &mut client, &holder, &requests), names);
}

#[test]
fn projects_share_in_turn_however_many_tasks_each_has() {
    let pool = narrow(json!({}));
    let holder = occupy(&pool);
    let mut client = pool.client();
    let mut requests: Vec<u64> =
        (0..40).map(|_| client.submit(&work("many", json!({"projectId": "many"})))).collect();
    requests.extend((0..10).map(|_| client.submit(&work("few", json!({"projectId": "few"})))));
    client.id(requests[49]);
    let order = order(&pool, &mut client, &holder, &requests);
    let few_in_first_half = order[..25].iter().filter(|tag| *tag == "few").count();
    assert!(few_in_first_half >= 7, "{order:?}");
}

#[test]
fn projects_share_in_proportion_to_their_weight() {
    let pool = narrow(json!({"projects": {"heavy": {"weight": 4}, "light": {"weight": 1}}}));
    let holder = occupy(&pool);
    let mut client = pool.client();
    let mut requests = Vec::new();
    for _ in 0..40 {
        for project in ["light", "heavy"] {
            requests.push(client.submit(&work(project, json!({"projectId": project}))));
        }
    }
    client.id(requests[79]);
    let order = order(&pool, &mut client, &holder, &requests);
    let heavy = order[..40].iter().filter(|tag| *tag == "heavy").count();
    assert!((26..=38).contains(&heavy), "about 32 of the first 40, not {heavy}: {order:?}");
}

#[test]
fn a_share_is_measured_in_worker_time_not_in_tasks() {
    let pool = narrow(json!({}));
    let holder = occupy(&pool);
    let mut client = pool.client();
    let slow = |tag: &str| {
        with(
            code("const end = Date.now() + 30; while (Date.now() < end);"),
            json!({"tag": tag, "projectId": tag}),
        )
    };
    let mut requests: Vec<u64> = (0..12).map(|_| client.submit(&slow("slow"))).collect();
    requests.extend((0..60).map(|_| client.submit(&work("fast", json!({"projectId": "fast"})))));
    client.id(requests[71]);
    let order = order(&pool, &mut client, &holder, &requests);
    let slow_in_first = order[..36].iter().filter(|tag| *tag == "slow").count();
    assert!(slow_in_first <= 12, "{order:?}");
    assert!(
        order[..36].iter().filter(|tag| *tag == "fast").count() >= 24,
        "ten fast ones for a slow one: {order:?}"
    );
}

#[test]
fn waiting_raises_a_priority_so_that_none_starves() {
    let pool = narrow(json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "priorityAgeing": 20}}));
    let mut client = pool.client();
    let low = client.submit(&work("low", json!({"priority": 0, "projectId": "low"})));
    let low_id = client.id(low);
    let mut streams: Vec<u64> = Vec::new();
    // High priorities keep coming until the low one has run: without ageing that would be never.
    until("the low one has run", || {
        streams.extend(
            (0..20).map(|_| {
                client.submit(&work("high", json!({"priority": 10, "projectId": "high"})))
            }),
        );
        client.outcome(streams.remove(0));
        pool.task(&low_id)["status"] == "succeeded"
    });
}

#[test]
fn a_task_that_came_later_with_a_higher_priority_overtakes_those_that_were_handed_out() {
    let pool = narrow(json!({}));
    let mut client = pool.client();
    // Tiny tasks teach the pool that a worker can hold many; then a long queue of slow ones is
    // handed out.
    let tiny: Vec<u64> = (0..500).map(|_| client.submit(&code("1"))).collect();
    for request in tiny {
        client.outcome(request);
    }
    let slow: Vec<u64> = (0..60)
        .map(|_| {
            client.submit(&with(
                code("const end = Date.now() + 20; while (Date.now() < end);"),
                json!({"tag": "slow"}),
            ))
        })
        .collect();
    client.id(slow[59]);
    let urgent = client.submit(&work("urgent", json!({"priority": 10})));
    let urgent = client.outcome(urgent)["taskId"].clone();
    for request in slow {
        client.outcome(request);
    }
    let ended = pool.events_named("task-complete");
    let place = ended.iter().position(|event| event["taskId"] == urgent).expect("it has ended");
    assert!(
        place < 500 + 60,
        "the urgent one did not wait for all of them: it is number {place} of {}",
        ended.len()
    );
}
