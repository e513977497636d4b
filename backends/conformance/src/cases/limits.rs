//! Limits: what is over one fails its leaf or is refused, at once and with its size, in every spelling, and
//! nobody else is held up. The tasks are those of large values.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_primitives::{Canvas, Json, Limits, Signature};
use celeriac_runtime::{SubmitError, WorkerOptions};
use tokio::time::Instant;

use super::large::{House, call, measure, number, says};
use crate::Subject;
use crate::bench::sig;

/// In the small limits of the cases.
const SMALL: Limits = Limits {
    argument_bytes_max: 400_000,
    result_bytes_max: 300_000,
    options_bytes_max: 100_000,
    error_bytes_max: 1000,
    progress_bytes_max: 100,
    replacement_bytes_max: 2000,
    plan_bytes_max: 700_000,
    depth_max: 64,
    nodes_max: 1000,
    replacements_max: 100,
    run_nodes_max: 1000,
    queues_max: 1_000,
};

pub async fn a_result_over_the_limit_fails_its_leaf_at_once(subject: &dyn Subject) {
    let house = House::within(subject, SMALL, WorkerOptions::default());
    let max = SMALL.result_bytes_max;
    assert_eq!(house.value(call("large.make", &[number(max)])).await.len(), max);
    let made = house.calls.0.load(Ordering::SeqCst);
    let error = house.error(call("large.make", &[number(max + 1)])).await;
    assert_eq!(error.kind, "LimitError");
    assert!(error.message.contains("300001") && error.message.contains("300000"), "{error}");
    assert_eq!(house.calls.0.load(Ordering::SeqCst), made + 1, "it ran once");
    // Nobody else is held up.
    assert_eq!(house.value(call("large.make", &[number(5)])).await.len(), 5);
}

pub async fn arguments_over_the_limit_fail_their_leaf_at_once(subject: &dyn Subject) {
    let house = House::within(subject, SMALL, WorkerOptions::default());
    let large = || call("large.make", &[number(200_000)]);
    let fits = Canvas::chord([large(), call("large.make", &[number(190_000)])], call("large.lengths", &[]));
    assert_eq!(house.value(fits).await, "[200000,190000]");
    let together = Canvas::chord([large(), large()], call("large.lengths", &[]));
    // A list of so many that its body is told of them by reference, small ones.
    let many =
        Canvas::chord((0..600).map(|_| call("large.make", &[number(700)])), call("large.lengths", &[]));
    let once_more = call("large.again", &[number(SMALL.argument_bytes_max), Json::null()]);
    for canvas in [together, many, once_more] {
        let error = house.error(canvas).await;
        assert_eq!(error.kind, "LimitError");
        assert!(error.message.contains("more than 400000"), "{error}");
    }
}

/// The same is counted of the arguments of a leaf in a canvas and at its worker: what is accepted runs.
pub async fn arguments_at_the_limit_run_and_those_above_are_refused(subject: &dyn Subject) {
    for max in [2_000, 100_000] {
        let limits = Limits { argument_bytes_max: max, ..Limits::default() };
        let house = House::within(subject, limits, WorkerOptions::default());
        // A text that fills what is left beside so many bytes.
        let text = |besides: usize, more: isize| {
            let bytes = (max - besides).wrapping_add_signed(more);
            let text = Json::string(&"x".repeat(bytes - 2));
            assert_eq!(text.as_str().len(), bytes);
            text
        };
        let positional = |more| call("large.echo", &[text(0, more)]);
        let named = |more| {
            let mut leaf = Signature::new("large.echo").unwrap();
            // The name in its quotes, and a colon.
            leaf.kwargs = [("text".to_owned(), text(7, more))].into_iter().collect();
            Canvas::from(leaf)
        };
        let several = |more| {
            let mut leaf = Signature::new("large.join").unwrap();
            leaf.args = vec![Json::string("abc"), text(6 + 11, more)];
            leaf.kwargs = [("third".to_owned(), Json::string("d"))].into_iter().collect();
            Canvas::from(leaf)
        };
        let spellings: [(&str, &dyn Fn(isize) -> Canvas); 3] =
            [("positional", &positional), ("named", &named), ("several", &several)];
        for (spelling, canvas) in spellings {
            for more in [-1, 0] {
                let value = house.value(canvas(more)).await;
                assert!(value.len() > max / 2, "{spelling}, {more} to {max}: {value}");
            }
            let error = house.app.submit(canvas(1)).await.unwrap_err().to_string();
            assert!(
                error.contains(&format!("{} bytes of JSON, more than {max}", max + 1)),
                "{spelling}: {error}"
            );
        }
        // What a leaf takes from others counts with its own.
        let taken = |more: isize| {
            let bytes = (max / 2).wrapping_add_signed(more);
            let own = Json::string(&"x".repeat(max - max / 2 - 1 - 10 - 2));
            let mut leaf = Signature::new("large.join").unwrap();
            leaf.args = vec![own];
            // "third":"" are ten bytes, and a comma stands before its own.
            leaf.kwargs = [("third".to_owned(), Json::string(""))].into_iter().collect();
            Canvas::chain([call("large.make", &[number(bytes)]), leaf.into()])
        };
        for more in [-1, 0] {
            let value = house.value(taken(more)).await;
            assert!(value.len() > max / 2, "bound, {more} to {max}");
        }
        let error = house.error(taken(1)).await;
        assert_eq!(error.kind, "LimitError");
        assert!(error.message.contains(&format!("{} bytes of JSON, more than {max}", max + 1)), "{error}");
        // A list that a body takes.
        let listed = |more: isize| {
            let half = (max / 2 - 2).wrapping_add_signed(more);
            let other = max - max / 2 - 1;
            let header = [half, other].map(|bytes| call("large.make", &[number(bytes)]));
            Canvas::chord(header, call("large.lengths", &[]))
        };
        for more in [-1, 0] {
            assert!(house.value(listed(more)).await.starts_with('['), "listed, {more} to {max}");
        }
        assert_eq!(house.error(listed(1)).await.kind, "LimitError");
    }
}

