//! `worker`, `coordinator`, `up` and `health`, in this process: they work, and stop when they are told to.

use std::time::Duration;

use insta::{allow_duplicates, assert_snapshot};

use super::*;

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn up_does_what_is_submitted_and_ends_with_0() {
    on_a_backend(async |app| {
        let up = interrupted(&app, &["up", "-c", "1"], after(60));
        let (up, result) = tokio::join!(up, command(&app, &["run", "add.s(4, 4) | mul.s(8)"]));
        assert_eq!((up.as_str(), result.as_str()), ("0 ", "0 64\n"));
    });
}

#[test]
fn worker_and_coordinator_work_together() {
    on_a_backend(async |app| {
        let worker = interrupted(&app, &["worker", "-Q", "other,celery", "--prefetch", "0"], after(60));
        let coordinator = interrupted(&app, &["coordinator", "--sweep", "1s"], after(60));
        let run = command(&app, &["run", "add.s(1, 1) | add.s(2).set(queue='other')"]);
        let (worker, coordinator, result) = tokio::join!(worker, coordinator, run);
        assert_eq!([worker, coordinator, result], ["0 ", "0 ", "0 4\n"]);
    });
}

#[test]
fn a_leaf_that_runs_when_the_process_is_told_to_stop_is_finished() {
    on_a_backend(async |app| {
        let up = interrupted(&app, &["up", "--grace", "30"], after(1));
        let (up, result) = tokio::join!(up, command(&app, &["run", "sleep.s(20)", "--timeout", "25"]));
        assert_eq!([up, result], ["0 ", "0 null\n"]);
    });
}

#[test]
fn a_leaf_that_takes_longer_than_the_grace_goes_to_another_worker_at_once() {
    on_a_backend(async |app| {
        let path = file("linger", "");
        std::fs::remove_file(&path).unwrap();
        let first = interrupted(&app, &["worker", "--lease", "100h", "--grace", "2"], after(10));
        let second = async {
            after(12).await;
            interrupted(&app, &["worker"], after(60)).await
        };
        let coordinator = interrupted(&app, &["coordinator"], after(60));
        let canvas = format!("linger.s('{path}')");
        let run = ["run", &canvas, "--timeout", "20"];
        let run = command(&app, &run);
        let (first, second, coordinator, result) = tokio::join!(first, second, coordinator, run);
        assert_eq!([first, second, coordinator, result], ["0 ", "0 ", "0 ", "0 \"another time\"\n"]);
    });
}

#[test]
fn the_health_file_is_green_while_the_process_works_and_gone_afterwards() {
    on_a_backend(async |app| {
        let path = file("health", "");
        let health = ["health", "--health-file", &path];
        let up = ["up", "--health-file", &path];
        let up = interrupted(&app, &up, after(60));
        let (up, said) = tokio::join!(up, async {
            after(1).await;
            command(&app, &health).await
        });
        assert_eq!([up, said], ["0 ", "0 green\n"]);
        assert!(command(&app, &health).await.starts_with("1 red: "));
    });
}

#[test]
fn a_file_that_is_not_written_any_more_is_red() {
    on_a_backend(async |app| {
        let path = file("old-health", "green\n");
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        let said = command(&app, &["health", "--health-file", &path]).await;
        assert_eq!(said, format!("1 red: {path} was last written 3600 s ago\n"));
        let path = file("red-health", "red: worker: gone\n");
        assert_eq!(command(&app, &["health", "--health-file", &path]).await, "1 red: worker: gone\n");
        assert_snapshot!(command(&app, &["health"]).await, @"2 error: write --health ADDR or --health-file PATH, as the process has it");
    });
}

#[test]
fn a_health_place_that_cannot_be_used_ends_with_3() {
    on_a_backend(async |app| {
        let up = command(&app, &["up", "--health-file", "no/such/directory/health"]).await;
        assert_snapshot!(up, @"3 error: --health-file no/such/directory/health cannot be written: No such file or directory (os error 2)");
    });
}

#[test]
fn what_other_processes_have_to_see_is_not_kept_in_memory() {
    for args in [
        &["worker"][..],
        &["coordinator"],
        &["up"],
        &["submit", "add.s(1, 1)"],
        &["wait", "00"],
        &["result", "00"],
        &["ls"],
        &["show", "00"],
        &["graph", "00"],
        &["forget", "00"],
    ] {
        let with_url = [args, &["--url", "memory:"]].concat();
        allow_duplicates! {
            assert_snapshot!(celeriac(args).error(), @"2 error: this command needs a backend that processes share, and this app keeps its runs in memory; write --url redis://localhost:6379, or set CELERIAC_URL");
            assert_snapshot!(celeriac(&with_url).error(), @"2 error: memory: ends with the process that uses it, so only run can; write --url redis://localhost:6379");
        }
    }
    check(&["run", "add.s(2, 2)", "--url", "memory:"], "4");
}

