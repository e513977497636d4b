//! Size is linear, messages carry no graph, and wide or long canvases need no deep stack.

use celeriac::engine::Plan;
use celeriac::prelude::*;

#[task(name = "sizes.one")]
async fn one() -> i64 {
    1
}

#[task(name = "sizes.plus")]
async fn plus(x: i64) -> i64 {
    x + 1
}

#[task(name = "sizes.count")]
async fn count(numbers: Vec<i64>) -> usize {
    numbers.len()
}

fn app() -> App {
    App::embedded().tasks(tasks![one, plus, count]).build().unwrap()
}

fn group_of(n: usize, name: &str) -> Canvas {
    Canvas::group((0..n).map(|_| Signature::new(name).unwrap().into()))
}

#[test]
fn two_groups_of_a_thousand_have_at_most_2001_edges() {
    let plan = Plan::compile(&group_of(1000, "a").then(group_of(1000, "b"))).unwrap();
    assert!(plan.edge_count() <= 2001, "{} edges", plan.edge_count());
}

#[test]
fn a_plan_doubles_with_its_canvas() {
    let chords = |n| {
        let chord = || Canvas::chord([group_of(1000, "a")], Signature::new("b").unwrap());
        Plan::compile(&Canvas::chain((0..n).map(|_| chord()))).unwrap().encode().len()
    };
    let (twenty, forty) = (chords(20), chords(40));
    assert!(forty * 100 <= twenty * 205, "{twenty} bytes became {forty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_100_000_runs_to_its_end() {
    let steps = (0..100_000).map(|_| Signature::of(plus_name()).into());
    let chain = Canvas::chain(std::iter::once(Signature::new("sizes.one").unwrap().into()).chain(steps));
    let run = app().submit(chain).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 100_001);
}

fn plus_name() -> celeriac::primitives::TaskName {
    celeriac::primitives::TaskName::new("sizes.plus").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chord_of_100_000_runs_to_its_end() {
    let run = app().submit(chord((0..100_000).map(|_| one.s(())), count.s(()))).await.unwrap();
    assert_eq!(run.get().await.unwrap(), 100_000);
}
