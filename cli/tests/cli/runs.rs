//! `submit` and what is asked about runs afterwards.

use std::time::Duration;

use celeriac_runtime::{CoordinatorOptions, WorkerOptions};
use insta::assert_snapshot;

use super::*;

/// Calls commands on a backend where a worker and a coordinator are at work.
fn at_work(test: impl AsyncFnOnce(App)) {
    on_a_backend(async |app| {
        let _up = (app.coordinator(CoordinatorOptions::default()), app.worker(WorkerOptions::default()));
        test(app).await;
    });
}

/// Submits a canvas under a key, which has the same id in every test.
async fn submit(app: &App, key: &str, canvas: &str) -> String {
    let submitted = command(app, &["submit", "--key", key, canvas]).await;
    submitted.strip_prefix("0 ").expect("it is accepted").trim().to_owned()
}

#[test]
fn what_was_submitted_has_a_result() {
    at_work(async |app| {
        let id = submit(&app, "a", "add.s(4, 4) | mul.s(8)").await;
        assert_eq!(command(&app, &["result", &id]).await, "0 64\n");
        assert_eq!(command(&app, &["result", &id, "--no-wait"]).await, "0 64\n");
        assert_eq!(command(&app, &["wait", &id]).await, "0 ");
        let id = command(&app, &["submit", "add.s(1)", "--args", "2"]).await;
        assert_eq!(command(&app, &["result", id[2..].trim()]).await, "0 3\n");
    });
}

