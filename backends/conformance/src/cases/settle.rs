//! The one atomic step: who is released, when, how often, with what.

use celeriac_backends::Advance;
use celeriac_engine::{Release, RunOutcome, Verdict};
use celeriac_primitives::{Canvas, Completion, Failure, Json, NodeNo, Outcome, TaskError, TaskState};
use futures::future::join_all;

use crate::Subject;
use crate::bench::{Bench, boom, json, sig, sigs, ways_to_fail};

fn chord(names: &[&str]) -> Canvas {
    Canvas::chord(sigs(names), sig("body"))
}

pub async fn a_chord_body_waits_for_every_header_task(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b", "c"])).await;
    bench.dispatch_outbox().await;
    for place in [2, 0] {
        assert_eq!(bench.settle([bench.success(place, 1)]).await.released, []);
    }
    let settled = bench.settle([bench.success(1, 1)]).await;
    assert_eq!((settled.released, settled.decided), (vec![bench.release(3)], false));
    let settled = bench.settle([bench.success(3, 9)]).await;
    assert!(settled.decided && settled.ended);
    assert_eq!(bench.value().await, Some(json(9)));
}

pub async fn a_chord_body_gets_its_header_in_the_order_written(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b", "c"])).await;
    bench.dispatch_outbox().await;
    bench.settle([bench.success(2, 30), bench.success(0, 10)]).await;
    let released = bench.settle([bench.success(1, 20)]).await.released;
    assert_eq!(bench.messages(&released).await[0].args.as_str(), "[[10,20,30]]");
}

pub async fn a_duplicate_completion_with_other_bytes_changes_nothing(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b", "c"])).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([bench.success(0, 1), bench.success(0, 2), bench.success(0, 3)]).await;
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Duplicate, Verdict::Duplicate]);
    assert_eq!(settled.released, []);
    assert_eq!(bench.settle([bench.success(0, 4)]).await.verdicts, [Verdict::Duplicate]);
    let released = bench.settle([bench.success(1, 5), bench.success(2, 6)]).await.released;
    assert_eq!(bench.messages(&released).await[0].args.as_str(), "[[1,5,6]]");
}

pub async fn the_first_outcome_wins(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::group(sigs(&["a", "b"]))).await;
    bench.dispatch_outbox().await;
    bench.settle([bench.success(0, 1), bench.completion(0, boom())]).await;
    bench.settle([bench.completion(1, boom()), bench.success(1, 2)]).await;
    let nodes = [0, 1].map(NodeNo::from_index);
    let known = bench.known(&nodes, &[]).await;
    assert_eq!(known.outcomes[&nodes[0]], Outcome::Success(json(1)));
    assert_eq!(known.outcomes[&nodes[1]], boom());
    assert_eq!(bench.outcome().await, RunOutcome::Failed(nodes[1]));
}

pub async fn header_tasks_that_finish_at_the_same_time_release_the_body_once(subject: &dyn Subject) {
    for number in 0..50 {
        let bench = Bench::submit_as(subject, number, chord(&["a", "b", "c", "d"])).await;
        bench.dispatch_outbox().await;
        let settled = join_all((0..4).map(|place| bench.settle([bench.success(place, 1)]))).await;
        let released: Vec<Release> = settled.into_iter().flat_map(|settled| settled.released).collect();
        assert_eq!(released, [bench.release(4)]);
    }
}

pub async fn arms_of_unequal_length_meet_in_their_body(subject: &dyn Subject) {
    let arms = [sig("a"), sig("b").then(sig("c")).then(sig("d")), Canvas::chord(sigs(&["e", "f"]), sig("g"))];
    let bench = Bench::submit(subject, Canvas::chord(arms, sig("body"))).await;
    let ran = bench.run_to_the_end().await;
    assert_eq!(ran.len(), 8);
    assert_eq!(ran[7].1, "[[[],[[[]]],[[[],[]]]]]");
    assert_eq!(bench.outcome().await, RunOutcome::Succeeded);
}

pub async fn an_empty_header_calls_the_body_with_an_empty_list(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(chord(&[]))).await;
    assert_eq!(bench.run_to_the_end().await, [(0, "[]".to_owned()), (1, "[[]]".to_owned())]);
    let bench = Bench::submit_as(subject, 2, chord(&[])).await;
    assert_eq!(bench.run_to_the_end().await, [(0, "[[]]".to_owned())]);
    let bench = Bench::submit_as(subject, 3, Canvas::group([])).await;
    assert_eq!(bench.outcome().await, RunOutcome::Succeeded);
    assert_eq!(bench.value().await.unwrap().as_str(), "[]");
}

