use std::time::{Duration, SystemTime};

use super::*;

fn context(request_id: &str) -> Context {
    Context::new(
        request_id.to_owned(),
        String::new(),
        SystemTime::now(),
        crate::clock::Clock::System,
    )
}

fn count_one(name: &'static str) {
    count(Cow::Borrowed(name), 1);
}

/// A runtime of its own, as each worker has one.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn code_of_the_invocation_finds_it_on_its_thread_in_tasks_and_on_blocking_threads() {
    runtime().block_on(async {
        let active = start(&context("mine"), "metric");
        let scope = active.scope().clone();
        scope
            .run(async {
                count_one("polled");
                let task = tokio::spawn(async {
                    tokio::task::yield_now().await;
                    count_one("spawned");
                });
                task.await.expect("the task ends");
                tokio::task::spawn_blocking(|| count_one("blocking")).await.expect("the task ends");
            })
            .await;
        let counts = scope.close();
        assert_eq!(
            counts.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["blocking", "polled", "spawned"]
        );
    });
}

#[test]
fn invocations_of_several_runtimes_do_not_mix() {
    let workers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                runtime().block_on(async {
                    for round in 1..20 {
                        let active = start(&context("one"), "metric");
                        let scope = active.scope().clone();
                        let work = async {
                            for _ in 0..round {
                                count_one("ran");
                                tokio::task::spawn_blocking(|| count_one("blocking"))
                                    .await
                                    .expect("it ends");
                            }
                        };
                        scope.run(work).await;
                        let counts = scope.close();
                        assert_eq!((counts["ran"], counts["blocking"]), (round, round));
                    }
                });
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no count is of another"));
}

#[test]
fn futures_that_are_polled_in_turns_keep_their_own_scope() {
    runtime().block_on(async {
        let (first, second) =
            (start(&context("first"), "metric"), start(&context("second"), "metric"));
        let ids = async |scope: &Scope| {
            let ids = async {
                let before = current().map(|scope| scope.request_id().to_owned());
                tokio::time::sleep(Duration::from_millis(1)).await;
                (before, current().map(|scope| scope.request_id().to_owned()))
            };
            scope.run(ids).await
        };
        let (first, second) = tokio::join!(ids(first.scope()), ids(second.scope()));
        assert_eq!(first, (Some("first".to_owned()), Some("first".to_owned())));
        assert_eq!(second, (Some("second".to_owned()), Some("second".to_owned())));
    });
}

#[test]
fn what_is_counted_between_invocations_is_of_the_next_one() {
    runtime().block_on(async {
        drop(start(&context("before"), "metric"));
        count_one("between");
        let active = start(&context("next"), "metric");
        assert_eq!(active.scope().close(), Counts::from([(Cow::Borrowed("between"), 1)]));
        active.scope().run(async { count_one("late") }).await;
        drop(active);
        let active = start(&context("after"), "metric");
        assert_eq!(active.scope().close(), Counts::from([(Cow::Borrowed("late"), 1)]));
    });
}

#[test]
fn an_invocation_that_is_dropped_hands_its_counts_to_the_next() {
    runtime().block_on(async {
        let active = start(&context("dropped"), "metric");
        active.scope().run(async { count_one("counted") }).await;
        drop(active);
        assert!(current().is_none_or(|scope| scope.request_id() != "dropped"));
        assert_eq!(start(&context("next"), "metric").scope().close()["counted"], 1);
    });
}

#[test]
fn sums_end_at_their_maximum() {
    let mut counts = Counts::new();
    add(&mut counts, Cow::Borrowed("many"), u64::MAX);
    add(&mut counts, Cow::Borrowed("many"), 5);
    assert_eq!(counts["many"], u64::MAX);
}

#[test]
fn a_thread_without_a_runtime_finds_the_only_invocation_there_is() {
    let scope = |id: &str| start(&context(id), "metric").scope().clone();
    let (here, there) = (runtime(), runtime());
    let (here, there) = (here.handle().id(), there.handle().id());
    let mut registry = Registry::default();
    let found =
        |registry: &Registry, id| registry.find(id).map(|scope| scope.request_id().to_owned());
    assert_eq!(found(&registry, None), None);

    registry.take_pending(Some(here));
    registry.active.push(Active { runtime: Some(here), scope: scope("registry-1") });
    assert_eq!(found(&registry, None).as_deref(), Some("registry-1"));
    assert_eq!(
        found(&registry, Some(there)).as_deref(),
        Some("registry-1"),
        "a runtime without invocations"
    );

    registry.take_pending(Some(there));
    assert_eq!(found(&registry, Some(there)), None, "a runtime between two of its invocations");
    registry.active.push(Active { runtime: Some(there), scope: scope("registry-2") });
    assert_eq!(found(&registry, None), None, "it may be either");
    assert_eq!(found(&registry, Some(here)).as_deref(), Some("registry-1"));
    assert_eq!(found(&registry, Some(there)).as_deref(), Some("registry-2"));
}

#[test]
fn idle_runtimes_are_forgotten_when_they_are_many() {
    let mut registry = Registry::default();
    let kept = runtime();
    registry.take_pending(Some(kept.handle().id()));
    registry.keep(Some(kept.handle().id()), Cow::Borrowed("kept"), 1);
    for _ in 0..MAX_IDLE_RUNTIMES + 10 {
        registry.take_pending(Some(runtime().handle().id()));
    }
    assert!(registry.runtimes.len() <= MAX_IDLE_RUNTIMES);
    assert_eq!(registry.take_pending(Some(kept.handle().id()))["kept"], 1);
}