pub async fn a_canvas_over_a_limit_is_refused_in_every_spelling(subject: &dyn Subject) {
    let house = House::within(subject, SMALL, WorkerOptions::default());
    let long = Json::string(&"x".repeat(SMALL.argument_bytes_max));
    let refused = async |canvas: Canvas, what: &str| {
        for canvas in [Canvas::from_json(&canvas.to_json()).unwrap(), canvas] {
            let error = house.app.submit(canvas).await.unwrap_err();
            assert!(matches!(error, SubmitError::Compile(_)) && error.to_string().contains(what), "{error}");
        }
    };
    let typed = house.app.submit(measure.s(("x".repeat(SMALL.argument_bytes_max),))).await.unwrap_err();
    assert!(typed.to_string().contains("more than 400000"), "{typed}");
    let mut named = Signature::new("large.measure").unwrap();
    named.kwargs = [("text".to_owned(), long.clone())].into_iter().collect();
    refused(call("large.measure", &[long]), "more than 400000").await;
    refused(named.into(), "more than 400000").await;
    let half = call("large.measure", &[Json::string(&"x".repeat(SMALL.argument_bytes_max / 2))]);
    refused(Canvas::group((0..4).map(|_| half.clone())), "more than 700000").await;
    assert_eq!(subject.backend().list(None, 9).await.unwrap(), [], "nothing was stored");
}