pub async fn an_empty_chain_in_a_header_hands_its_input_on(subject: &dyn Subject) {
    let chord = Canvas::chord([Canvas::chain([]), sig("b")], sig("body"));
    let bench = Bench::submit(subject, sig("a").then(chord)).await;
    let ran = bench.run_to_the_end().await;
    assert_eq!(ran[2].1, "[[[],[[]]]]");
}

pub async fn a_header_of_one_is_a_list_of_one(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(chord(&["b"]))).await;
    bench.dispatch_outbox().await;
    bench.settle([bench.success(0, 1)]).await;
    let released = bench.settle([bench.success(1, 2)]).await.released;
    assert_eq!(bench.messages(&released).await[0].args.as_str(), "[[2]]");
}

pub async fn a_nested_group_reaches_the_body_flat_and_in_order(subject: &dyn Subject) {
    let header = [Canvas::group(sigs(&["a", "b"])), sig("c")];
    let bench = Bench::submit(subject, Canvas::chord(header, sig("body"))).await;
    bench.dispatch_outbox().await;
    let done = [bench.success(0, 1), bench.success(1, 2), bench.success(2, 3)];
    let released = bench.settle(done).await.released;
    assert_eq!(bench.messages(&released).await[0].args.as_str(), "[[1,2,3]]");
}

pub async fn a_failing_arm_ends_the_run_and_its_siblings_go_on(subject: &dyn Subject) {
    let arms = [sig("a").then(sig("b")), sig("c").then(sig("d"))];
    let bench = Bench::submit(subject, Canvas::chord(arms, sig("body"))).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([bench.completion(0, boom())]).await;
    assert!(settled.decided && !settled.ended);
    assert_eq!(bench.outcome().await, RunOutcome::Failed(NodeNo::from_index(0)));
    let settled = bench.settle([bench.success(2, 1)]).await;
    assert_eq!(settled.released, [bench.release(3)]);
    bench.dispatch(&settled.released).await;
    let settled = bench.settle([bench.success(3, 1)]).await;
    assert!(settled.ended && settled.released.is_empty(), "the body never runs");
}

pub async fn a_revoked_member_ends_its_chord(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b"])).await;
    bench.dispatch_outbox().await;
    let revoked = bench.completion(1, Outcome::Revoked("revoked".into()));
    let settled = bench.settle([bench.success(0, 1), revoked]).await;
    assert!(settled.decided && settled.ended && settled.released.is_empty());
}

pub async fn every_way_to_fail_ends_the_run(subject: &dyn Subject) {
    for (number, way) in ways_to_fail().into_iter().enumerate() {
        let mut canvas = chord(&["a", "b"]);
        canvas.link_error(sig("errback"));
        let bench = Bench::submit_as(subject, number as u64, canvas).await;
        bench.dispatch_outbox().await;
        let settled = bench.settle([bench.success(0, 1), bench.completion(1, way.clone())]).await;
        assert!(settled.decided, "{way:?}");
        let message = bench.messages(&settled.released).await.remove(0);
        let failure: Vec<Failure> = message.args.to().unwrap();
        assert_eq!((message.task.as_str(), &failure[0].error), ("errback", &way.error().unwrap()));
        assert_eq!((failure[0].node.as_str(), failure[0].state), ("header[1]", way.state()));
        assert!(matches!(way.state(), TaskState::Failure | TaskState::Revoked));
    }
}

pub async fn an_ignored_leaf_hands_null_on(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b"])).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([bench.completion(0, Outcome::Ignored), bench.success(1, 1)]).await;
    assert_eq!(bench.messages(&settled.released).await[0].args.as_str(), "[[null,1]]");
}

pub async fn a_retry_in_a_header_does_not_release_the_body(subject: &dyn Subject) {
    let bench = Bench::submit(subject, chord(&["a", "b"])).await;
    bench.dispatch_outbox().await;
    let retry = Outcome::retry(TaskError::new("IOError", "again"));
    let settled = bench.settle([bench.success(0, 1), bench.completion(1, retry)]).await;
    let second = Release { attempt: 2, ..bench.release(1) };
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Retried]);
    assert_eq!(settled.released, [second]);
    assert_eq!(bench.dispatch(&[second]).await, 1);
    let settled = bench.settle([Completion { attempt: 2, ..bench.success(1, 2) }]).await;
    assert_eq!(settled.released, [bench.release(2)]);
}

pub async fn a_completion_of_an_older_attempt_changes_nothing(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    bench.dispatch_outbox().await;
    let retry = Outcome::retry(TaskError::new("IOError", "again"));
    bench.settle([bench.completion(0, retry)]).await;
    let settled = bench.settle([bench.success(0, 1)]).await;
    assert_eq!(settled.verdicts, [Verdict::Stale]);
    assert_eq!(bench.outcome().await, RunOutcome::Undecided);
    bench.settle([Completion { attempt: 2, ..bench.success(0, 2) }]).await;
    assert_eq!(bench.value().await, Some(json(2)));
}

