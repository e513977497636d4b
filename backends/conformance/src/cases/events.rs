//! Events and their leases.

use std::time::Duration;

use celeriac_backends::{DeadLetter, Event, EventId, LetterFrom, Requeued};
use celeriac_primitives::RunRef;

use crate::Subject;
use crate::bench::{Bench, LEASE, SOON, clear_events, events, run_id, sig};

pub async fn an_event_is_with_one_coordinator_at_a_time(subject: &dyn Subject) {
    for number in 0..3 {
        Bench::submit_as(subject, number, sig("a")).await;
    }
    let one = subject.backend().events(2, LEASE, SOON).await.unwrap();
    let two = subject.backend().events(9, LEASE, SOON).await.unwrap();
    let runs: Vec<Event> = one.into_iter().chain(two).map(|delivery| delivery.event).collect();
    assert_eq!(runs, [0, 1, 2].map(|number| Event::Submitted(run_id(number))));
    assert_eq!(events(subject).await.len(), 0);
}

pub async fn an_event_that_is_not_acknowledged_comes_again(subject: &dyn Subject) {
    Bench::submit(subject, sig("a")).await;
    let first = events(subject).await;
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    let again = events(subject).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].event, first[0].event);
}

pub async fn events_that_come_again_come_by_themselves_and_in_small_numbers(subject: &dyn Subject) {
    for number in 0..70 {
        Bench::submit_as(subject, number, sig("a")).await;
    }
    assert_eq!(events(subject).await.len(), 70);
    let mut batches = Vec::new();
    for _ in 0..5 {
        subject.pass(LEASE * 2).await;
        subject.backend().sweep(5).await.unwrap();
        Bench::submit_as(subject, 100 + batches.len() as u64, sig("a")).await;
        let batch = events(subject).await;
        batches.push((batch[0].deliveries, batch.len()));
        assert!(batch.iter().all(|event| event.deliveries == batch[0].deliveries));
        if batches.len() == 1 {
            // The rest of these is done with.
            let rest: Vec<EventId> = events(subject).await.into_iter().map(|event| event.id).collect();
            assert_eq!(rest.len(), 6);
            subject.backend().acknowledge(&rest).await.unwrap();
        }
        if batches.len() == 2 {
            let (mut rest, mut new) = (Vec::new(), Vec::new());
            while let batch @ [_, ..] = &events(subject).await[..] {
                let all = if batch[0].deliveries == 1 { &mut new } else { &mut rest };
                all.extend(batch.iter().map(|event| event.id));
            }
            assert_eq!((rest.len(), new.len()), (56, 2), "new ones are not held up for ever");
            subject.backend().acknowledge(&rest).await.unwrap();
            subject.backend().acknowledge(&new).await.unwrap();
        }
    }
    assert_eq!(batches, [(2, 64), (3, 8), (4, 1), (4, 1), (4, 1)]);
}

pub async fn an_acknowledged_event_never_comes_again(subject: &dyn Subject) {
    Bench::submit(subject, sig("a")).await;
    let ids: Vec<EventId> = events(subject).await.into_iter().map(|event| event.id).collect();
    subject.backend().acknowledge(&ids).await.unwrap();
    subject.backend().acknowledge(&ids).await.unwrap();
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    assert_eq!(events(subject).await.len(), 0);
}

pub async fn a_coordinator_that_waits_is_woken_by_an_event(subject: &dyn Subject) {
    let waiting = subject.backend().events(1, LEASE, Duration::from_secs(20));
    let (received, _) = tokio::join!(waiting, Bench::submit(subject, sig("a")));
    assert_eq!(received.unwrap().len(), 1);
}

/// Whoever works on an event for longer than its lease keeps it, however often the others sweep.
pub async fn a_renewed_event_is_with_nobody_else(subject: &dyn Subject) {
    for number in 0..3 {
        Bench::submit_as(subject, number, sig("a")).await;
    }
    let held: Vec<EventId> = events(subject).await.into_iter().map(|event| event.id).collect();
    let (kept, left) = held.split_at(2);
    for _ in 0..3 {
        subject.pass(LEASE / 2).await;
        subject.backend().renew_events(kept, LEASE).await.unwrap();
        subject.backend().sweep(5).await.unwrap();
    }
    let again: Vec<Event> = events(subject).await.into_iter().map(|delivery| delivery.event).collect();
    assert_eq!(again, [Event::Submitted(run_id(2))]);
    subject.backend().acknowledge(kept).await.unwrap();
    subject.backend().renew_events(&[kept, left].concat(), LEASE).await.unwrap();
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    assert_eq!(events(subject).await.len(), 1, "renewing brings nothing back");
}