#[test]
fn a_failed_run_ends_result_and_wait_with_4_and_names_the_node() {
    at_work(async |app| {
        let id = submit(&app, "a", "add.s(1) | mul.s(2)").await;
        assert_snapshot!(command(&app, &["result", &id]).await, @r"
        4 error: chain[0] (proj.tasks.add) failed: TypeError: add() missing 1 required argument: 'y'
          the task is proj.tasks.add(x: i64, y: i64, z: i64 = 0)
        ");
        assert!(command(&app, &["wait", &id]).await.starts_with("4 error: chain[0] (proj.tasks.add) failed"));
    });
}

#[test]
fn waiting_has_an_end_and_the_run_goes_on() {
    at_work(async |app| {
        let id = submit(&app, "a", "sleep.s(60) | add.si(1, 1)").await;
        assert_eq!(
            command(&app, &["result", &id, "--timeout", "1.5"]).await,
            format!("6 error: the run has not ended within 1.5s; it goes on; its id is {id}\n")
        );
        assert!(command(&app, &["wait", &id, "--timeout", "1"]).await.starts_with("6 error: "));
        assert_snapshot!(command(&app, &["result", &id, "--no-wait"]).await, @"6 error: there is no result yet: 0 of 2 leaves have ended");
        let ctrl_c = tokio::time::sleep(Duration::from_secs(1));
        assert_eq!(
            interrupted(&app, &["result", &id], ctrl_c).await,
            format!("130 error: interrupted; the run goes on; its id is {id}\n")
        );
        assert_eq!(command(&app, &["result", &id]).await, "0 2\n");
    });
}

#[test]
fn wait_waits_for_callbacks_and_result_does_not() {
    at_work(async |app| {
        let id = submit(&app, "a", "add.s(1, 1).link(sleep.si(60))").await;
        assert_eq!(command(&app, &["result", &id, "--timeout", "30"]).await, "0 2\n");
        assert!(command(&app, &["wait", &id, "--timeout", "30"]).await.starts_with("6 "));
        assert_eq!(command(&app, &["wait", &id, "--timeout", "60"]).await, "0 ");
    });
}

#[test]
fn the_same_canvas_under_the_same_id_or_key_is_one_run_and_another_a_conflict() {
    at_work(async |app| {
        let id = submit(&app, "order-4711", "count.s()").await;
        assert_eq!(submit(&app, "order-4711", "count.s()").await, id);
        assert_eq!(command(&app, &["submit", "--id", &id, "count.s()"]).await, format!("0 {id}\n"));
        assert_eq!(command(&app, &["result", &id]).await, "0 0\n", "called once");
        assert_snapshot!(command(&app, &["submit", "--key", "order-4711", "add.s(1, 1)"]).await, @r#"7 error: the key "order-4711" is taken: the run 00a5584a-6e04-8bb5-a00a-dd6200000000 has another canvas"#);
        assert_snapshot!(command(&app, &["submit", "--id", &id, "add.s(1, 1)"]).await, @"7 error: this id is taken: the run 00a5584a-6e04-8bb5-a00a-dd6200000000 has another canvas");
    });
}

#[test]
fn runs_are_listed_with_state_and_progress() {
    at_work(async |app| {
        for (key, canvas) in
            [("a", "add.s(1, 1)"), ("b", "fail.s()"), ("c", "group(add.s(1, 1), sleep.s(60))")]
        {
            submit(&app, key, canvas).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_snapshot!(command(&app, &["ls"]).await, @r"
        0 ID                                    STATE    DONE
        00c457ce-f6b5-885a-b8b0-db8b00000000  STARTED  1/2
        0087f20e-7221-8db7-8fa6-d90c00000000  SUCCESS  1/1
        002f0e43-8439-83c5-a78b-2b0300000000  FAILURE  1/1
        ");
        assert_snapshot!(command(&app, &["ls", "--state", "failure", "-o", "json"]).await, @r#"0 {"id":"002f0e43-8439-83c5-a78b-2b0300000000","state":"FAILURE","done":1,"total":1,"ended":true}"#);
        let first = command(&app, &["ls", "-n", "1", "-o", "json"]).await;
        let first: serde_json::Value = serde_json::from_str(&first[2..]).unwrap();
        let rest = command(&app, &["ls", "--before", first["id"].as_str().unwrap()]).await;
        assert_eq!(rest.lines().count(), 3, "{rest}");
        assert_eq!(command(&app, &["ls", "-n", "0", "-o", "json"]).await, "0 ");
    });
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id_and_by_its_tasks() {
    at_work(async |app| {
        let id = submit(&app, "a", "add.s(1, 1)").await;
        submit(&app, "b", "add.s(1, 2)").await;
        for text in
            [&id[..6], &id[..13], &id[..14], &id.replace('-', ""), &id.replace("00000000", "00000001")]
        {
            assert_eq!(command(&app, &["result", text]).await, "0 2\n", "{text}");
        }
        assert_snapshot!(command(&app, &["result", "00"]).await, @"2 error: 00 begins several ids, such as 0087f20e-7221-8db7-8fa6-d90c00000000 and 002f0e43-8439-83c5-a78b-2b0300000000; write more of it");
        assert_snapshot!(command(&app, &["result", "ffffffff-ffff"]).await, @"5 error: there is no run whose id begins with ffffffff-ffff; the command ls lists those there are");
        assert_snapshot!(command(&app, &["show", "01a21061-7c9e-7dc4-904c-eebd00000000"]).await, @"5 error: there is no run 01a21061-7c9e-7dc4-904c-eebd00000000; the command ls lists those there are");
        assert_snapshot!(command(&app, &["forget", "latest"]).await, @r#"2 error: "latest" is not a UUID; an id looks like 0198f0c2-7b1d-7c3e-9a52-4d8f00000000"#);
    });
}

#[test]
fn a_run_is_drawn_with_the_state_of_every_node() {
    at_work(async |app| {
        let id = submit(&app, "a", "group(add.s(1, 1), fail.s()) | xsum.s()").await;
        command(&app, &["wait", &id]).await;
        assert_snapshot!(command(&app, &["show", &id]).await, @r"
        0 run 0087f20e-7221-8db7-8fa6-d90c00000000  FAILURE  2/3
        chain
        ├─ chain[0] group
        │  ├─ group[0] ✓ n1 proj.tasks.add.s(1, 1)
        │  └─ group[1] ✗ n2 proj.tasks.fail.s()
        └─ chain[1] ⊘ n3 proj.tasks.xsum.s([n1, n2]) (n2 failed)
        => n3
        chain[0].group[1] (proj.tasks.fail) failed: ValueError: boom: disk full: quota\u{1b}[2J of 5 GB
        ");
        let tree = command(&app, &["graph", &id]).await;
        assert!(command(&app, &["show", &id]).await.contains(&tree[2..]), "{tree}");
        assert!(command(&app, &["graph", &id, "-o", "dot"]).await.contains("fillcolor=salmon"));
        assert!(command(&app, &["graph", &id, "-o", "mermaid"]).await.contains(":::failed"));
        let json = command(&app, &["graph", &id, "-o", "json"]).await;
        let json: serde_json::Value = serde_json::from_str(&json[2..]).unwrap();
        assert_eq!(json["nodes"][1]["standing"], "failed");
    });
}

#[test]
fn long_groups_are_folded_unless_all_is_asked_for() {
    at_work(async |app| {
        let id = submit(&app, "a", "group(add.s(i, i) for i in range(1000))").await;
        command(&app, &["wait", &id]).await;
        assert_eq!(command(&app, &["show", &id]).await.lines().count(), 14);
        assert_eq!(command(&app, &["show", &id, "--all"]).await.lines().count(), 1003);
    });
}

#[test]
fn a_run_is_followed_to_its_end() {
    at_work(async |app| {
        let id = submit(&app, "a", "sleep.s(60) | (add.si(1, 1) | fail.s())").await;
        assert_snapshot!(command(&app, &["show", "--follow", &id]).await, @r"
        0 run 0087f20e-7221-8db7-8fa6-d90c00000000  PENDING  0/3
        chain
        ├─ chain[0] ▶ n1 proj.tasks.sleep.s(60)
        ├─ chain[1] ○ n2 proj.tasks.add.s(1, 1) after n1
        └─ chain[2] ○ n3 proj.tasks.fail.s(n2)
        => n3
        n1 succeeded  chain[0] proj.tasks.sleep
        n2 succeeded  chain[1] proj.tasks.add
        n3 failed  chain[2] proj.tasks.fail
        run 0087f20e-7221-8db7-8fa6-d90c00000000  FAILURE  3/3
        chain[2] (proj.tasks.fail) failed: ValueError: boom: disk full: quota\u{1b}[2J of 5 GB
        ");
        let id = submit(&app, "b", "sleep.s(60)").await;
        let ctrl_c = tokio::time::sleep(Duration::from_secs(1));
        let shown = interrupted(&app, &["show", "--follow", &id], ctrl_c).await;
        assert!(
            shown.starts_with("130 ") && shown.ends_with("error: interrupted; the run goes on\n"),
            "{shown}"
        );
    });
}

#[test]
fn a_run_is_forgotten_once_it_has_ended_or_by_force() {
    at_work(async |app| {
        let id = submit(&app, "a", "sleep.s(60)").await;
        assert_snapshot!(command(&app, &["forget", &id]).await, @"7 error: the run 0087f20e-7221-8db7-8fa6-d90c00000000 has not ended; wait for it, or write --force");
        command(&app, &["wait", &id]).await;
        assert_eq!(command(&app, &["forget", &id]).await, "0 ");
        assert!(command(&app, &["result", &id]).await.starts_with("5 error: there is no run"));
        let id = submit(&app, "b", "sleep.s(60)").await;
        assert_eq!(command(&app, &["forget", &id, "--force"]).await, "0 ");
        assert!(command(&app, &["wait", &id]).await.starts_with("5 "));
    });
}

#[test]
fn run_submits_and_waits_where_others_work() {
    at_work(async |app| {
        assert_eq!(command(&app, &["run", "add.s(4, 4) | mul.s(8)"]).await, "0 64\n");
        assert!(command(&app, &["ls"]).await.contains("SUCCESS  2/2"));
    });
}