pub async fn a_completion_of_a_leaf_that_was_not_released_changes_nothing(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    let nowhere = Completion { task_id: bench.run.task(NodeNo::from_index(99)), ..bench.success(0, 1) };
    let settled = bench.settle([bench.success(1, 1), nowhere]).await;
    assert_eq!(settled.verdicts, [Verdict::Refused, Verdict::Refused]);
    assert_eq!(bench.outcome().await, RunOutcome::Undecided);
    assert_eq!(bench.run_to_the_end().await.len(), 2);
}

pub async fn an_error_callback_is_released_once_with_the_first_failure(subject: &dyn Subject) {
    let mut canvas = chord(&["a", "b", "c"]);
    canvas.link_error(sig("errback"));
    let bench = Bench::submit(subject, canvas).await;
    bench.dispatch_outbox().await;
    let first = bench.settle([bench.completion(1, boom())]).await.released;
    assert_eq!(first.len(), 1);
    let failure: Vec<Failure> = bench.messages(&first).await[0].args.to().unwrap();
    assert_eq!(failure[0].task_id, bench.run.task(NodeNo::from_index(1)));
    bench.dispatch(&first).await;
    assert_eq!(bench.settle([bench.completion(0, boom()), bench.completion(2, boom())]).await.released, []);
    assert!(bench.settle([bench.completion(first[0].node.index(), boom())]).await.ended);
}

pub async fn a_failing_callback_does_not_fail_the_run(subject: &dyn Subject) {
    let mut canvas = sig("a");
    canvas.link(sig("callback"));
    let bench = Bench::submit(subject, canvas).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([bench.success(0, 1)]).await;
    assert!(settled.decided && !settled.ended);
    bench.settle([bench.completion(settled.released[0].node.index(), boom())]).await;
    assert_eq!(bench.outcome().await, RunOutcome::Succeeded);
}

pub async fn a_header_of_8001_releases_its_body_once(subject: &dyn Subject) {
    const WIDTH: usize = 8001;
    let bench = Bench::submit(subject, Canvas::chord((0..WIDTH).map(|_| sig("a")), sig("body"))).await;
    let outbox = subject.backend().outbox(bench.run).await.unwrap();
    assert_eq!(outbox.len(), WIDTH);
    assert_eq!(bench.dispatch(&outbox).await, WIDTH);
    let released = bench.settle((0..WIDTH).map(|place| bench.success(place, place as i64))).await.released;
    assert_eq!(released, [bench.release(WIDTH)]);
    let header: Vec<Vec<usize>> = bench.messages(&released).await[0].args.to().unwrap();
    assert!(header[0].iter().copied().eq(0..WIDTH));
}

pub async fn completions_delivered_three_times_in_any_order_count_once(subject: &dyn Subject) {
    let (runs, width) = (40, 5);
    for number in 0..runs {
        let bench = Bench::submit_as(subject, number, chord(&["a"; 5])).await;
        bench.dispatch_outbox().await;
        // A fixed shuffle, another one for each run.
        let step = [1, 2, 4, 7, 8, 11, 13, 14][number as usize % 8];
        let order = (0..15).map(|i| (i * step + number as usize) % 15);
        let mut first = vec![None; width];
        let mut released = Vec::new();
        for delivery in order {
            let (place, value) = (delivery % width, delivery as i64);
            first[place].get_or_insert(value);
            let settled = bench.settle([bench.success(place, value)]).await;
            if released.is_empty() {
                released = settled.released;
                bench.dispatch(&released).await;
            } else {
                assert_eq!(settled.released, [], "the body was dispatched; nothing is owed");
            }
        }
        assert_eq!(released, [bench.release(width)]);
        let header = Json::new(&[first]).unwrap();
        assert_eq!(bench.messages(&released).await[0].args, header);
    }
}

pub async fn several_runs_settle_in_one_batch(subject: &dyn Subject) {
    let one = Bench::submit_as(subject, 1, sig("a").then(sig("b"))).await;
    let two = Bench::submit_as(subject, 2, sig("a")).await;
    one.dispatch_outbox().await;
    two.dispatch_outbox().await;
    let unknown = crate::bench::run_id(404);
    let batch = [
        Advance::new(one.run, vec![one.success(0, 1)]),
        Advance::new(unknown, vec![]),
        Advance::new(two.run, vec![two.success(0, 2)]),
    ];
    let answers = subject.backend().settle(&batch).await.unwrap();
    let mut settled = answers.into_iter().map(|answer| answer.unwrap().settled());
    assert_eq!(settled.next().unwrap().unwrap().released, [one.release(1)]);
    assert_eq!(settled.next().unwrap(), None);
    assert!(settled.next().unwrap().unwrap().ended);
}
