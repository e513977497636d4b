//! `dead`: what was set aside is listed, requeued and dropped.

use std::time::Duration;

use celeriac_runtime::CoordinatorOptions;
use insta::assert_snapshot;

use super::*;

const LEASE: Duration = Duration::from_secs(10);

/// So many leaves are not queued by who submits them, but by a coordinator that is told.
const MANY: &str = "group(add.s(i, i) for i in range(1000))";

/// Sets the events of so many submissions aside, for this reason.
async fn set_aside(app: &App, count: usize, reason: &str) {
    for number in 0..count {
        command(app, &["submit", "--key", &format!("{number}"), MANY]).await;
    }
    let events = app.backend().events(count, LEASE, Duration::ZERO).await.unwrap();
    assert_eq!(events.len(), count);
    for event in events {
        app.backend().set_aside(&event, reason).await.unwrap();
    }
}

/// The ids of all dead letters.
async fn ids(app: &App) -> Vec<String> {
    let listed = command(app, &["dead"]).await;
    listed.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn what_was_set_aside_is_listed_on_lines_of_80_columns() {
    on_a_backend(async |app| {
        assert_snapshot!(command(&app, &["dead"]).await, @"0 ID                FROM              TIMES  REASON");
        set_aside(
            &app,
            1,
            "the run is broken\n\u{1b}[2J and \u{202e}what is said of it is \u{9b}long, very long",
        )
        .await;
        let listed = command(&app, &["dead"]).await;
        assert!(listed.lines().all(|line| line.chars().count() <= 82), "{listed}");
        assert!(listed.contains("submissions           1  the run is broken\\n\\u{1b}[2J"), "{listed}");
        let json = command(&app, &["dead", "-o", "json"]).await;
        assert!(json.is_ascii(), "nothing that a terminal would obey: {json}");
        let letter: serde_json::Value = serde_json::from_str(&json[2..]).unwrap();
        assert_eq!(letter["from"], "submissions");
        assert_eq!((&letter["deliveries"], &letter["whole"]), (&1.into(), &true.into()));
        assert!(letter["reason"].as_str().unwrap().ends_with("very long"), "{letter}");
        assert_eq!(letter["id"], ids(&app).await[0].as_str());
    });
}

#[test]
fn what_is_requeued_is_handled() {
    on_a_backend(async |app| {
        set_aside(&app, 3, "broken").await;
        let ids = ids(&app).await;
        assert_eq!(command(&app, &["dead", "requeue", &ids[1]]).await, "0 1 requeued\n");
        let again = command(&app, &["dead", "requeue", &ids[1]]).await;
        assert_eq!(again, format!("5 error: there is no dead letter {}\n0 requeued\n", ids[1]));
        assert_eq!(command(&app, &["dead", "requeue", "--all"]).await, "0 2 requeued\n");
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(app.backend().events(9, LEASE, Duration::ZERO).await.unwrap().is_empty());
        assert!(command(&app, &["dead"]).await.lines().count() == 1);
    });
}

#[test]
fn what_is_dropped_is_gone() {
    on_a_backend(async |app| {
        set_aside(&app, 3, "broken").await;
        let ids = ids(&app).await;
        assert_eq!(command(&app, &["dead", "drop", &ids[0]]).await, "0 1 dropped\n");
        assert!(
            command(&app, &["dead", "drop", &ids[0]]).await.starts_with("5 error: there is no dead letter")
        );
        assert_eq!(command(&app, &["dead", "-n", "1"]).await.lines().count(), 2);
        assert_eq!(command(&app, &["dead", "drop", "--all"]).await, "0 2 dropped\n");
        assert!(app.backend().events(9, LEASE, Duration::ZERO).await.unwrap().is_empty());
    });
}

#[test]
fn which_letters_has_to_be_said() {
    on_a_backend(async |app| {
        for (args, told) in [
            (&["dead", "drop"][..], "required"),
            (&["dead", "drop", "1-1", "--all"], "cannot be used with"),
            (&["dead", "requeue", "x"], "invalid value 'x'"),
        ] {
            let refused = command(&app, args).await;
            assert!(refused.starts_with("2 ") && refused.contains(told), "{args:?}: {refused}");
        }
    });
}
