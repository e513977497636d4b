//! Typed canvases from end to end.

use std::collections::BTreeMap;

use celeriac::prelude::*;

#[task]
async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
    x + y + z
}

/// A blocking task.
#[task]
fn mul(x: i64, y: i64) -> i64 {
    std::thread::yield_now();
    x * y
}

#[task]
async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task]
async fn describe(pair: (i64, String)) -> String {
    format!("{} {}", pair.0, pair.1)
}

#[task]
async fn word(text: String) -> String {
    text
}

#[task]
async fn lengths(words: BTreeMap<String, u64>) -> u64 {
    words.values().sum()
}

fn app() -> App {
    App::embedded().tasks(tasks![add, mul, xsum, describe, word, lengths]).build().unwrap()
}

macro_rules! check {
    ($canvas:expr, $expect:expr) => {
        assert_eq!(app().submit($canvas).await.unwrap().get().await.unwrap(), $expect)
    };
}

#[tokio::test]
async fn tasks_stay_functions() {
    assert_eq!(add.call(2, 2, 0).await, 4);
    assert_eq!(mul.call(4, 8), 32);
}

#[tokio::test]
async fn chains_feed_each_step_with_the_one_before() {
    check!(add.s((4, 4)) | mul.s(8), 64);
    check!(canvas!(add.s(4, 4) | mul.s(8)), 64);
    check!(canvas!(add.s(4, y = 4) | add.s(1, z = 1)), 10);
    check!(canvas!(add.s(1, 2) | add.si(3, 4)), 7);
    check!(add.s(4).partial(16), 20);
    check!(chain((add.s((1, 2)), add.s(3), mul.s(2))), 12);
}

#[tokio::test]
async fn groups_are_lists_and_chords_call_their_body_with_them() {
    check!(canvas!(group(add.s(i, i) for i in 0..10)), (0..10).map(|i| 2 * i).collect::<Vec<i64>>());
    check!(canvas!(group(add.s(i, i) for i in 0..10) | xsum.s()), 90);
    check!(canvas!(chord([add.s(1, 1), add.s(2, 2)], xsum.s())), 6);
    check!(group([add.s((1, 2))]) | xsum.s(()), 3);
    check!(canvas!(add.s(1, 2) | group(add.s(3), mul.s(2)) | xsum.s()), 12);
}

#[tokio::test]
async fn a_group_of_different_types_is_a_tuple() {
    check!(group((add.s((1, 2)), word.s("three"))), (3, "three".to_owned()));
    check!(group((add.s((1, 2)), word.s("three"))) | describe.s(()), "3 three");
}

#[tokio::test]
async fn maps_starmaps_and_chunks_take_their_items() {
    check!(xsum.map([vec![1, 2], vec![3, 4]]), [3, 7]);
    check!(add.starmap([(1, 2), (3, 4)]), [3, 7]);
    check!(add.chunks([(1, 1), (2, 2), (3, 3)], 2), [vec![2, 4], vec![6]]);
    check!(
        mul.chunks((0..100).map(|i| (i, i)), 10),
        (0..10).map(|c| (0..10).map(|i| (c * 10 + i) * (c * 10 + i)).collect()).collect::<Vec<Vec<i64>>>()
    );
}

#[tokio::test]
async fn a_canvas_runs_twice_as_two_runs() {
    let app = app();
    let canvas = add.s(3);
    let first = app.submit(canvas.clone().partial(1)).await.unwrap();
    let second = app.submit(canvas.partial(100)).await.unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!((first.get().await.unwrap(), second.get().await.unwrap()), (4, 103));
}

#[tokio::test]
async fn untyped_canvases_and_signatures_give_json() {
    let app = App::embedded().tasks(tasks![add]).build().unwrap();
    let name = app.registry().tasks().next().unwrap().name.clone();
    let signature = Signature::of(name).arg(2).unwrap().kwarg("y", 3).unwrap();
    assert_eq!(app.submit(signature.clone()).await.unwrap().get().await.unwrap(), 5);
    let canvas = Canvas::from_json(&Canvas::from(signature).to_json()).unwrap();
    assert_eq!(app.submit(canvas).await.unwrap().get().await.unwrap(), 5);
}

#[tokio::test]
async fn an_argument_without_a_json_form_is_refused_before_anything_is_stored() {
    #[task]
    async fn keyed(map: BTreeMap<(i64, i64), i64>) -> usize {
        map.len()
    }
    let app = App::embedded().tasks(tasks![keyed]).build().unwrap();
    let error = app.submit(keyed.s(BTreeMap::from([((1, 2), 3)]))).await.unwrap_err();
    assert!(error.to_string().contains("key must be a string"), "{error}");
}
