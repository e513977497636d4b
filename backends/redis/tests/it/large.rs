//! Large values on a slow link: they take the time of their bytes, nothing is taken for dead, and a
//! coordinator does not see them.
//!
//! `CELERIAC_LARGE` scales the sizes: 1 is some ten seconds, 10 is a link of 10 MB/s and values of up to 40
//! MB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_backends::{Backend, DEFAULT_QUEUE, NewRun, Queue, Store, Take, WorkerId};
use celeriac_dsl::{IntoCanvas, State, chord, group, task, tasks};
use celeriac_engine::Plan;
use celeriac_primitives::{
    Canvas, Compression, Incarnation, NodeNo, Options, RunId, Signature, Stored, TaskError,
};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Connections, Proxy, Server, Ways};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use crate::setting;

/// Bytes in a second, of each process.
fn link() -> u64 {
    1_000_000 * scale()
}

fn scale() -> u64 {
    setting("CELERIAC_LARGE", 1)
}

#[derive(Debug, Default)]
struct Calls(AtomicUsize);

#[task(crate = celeriac_dsl, name = "big.make")]
async fn make(bytes: usize, calls: State<Arc<Calls>>) -> String {
    calls.0.fetch_add(1, Ordering::SeqCst);
    "x".repeat(bytes - 2)
}

#[task(crate = celeriac_dsl, name = "big.measure")]
async fn measure(text: String, calls: State<Arc<Calls>>) -> usize {
    calls.0.fetch_add(1, Ordering::SeqCst);
    text.len() + 2
}

#[task(crate = celeriac_dsl, name = "big.lengths")]
async fn lengths(texts: Vec<String>) -> usize {
    texts.iter().map(|text| text.len() + 2).sum()
}

async fn backend(url: String) -> RedisBackend {
    RedisBackend::builder(url).prefix("large").connect().await.expect("the server answers")
}

/// A client, a coordinator and a worker, each on a link of its own.
struct House {
    server: Server,
    app: App,
    calls: Arc<Calls>,
    links: [Proxy; 3],
    _coordinator: Coordinator,
    _worker: Worker,
}

impl House {
    /// On links of so many bytes in a second: of the client, of the coordinator, of the worker.
    async fn start(rates: [u64; 3], lease: Duration) -> Self {
        let server = Server::start();
        let calls = Arc::new(Calls::default());
        let app = async |proxy: &Proxy| {
            let builder = App::builder("large").tasks(tasks![make, measure, lengths]).state(calls.clone());
            builder.backend(backend(proxy.url()).await).build().expect("the tasks fit together")
        };
        let mut links = Vec::new();
        for _ in rates {
            links.push(Proxy::start(server.address()).await);
        }
        let [client, coordinator, worker] =
            [app(&links[0]).await, app(&links[1]).await, app(&links[2]).await];
        let _coordinator =
            coordinator.coordinator(CoordinatorOptions { lease, ..CoordinatorOptions::default() });
        let _worker = worker.worker(WorkerOptions::default().lease(lease));
        for (link, rate) in links.iter().zip(rates) {
            link.throttle(Ways::Both, rate);
        }
        let links = links.try_into().expect("there are three");
        Self { server, app: client, calls, links, _coordinator, _worker }
    }

    /// How many connections were made to the server until now.
    fn made(&self) -> [u64; 3] {
        self.links.each_ref().map(Proxy::accepted)
    }

    /// A value within twice the time that so many bytes take on the link; and nobody has connected anew.
    async fn check<C>(&self, canvas: C, bytes: u64) -> C::Output
    where
        C: IntoCanvas,
        C::Output: DeserializeOwned,
    {
        let (made, start) = (self.made(), Instant::now());
        let run = self.app.submit(canvas).await.expect("it is accepted");
        let value = run.get_timeout(Duration::from_secs(120)).await.expect("it succeeds");
        let due = Duration::from_secs_f64(bytes as f64 / link() as f64);
        let took = start.elapsed();
        println!("{bytes} bytes: {took:?} of {due:?}");
        assert!(took < due * 2 + Duration::from_secs(2), "{took:?}, and the bytes take {due:?}");
        assert_eq!(self.made(), made, "somebody has connected anew");
        value
    }
}