/// Everything in them that may be long.
pub async fn options_over_the_limit_are_refused_in_every_spelling(subject: &dyn Subject) {
    let limits = Limits { replacement_bytes_max: 1 << 20, plan_bytes_max: 1 << 20, ..SMALL };
    let house = House::within(subject, limits, WorkerOptions::default());
    let long = |bytes: usize| Json::string(&"x".repeat(bytes));
    let leaf = || call("large.make", &[number(3)]);
    let with = |name: &str, value: &Json| {
        let mut leaf = leaf();
        leaf.options_mut().set(name, value.clone()).unwrap();
        leaf
    };
    let stamped = |mut canvas: Canvas, name: &str, bytes| {
        canvas.stamp(name, &long(bytes));
        canvas
    };
    let header = |bytes| with("headers", &Json::new(&BTreeMap::from([("h", "x".repeat(bytes))])).unwrap());
    let types = Json::new(&BTreeMap::from([("autoretry_for", vec!["x".repeat(50_000); 3])])).unwrap();
    let mut with_errback = leaf();
    with_errback.link_error(stamped(sig("large.errback"), "s", 150_000));
    let over = [
        ("a header", header(150_000)),
        ("a shadow", with("shadow", &long(150_000))),
        ("types of errors", with("retry", &types)),
        ("a stamp", stamped(leaf(), "s", 150_000)),
        ("a stamp of many", stamped(Canvas::group((0..9).map(|_| leaf())), "s", 150_000)),
        ("the second of a chain", Canvas::chain([leaf(), header(150_000)])),
        ("a body", Canvas::chord([leaf()], stamped(call("large.lengths", &[]), "s", 150_000))),
        ("an errback", with_errback),
        ("stamps of two", stamped(Canvas::group([stamped(leaf(), "s", 60_000)]), "t", 60_000)),
    ];
    for (what, canvas) in over {
        for canvas in [Canvas::from_json(&canvas.to_json()).unwrap(), canvas] {
            let error = house.app.submit(canvas).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, SubmitError::Compile(_)), "{what}: {text}");
            assert!(text.contains("more than 100000 (options_bytes_max)"), "{what}: {text}");
        }
    }
    // Nine that differ, and each below the limit.
    let many = Canvas::group((0..15).map(|place| header(90_000 + place)));
    assert!(house.app.submit(many).await.unwrap_err().to_string().contains("plan_bytes_max"));
    assert_eq!(subject.backend().list(None, 9).await.unwrap(), [], "nothing was stored");
    let error = house.error(call("large.headed", &[number(150_000)])).await;
    assert!(error.to_string().contains("options_bytes_max"), "{error}");
    for canvas in [header(90_000), call("large.headed", &[number(90_000)])] {
        assert_eq!(house.value(canvas).await.len(), 3);
    }
    let mut second = call("large.make", &[]);
    second.options_mut().set("shadow", long(90_000)).unwrap();
    assert_eq!(house.value(Canvas::chain([call("large.number", &[number(3)]), second])).await.len(), 3);
}

/// However many leaves have them, and wherever they stand.
pub async fn leaves_with_long_options_are_queued_in_parts(subject: &dyn Subject) {
    let house = House::start(subject);
    let leaf = || call("large.make", &[number(3)]);
    let alone = || {
        let mut signature = Signature::new("large.make").expect("a good name").immutable();
        signature.args = vec![number(3)];
        Canvas::from(signature)
    };
    let stamped = |mut canvas: Canvas| {
        canvas.stamp("s", &Json::string(&"x".repeat(700_000)));
        canvas
    };
    let all = [
        Canvas::group((0..60).map(|_| leaf())),
        Canvas::group((0..120).map(|_| Canvas::chain([leaf(), alone()]))),
        Canvas::chain([Canvas::group([leaf()]), Canvas::group((0..60).map(|_| alone()))]),
    ];
    for canvas in all {
        assert!(house.value(stamped(canvas)).await.starts_with('['));
    }
}

pub async fn what_replaces_a_leaf_has_a_limit(subject: &dyn Subject) {
    let house = House::within(subject, SMALL, WorkerOptions::default());
    assert_eq!(house.value(call("large.wide", &[number(3)])).await.len(), 13);
    let error = house.error(call("large.wide", &[number(100)])).await;
    assert_eq!(error.kind, "LimitError");
    assert!(error.message.contains("more than 2000"), "{error}");
    let added = |own, count| Canvas::group([call("large.add_many", &[number(own), number(count)])]);
    assert!(house.error(added(10, 100)).await.message.contains("more than 2000"));
    // Its own value is a result like others.
    assert_eq!(house.value(added(3000, 1)).await.len(), 3006);
    assert!(house.error(added(300_001, 1)).await.message.contains("more than 300000"));
}

pub async fn errors_and_progress_are_cut_to_their_limits(subject: &dyn Subject) {
    let house = House::within(subject, SMALL, WorkerOptions::default());
    for bytes in [100, 600, 5000] {
        let mut canvas = call("large.boom", &[number(bytes)]);
        canvas.link_error(sig("large.errback"));
        let error = house.error(canvas).await;
        let all = error.message.len() + error.causes.iter().map(String::len).sum::<usize>();
        assert!(all >= (3 * bytes).min(1000) && all < 1100, "{all} bytes of {bytes}");
        assert_eq!(error.causes.len() == 2 && !error.to_string().contains('…'), bytes == 100, "{error}");
    }
    for (bytes, expect) in [(50, "\"xxxxx"), (500, "{\"bytes\":502,\"limit\":100}")] {
        let run = house.app.submit(says.s((bytes,))).await.unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while run.progress().await.unwrap().is_empty() {
            assert!(Instant::now() < until, "nothing is reported");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let meta = run.progress().await.unwrap()[0].meta.to_string();
        assert!(meta.starts_with(expect), "{meta}");
    }
}