#[test]
fn a_url_is_read_from_a_file() {
    let (good, empty) = (file("url", "memory:\n"), file("no-url", " \n"));
    check(&["run", "add.s(2, 2)", "--url-file", &good], "4");
    let ran = celeriac(&["ls", "--url-file", &good]).error();
    assert!(ran.contains("memory: ends with the process"), "{ran}");
    let told = |args: &[&str], words: &str| {
        let ran = celeriac(&[&["ls", "--url-file"], args].concat()).error();
        assert!(ran.starts_with("2 error: --url-file (CELERIAC_URL_FILE): ") && ran.contains(words), "{ran}");
    };
    told(&[&good, "--url", "redis://127.0.0.1:1"], "give one of the two");
    told(&[&empty], "is empty");
    told(&["/no/such/file"], "/no/such/file: ");
}

#[test]
fn a_queue_that_no_leaf_can_name_is_refused() {
    for name in ["a}b", "{a", "", "a,,b", "a\u{1b}b"] {
        let ran = celeriac(&["worker", "-Q", name, "--url", "redis://127.0.0.1:1"]).error();
        assert!(ran.starts_with("2 error: ") && ran.contains("the name of a queue"), "{name:?}: {ran}");
    }
}

/// What would be passed over is refused before anybody connects.
#[test]
fn a_url_or_a_prefix_of_which_something_would_be_passed_over_is_refused() {
    let url = "redis://:s3cret@127.0.0.1:1";
    let check = |url: &str, prefix: &str, words: &str| {
        let ran = celeriac(&["ls", "--url", url, "--prefix", prefix]).error();
        assert!(ran.contains(words) && !ran.contains("s3cret"), "{url} {prefix}: {ran}");
    };
    check(&format!("{url}?ca=/etc/hostname"), "p", "write rediss://");
    check(&format!("{url}?sslmode=require"), "p", "an option that is none");
    check(&format!("{url}?db=5"), "p", "an option that is none");
    check(&format!("{url}#insecure"), "p", "the URL has a #");
    check("redis-sentinel://:s3cret@127.0.0.1:1", "p", "/NAME[/DATABASE]");
    check("redis-sentinel://127.0.0.1:1/m?sentinel_pasword=s3cret", "p", "an option that is none");
    check("sentinel://:s3cret@127.0.0.1:1", "p", "redis-sentinel://");
    check("rediss://127.0.0.1:1?ca=/dev/null", "p", "no certificate in PEM form");
    for prefix in ["a b", "{a}", "a*", "[ab]", "ä", &"a".repeat(65)] {
        check(url, prefix, "ASCII letters, digits");
    }
}

#[test]
fn a_url_that_is_none_is_refused_and_no_password_is_shown() {
    for url in ["http://me:s3cret@host", "s3cret", "redis//:s3cret@host"] {
        allow_duplicates! {
            assert_snapshot!(celeriac(&["ls", "--url", url]).error(), @"2 error: --url: this begins like no backend; write redis://localhost:6379, rediss://…, unix:///run/redis.sock, redis-cluster://…, redis-sentinel://… or memory:");
        }
    }
    // Nothing listens at port 1, and there is no port 99999.
    for url in [
        "redis://me:s3cret@127.0.0.1:1",
        "redis://me:s3cret@127.0.0.1:99999",
        "unix:///s3?pass=s3cret",
        "redis-sentinel://me:s3cret@127.0.0.1:1/m?sentinel_password=s3cret",
    ] {
        let ran = celeriac(&["ls", "--url", url]);
        assert_eq!(ran.exit, Exit::Internal);
        assert!(!ran.error().contains("s3cret") && !ran.error().contains("me:"), "{}", ran.error());
    }
    for url in ["redis://:s3cret@host", "redis-sentinel://host/m?sentinel_password=s3cret"] {
        for args in [
            &["ls", url][..],
            &[url],
            &["ls", "--url", url, "--other"],
            &["ls", "--log", url],
            &["show", url],
        ] {
            assert!(!celeriac(args).error().contains("s3cret"), "{args:?}");
        }
    }
}