/// What a coordinator has to read is little, whatever the values are.
const NARROW: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_takes_the_time_of_its_bytes_and_no_connection_is_given_up() {
    let house = House::start([link(), NARROW, link()], Duration::from_secs(30)).await;
    let bytes = 2_000_000 * scale() as usize;
    let value = house.check(make.s((bytes,)), 2 * bytes as u64).await;
    assert_eq!(value.len() + 2, bytes);
    assert_eq!(house.check(make.s((bytes,)) | measure.s(()), 2 * bytes as u64).await, bytes);
    assert_eq!(house.calls.0.load(Ordering::SeqCst), 3, "each ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_results_are_reported_once_and_reach_the_body_of_their_chord() {
    let house = House::start([link(), NARROW, link()], Duration::from_secs(2)).await;
    let (count, bytes) = (40, 50_000 * scale() as usize);
    let canvas = chord((0..count).map(|_| make.s((bytes,))).collect::<Vec<_>>(), lengths.s(()));
    // To the store, and from there to the body.
    let all = house.check(canvas, 2 * (count * bytes) as u64).await;
    assert_eq!(all, count * bytes);
    assert_eq!(house.calls.0.load(Ordering::SeqCst), count, "each ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_arguments_are_sent_once_and_no_leaf_is_lost() {
    let house = House::start([link(), NARROW, link()], Duration::from_secs(2)).await;
    let (count, bytes) = (40, 50_000 * scale() as usize);
    let text = |place: usize| format!("{place:09}").repeat((bytes - 2) / 9);
    let canvas = group((0..count).map(|place| measure.s((text(place),))).collect::<Vec<_>>());
    let all = house.check(canvas, 2 * (count * bytes) as u64).await;
    assert!(all.iter().all(|length| *length == (bytes - 2) / 9 * 9 + 2), "{all:?}");
    assert_eq!(house.calls.0.load(Ordering::SeqCst), count, "each ran once");
    // The same argument again and again is sent once.
    let same = text(7);
    let canvas = group((0..count).map(|_| measure.s((same.clone(),))).collect::<Vec<_>>());
    house.check(canvas, ((count + 1) * bytes) as u64).await;
}

/// A quick command beside a large value does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn other_commands_pass_between_the_pieces_of_a_large_value() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let slow = backend(proxy.url()).await;
    let run = submitted(&slow, 1).await;
    proxy.throttle(Ways::Both, 2_000_000);
    let (value, text) = (stored(run, 1, 4_000_000), "x".repeat(4_000_000));
    let (keeper, is_done) = (slow.clone(), Arc::new(AtomicUsize::new(0)));
    let done = is_done.clone();
    let keep = tokio::spawn(async move {
        assert!(keeper.keep(&value, &text).await.unwrap());
        let mut out = Vec::new();
        assert!(keeper.fetch(&value, &mut out).await.unwrap() && out.len() == text.len());
        done.store(1, Ordering::SeqCst);
    });
    let (start, mut longest, mut asked) = (Instant::now(), Duration::ZERO, 0);
    while is_done.load(Ordering::SeqCst) == 0 && start.elapsed() < Duration::from_secs(20) {
        let start = Instant::now();
        slow.now().await.unwrap();
        longest = longest.max(start.elapsed());
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keep.await.unwrap();
    assert!(start.elapsed() > Duration::from_secs(3) && asked > 5, "{asked} commands");
    assert!(longest < Duration::from_millis(1500), "a quick command waited {longest:?}");
}

/// What a writer that died has half written goes by itself; what is whole stays with its run, and goes with
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_written_expires_and_what_is_whole_goes_with_its_run() {
    let server = Server::start();
    let backend = backend(server.url()).await;
    let mut client = client(&server).await;
    let before = keys(&mut client).await;
    let run = submitted(&backend, 1).await;
    let whole = stored(run, 1, 3_000_000);
    assert!(backend.keep(&whole, &"x".repeat(3_000_000)).await.unwrap());
    let half = stored(run, 2, 3_000_000);
    let proxy = Proxy::start(server.address()).await;
    let dying = self::backend(proxy.url()).await;
    proxy.throttle(Ways::Both, 1_000_000);
    let text = "x".repeat(3_000_000);
    let cut_off = tokio::time::timeout(Duration::from_millis(1800), dying.keep(&half, &text)).await;
    assert!(cut_off.is_err(), "it was cut off");
    drop(dying);
    proxy.swallow(Ways::Both, Connections::Present);
    let mut texts = 0;
    for key in keys(&mut client).await.iter().filter(|key| key.contains(":text:")) {
        let ttl: i64 = redis::cmd("TTL").arg(key).query_async(&mut client).await.unwrap();
        let is_whole = key.ends_with(&whole.name.simple().to_string());
        assert_eq!(ttl == -1, is_whole, "{key} expires in {ttl} s");
        assert!(is_whole || ttl > 0 && ttl <= 3600);
        texts += 1;
        if !is_whole {
            // As if the time had come.
            let _: () = redis::cmd("EXPIRE").arg(key).arg(0).query_async(&mut client).await.unwrap();
        }
    }
    assert_eq!(texts, 2);
    assert!(backend.forget(run).await.unwrap());
    // With what its queue was told of it.
    backend.sweep(5).await.unwrap();
    let left: Vec<String> = keys(&mut client).await.into_iter().filter(|key| !before.contains(key)).collect();
    assert!(left.iter().all(|key| key.contains("{events}")), "{left:?}");
}

/// Arguments and results, a chord, one that was replaced: whatever was stored for a run goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_large_values_is_left_of_runs_that_are_forgotten() {
    let house = House::start([1_000_000_000; 3], Duration::from_secs(30)).await;
    let mut client = client(&house.server).await;
    let text = "x".repeat(700_000);
    for _ in 0..2 {
        let canvas = chord([make.s((600_000,)), make.s((100_000,))], lengths.s(()));
        let one = house.app.submit(canvas).await.unwrap();
        let two = house.app.submit(measure.s((text.clone(),))).await.unwrap();
        assert_eq!((one.get().await.unwrap(), two.get().await.unwrap()), (700_000, 700_002));
        one.ended().await.unwrap();
        two.ended().await.unwrap();
        assert!(keys(&mut client).await.iter().any(|key| key.contains("literals")));
        one.forget().await.unwrap();
        two.forget().await.unwrap();
        let left: Vec<String> = keys(&mut client)
            .await
            .into_iter()
            .filter(|key| !key.contains("{events}") && !key.contains("{q:"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A message of some kilobytes that stands for gigabytes fails its leaf, and is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expands_without_end_fails_its_leaf_at_once() {
    let server = Server::start();
    let backend = backend(server.url()).await;
    let run = submitted(&backend, 1).await;
    let mut client = client(&server).await;
    let leaf = run.task(NodeNo::from_index(0)).uuid();
    let head = [&leaf.as_bytes()[..], &1_u32.to_be_bytes(), &7_u64.to_be_bytes()];
    let zeros = std::io::Read::take(std::io::repeat(0), 1 << 30);
    let bomb = zstd::encode_all(zeros, 1).unwrap();
    let message = [&head.concat()[..], &[0xc1, 2], &bomb].concat();
    let stream = "large:{q:celery}:stream";
    let _: String =
        redis::cmd("XADD").arg(stream).arg("*").arg("m").arg(message).query_async(&mut client).await.unwrap();
    let (worker, queues) = (WorkerId::new("w"), [DEFAULT_QUEUE.into()]);
    let (lease, wait) = (Duration::from_secs(60), Duration::from_secs(1));
    let start = Instant::now();
    let taken = backend.receive(&worker, &queues, Take::new(9, lease).wait(wait)).await.unwrap();
    assert!(taken.is_empty(), "it is no message");
    let app = App::builder("large").build().unwrap().on(Arc::new(backend.clone()) as Arc<dyn Backend>);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let handle = app.run::<celeriac_primitives::Json>(run.id).await.unwrap().expect("it is there");
    let error = handle.get_timeout(Duration::from_secs(20)).await.unwrap_err();
    let error: &TaskError = error.task_error().expect("the leaf failed");
    assert_eq!(error.kind, "DecodeError");
    assert!(error.message.contains("4194304 at most are read"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

async fn submitted(backend: &RedisBackend, number: u64) -> celeriac_primitives::RunRef {
    let canvas = Canvas::from(Signature::new("a").unwrap());
    let run = RunId::from_parts(number, number).incarnation(Incarnation::new(7));
    backend.submit(NewRun::new(run, Arc::new(Plan::compile(&canvas).unwrap()))).await.unwrap();
    run
}

fn stored(run: celeriac_primitives::RunRef, number: u128, bytes: u64) -> Stored {
    Stored { run, name: Uuid::from_u128(number), bytes, of_plan: false }
}

async fn client(server: &Server) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn keys(client: &mut redis::aio::MultiplexedConnection) -> Vec<String> {
    redis::cmd("KEYS").arg("large:*").query_async(client).await.unwrap()
}

/// As somebody else would write it, or a program that allows more: nothing is taken for it, and its leaf
/// fails at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expands_beyond_the_limit_fails_its_leaf() {
    let server = Server::start();
    let (client, calls) = (backend(server.url()).await, Arc::new(Calls::default()));
    let builder = RedisBackend::builder(server.url()).prefix("large").message_bytes_max(10_000);
    let strict = builder.connect().await.expect("the server answers");
    let app = App::builder("large").tasks(tasks![make, measure, lengths]).state(calls.clone());
    let app = app.backend(client).build().expect("the tasks fit together");
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.on(Arc::new(strict)).worker(WorkerOptions::default());
    for compression in [Compression::Gzip, Compression::Zstd] {
        let with = |bytes: usize| {
            let text = "x".repeat(bytes);
            app.submit(measure.s((text,)).set(Options::new().with_compression(compression)))
        };
        let long = with(20_000).await.unwrap();
        let error = long.get_timeout(Duration::from_secs(20)).await.unwrap_err();
        assert!(error.to_string().contains("10000 at most are read"), "{error}");
        // It is the text that counts, not what came over the wire; and nobody is held up.
        let short = with(9_000).await.unwrap();
        assert_eq!(short.get_timeout(Duration::from_secs(20)).await.unwrap(), 9_002);
    }
    assert_eq!(calls.0.load(Ordering::SeqCst), 2, "the long ones never ran");
}