/// As when somebody has removed them by hand.
pub async fn a_run_whose_events_are_gone_is_announced_again(subject: &dyn Subject) {
    let backend = subject.backend();
    let runs: Vec<RunRef> = (0..4).map(run_id).collect();
    for number in 0..4 {
        Bench::submit_as(subject, number, sig("a")).await;
    }
    assert_eq!(backend.announce_again(&runs).await.unwrap(), 0, "all wait");
    let taken = events(subject).await;
    assert_eq!(backend.announce_again(&runs).await.unwrap(), 0, "all are with a coordinator");
    backend.acknowledge(&[taken[0].id, taken[2].id]).await.unwrap();
    assert_eq!(backend.announce_again(&runs).await.unwrap(), 2);
    assert_eq!(backend.announce_again(&runs).await.unwrap(), 0, "once");
    let mut again: Vec<RunRef> = events(subject).await.iter().map(|event| event.event.run()).collect();
    again.sort_unstable();
    assert_eq!(again, [runs[0], runs[2]]);
    subject.pass(LEASE * 2).await;
    backend.sweep(5).await.unwrap();
    assert_eq!(backend.announce_again(&runs).await.unwrap(), 0, "all wait for somebody else");
}

pub async fn a_run_of_which_a_report_is_there_is_not_announced_again(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    clear_events(subject).await;
    bench.dispatch_outbox().await;
    let taken = bench.receive("w", 1).await;
    let report = (taken[0].id.clone(), bench.success(0, 1));
    bench.backend().finish(&[report]).await.unwrap();
    assert_eq!(bench.backend().announce_again(&[bench.run]).await.unwrap(), 0);
    assert_eq!(bench.backend().announce_again(&[run_id(9)]).await.unwrap(), 1, "another");
}

pub async fn an_event_that_is_set_aside_comes_again_when_it_is_requeued(subject: &dyn Subject) {
    let backend = subject.backend();
    Bench::submit(subject, sig("a")).await;
    let event = events(subject).await.remove(0);
    backend.set_aside(&event, "its run is broken").await.unwrap();
    backend.set_aside(&event, "said again, since nobody knows whether it was done").await.unwrap();
    subject.pass(LEASE * 2).await;
    backend.sweep(5).await.unwrap();
    assert_eq!(events(subject).await.len(), 0);
    let letters = backend.dead_letters(None, 9).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.from.clone(), letter.deliveries), (Some(LetterFrom::Submissions), 1));
    assert_eq!(letter.reason, "its run is broken");
    assert!(letter.is_whole && letter.bytes > 0 && !letter.fields.is_empty(), "{letter:?}");
    assert!(backend.dead_letters(Some(letter.id), 9).await.unwrap().is_empty(), "there is none after it");
    assert_eq!(backend.requeue(letter.id).await.unwrap(), Requeued::Yes);
    assert_eq!(backend.requeue(letter.id).await.unwrap(), Requeued::Unknown);
    let again = events(subject).await;
    assert_eq!(
        again.iter().map(|again| (&again.event, again.deliveries)).collect::<Vec<_>>(),
        [(&event.event, 1)]
    );
    assert!(backend.dead_letters(None, 9).await.unwrap().is_empty());
}

pub async fn dead_letters_come_in_order_and_are_dropped_one_by_one(subject: &dyn Subject) {
    let backend = subject.backend();
    for number in 0..5 {
        Bench::submit_as(subject, number, sig("a")).await;
    }
    for event in events(subject).await {
        backend.set_aside(&event, &event.event.run().to_string()).await.unwrap();
    }
    let first = backend.dead_letters(None, 2).await.unwrap();
    let rest = backend.dead_letters(Some(first[1].id), 9).await.unwrap();
    let all: Vec<&DeadLetter> = first.iter().chain(&rest).collect();
    let reasons: Vec<String> = all.iter().map(|letter| letter.reason.clone()).collect();
    assert_eq!(reasons, [0, 1, 2, 3, 4].map(|number| run_id(number).to_string()));
    assert!(backend.drop_letter(first[1].id).await.unwrap());
    assert!(!backend.drop_letter(first[1].id).await.unwrap());
    assert_eq!(backend.requeue(first[1].id).await.unwrap(), Requeued::Unknown);
    assert_eq!(backend.dead_letters(None, 9).await.unwrap().len(), 4);
}

pub async fn an_event_that_is_handed_back_comes_at_once_and_is_not_counted(subject: &dyn Subject) {
    let backend = subject.backend();
    Bench::submit(subject, sig("a")).await;
    for _ in 0..3 {
        let event = events(subject).await.remove(0);
        assert_eq!(event.deliveries, 1);
        backend.hand_back_events(&[event.id]).await.unwrap();
        backend.hand_back_events(&[event.id]).await.unwrap();
    }
    let lost = events(subject).await.remove(0);
    subject.pass(LEASE * 2).await;
    backend.sweep(5).await.unwrap();
    for _ in 0..3 {
        let event = events(subject).await.remove(0);
        assert_eq!((event.id, event.deliveries), (lost.id, 2), "its coordinator was lost once");
        backend.hand_back_events(&[event.id]).await.unwrap();
    }
}
