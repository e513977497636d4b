//! One round: faults one after the other, what becomes of each, and what everybody does meanwhile.

use std::time::{Duration, Instant};

use celeriac::backends::{BackendError, DeadLetters as _};
use celeriac::dsl::Flow;
use celeriac::primitives::{Json, NodeNo, RunId};
use celeriac::redis::RedisBackend;
use celeriac::runtime::{GetError, SubmitError};
use celeriac::{App, Canvas, Handle};
use celeriac_conformance::random::Rng;
use futures::future::join_all;
use tokio::time::sleep;

use super::app::app;
use super::deed::{At, Deed, deeds};
use super::forge::Forged;
use super::kind::{KINDS, Kind, Of, PREFIX};
use super::options::{LEASE, SpoilOptions};
use super::scene::{CANARY_VALUE, NAP, Scene, canary};
use super::site::{Site, Used, queue};
use super::tally::{Fate, Tally};

/// So many runs are under way at once: one whose fault is written now, and those that are made ready.
const AT_ONCE: usize = 4;

/// After what is broken was deleted, all is well again in this time.
const MENDED: Duration = Duration::from_secs(8);

/// What lies in a line is gone in this time, also from one of hundreds that nobody is told of.
const LEFT: Duration = Duration::from_secs(20);

/// More than this many wrongs tell nothing new.
const WRONG_MAX: usize = 400;

/// The live system and who watches it.
pub(crate) struct Live {
    site: Site,
    app: App,
    backend: RedisBackend,
    options: SpoilOptions,
    /// What idling takes, for one second.
    idle: (Vec<(String, u64)>, u64),
    tally: Tally,
    wrong: Vec<String>,
}

/// A run that a fault befell, and the fault.
struct Victim {
    number: u64,
    kind: &'static Kind,
    deed: Deed,
    key: String,
    queue: String,
    /// None when it was refused.
    run: Option<Handle<Json>>,
    expected: String,
    /// What was said when it was asked for.
    got: Result<Json, String>,
    refused: Option<String>,
    fate: Option<Fate>,
}

/// What a number stands for.
struct Drawn {
    kind: &'static Kind,
    deed: Deed,
    rng: Rng,
}

/// Draws the fault of a number.
fn draw(options: &SpoilOptions, number: u64) -> Drawn {
    let mut rng = Rng::new(options.seed().wrapping_mul(0x1_0000_0001) ^ (number << 20));
    let has =
        |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| text.contains(wanted));
    let kinds: Vec<&'static Kind> =
        KINDS.iter().filter(|kind| has(&options.kinds, &kind.made_up("run", "name"))).collect();
    let deeds_of = |kind: &Kind| {
        let all = deeds(kind.holds).into_iter();
        all.filter(|deed| has(&options.deeds, &deed.to_string())).collect::<Vec<_>>()
    };
    let all: Vec<_> =
        kinds.iter().flat_map(|kind| deeds_of(kind).into_iter().map(|deed| (*kind, deed))).collect();
    assert!(!all.is_empty(), "no kind of key, or nothing that is done, has this text in its name");
    let (kind, deed) = if number < options.aimed {
        // In an order that brings together what has nothing to do with each other.
        let stride = (all.len() * 2 / 5 + 1..).find(|stride| gcd(*stride, all.len()) == 1).unwrap_or(1);
        all[(number as usize * stride) % all.len()]
    } else {
        // Each kind as often as another, whatever can be done to it.
        let kind = kinds[rng.below(kinds.len() as u32) as usize];
        let deeds = deeds_of(kind);
        match deeds.get(rng.below(deeds.len() as u32) as usize) {
            Some(deed) => (kind, *deed),
            None => all[rng.below(all.len() as u32) as usize],
        }
    };
    Drawn { kind, deed, rng }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Live {
    pub(crate) async fn start(site: Site, options: &SpoilOptions) -> Self {
        let backend = RedisBackend::connect(site.store.url()).await.expect("the store was just started");
        let app = app().backend(backend.clone()).retention(Some(Duration::from_secs(600))).build();
        let app = app.expect("the app fits together");
        let mut live = Self {
            site,
            app,
            backend,
            options: options.clone(),
            idle: (Vec::new(), 0),
            tally: Tally::default(),
            wrong: Vec::new(),
        };
        // All scripts are there, and all queues are known.
        live.canary("at the start").await;
        let all = join_all((0..options.round).map(|place| live.begin(Scene::Small, place))).await;
        for (run, expected) in all.into_iter().map(|begun| begun.expect("nothing is broken yet")) {
            let value = run.get_json(Some(options.fate())).await.expect("nothing is broken yet");
            assert_eq!(value.as_str(), expected);
        }
        sleep(2 * LEASE).await;
        live.idle = live.uses().await;
        live
    }

    /// Whether so much is wrong that the rest would tell nothing new.
    pub(crate) fn is_over(&self) -> bool {
        self.wrong.len() > WRONG_MAX
    }

    pub(crate) async fn end(mut self) -> (Tally, Vec<String>) {
        self.canary("at the end").await;
        (self.tally, self.wrong)
    }

    fn complain(&mut self, numbers: &[u64], what: &str) {
        let line = format!("{what}\n    {}", self.options.replay(numbers));
        eprintln!("  {line}");
        self.wrong.push(line);
    }

    /// What is used in a second.
    async fn uses(&self) -> (Vec<(String, u64)>, u64) {
        let before: Used = self.site.used();
        sleep(Duration::from_secs(1)).await;
        self.site.used().since(&before)
    }

    async fn submit(&self, id: RunId, canvas: &Canvas) -> Result<Handle<Json>, BackendError> {
        let canvas = Flow::<(), Json>::assume(canvas.clone());
        match self.app.submission(canvas).id(id).await {
            Err(SubmitError::Backend(error)) => Err(error),
            submitted => Ok(submitted.expect("it is a good canvas")),
        }
    }

    async fn begin(&self, scene: Scene, place: usize) -> Result<(Handle<Json>, String), BackendError> {
        let (canvas, expected) = scene.canvas(&queue(place));
        Ok((self.submit(new_id(), &canvas).await?, expected))
    }

    /// A run beside, which has to end right and soon.
    async fn canary(&mut self, beside: &str) -> bool {
        let (began, within) = (Instant::now(), self.options.canary());
        let run = async {
            let run = self.submit(new_id(), &canary()).await.map_err(|error| said(&error))?;
            run.get_json(Some(within)).await.map_err(|error| said(&error))
        };
        let got = tokio::time::timeout(within + Duration::from_secs(1), run).await;
        let got = got.unwrap_or_else(|_| Err("nobody answers".to_owned()));
        self.tally.canaries += 1;
        self.tally.slowest_ms = self.tally.slowest_ms.max(began.elapsed().as_millis() as u64);
        match got {
            Ok(value) if value.as_str() == CANARY_VALUE => return true,
            Ok(value) => self.wrong_canary(beside, &format!("has the value {}", value.as_str())),
            Err(error) => self.wrong_canary(beside, &error),
        }
        false
    }

    fn wrong_canary(&mut self, beside: &str, what: &str) {
        let line = format!("a canary beside {beside}: {what}");
        eprintln!("  {line}");
        self.wrong.push(line);
    }

    /// Faults of these numbers.
    pub(crate) async fn round(&mut self, numbers: &[u64]) {
        let began = Instant::now();
        let wrong = self.wrong.len();
        let mut victims = Vec::new();
        let mut waits = Vec::new();
        for some in numbers.chunks(AT_ONCE) {
            // They begin together; each is written into when its time has come.
            let drawn: Vec<Drawn> = some.iter().map(|number| draw(&self.options, *number)).collect();
            let places = victims.len()..victims.len() + some.len();
            let live = &*self;
            let begun = drawn.iter().zip(places.clone()).map(|(drawn, place)| async move {
                let began = Instant::now();
                (live.begin(drawn.kind.scene, place).await, began)
            });
            let begun = join_all(begun).await;
            for (((number, mut drawn), place), (begun, began)) in
                some.iter().zip(drawn).zip(places).zip(begun)
            {
                let (run, expected, refused) = match begun {
                    Ok((run, expected)) => (Some(run), expected, None),
                    Err(error) => (None, String::new(), Some(said(&error))),
                };
                let until = began + NAP.mul_f64(f64::from(drawn.rng.below(120)) / 100.0);
                sleep(until.saturating_duration_since(Instant::now())).await;
                let mut victim = Victim {
                    number: *number,
                    kind: drawn.kind,
                    deed: drawn.deed,
                    key: String::new(),
                    queue: queue(place),
                    run,
                    expected,
                    got: Err(String::new()),
                    refused,
                    fate: None,
                };
                self.befall(&mut victim, &mut drawn.rng).await;
                let (run, fate) = (victim.run.clone(), self.options.fate());
                waits.push(tokio::spawn(async move {
                    match run {
                        Some(run) => run.get_json(Some(fate)).await.map_err(|error| said(&error)),
                        None => Err(String::new()),
                    }
                }));
                victims.push(victim);
            }
        }
        for (victim, wait) in victims.iter_mut().zip(waits) {
            victim.got = wait.await.expect("asking does not panic");
        }
        self.quiet(numbers).await;
        self.mend(numbers, &mut victims).await;
        eprintln!(
            "{}..={}: {} s{}",
            numbers[0],
            numbers[numbers.len() - 1],
            began.elapsed().as_secs(),
            if self.wrong.len() > wrong { ", and something is wrong" } else { "" }
        );
    }

    /// Writes the fault, with canaries beside.
    async fn befall(&mut self, victim: &mut Victim, rng: &mut Rng) {
        let Victim { kind, deed, number, .. } = *victim;
        if kind.scene == Scene::Forgotten
            && let Some(run) = &victim.run
        {
            let _ = run.clone().forget().await;
        }
        let run = victim.run.as_ref().map(|run| run.id().to_string()).unwrap_or_default();
        let (mine, its_queue) = (format!("{PREFIX}:{{{run}}}:"), format!("{PREFIX}:{{q:{}}}:", victim.queue));
        let staging = self.stage_of(victim).await;
        let keys: Vec<String> = self.site.keys();
        if let Some(unknown) = keys.iter().find(|key| !KINDS.iter().any(|kind| kind.has(key))) {
            self.complain(&[number], &format!("{unknown} is of no kind that is known here"));
        }
        let may = |key: &&String| {
            kind.has(key)
                && match kind.of {
                    Of::Run => key.starts_with(&mine) || staging.as_ref() == Some(key),
                    Of::Queue => key.starts_with(&its_queue),
                    Of::App | Of::Channel => true,
                }
        };
        let there: Vec<&String> = keys.iter().filter(may).chain(staging.as_ref()).collect();
        victim.key = match there.get(rng.below(there.len() as u32) as usize) {
            _ if kind.of == Of::Channel => channel(&victim.queue, rng),
            Some(key) => (*key).clone(),
            None => kind.made_up(&run, &victim.queue),
        };
        if victim.run.is_some() {
            self.tally.runs += 1;
        }
        let head = head(victim.run.as_ref(), rng);
        let mut connection = self.site.store.connection(&victim.key);
        let mut at =
            At { connection: &mut connection, key: &victim.key, holds: kind.holds, rng, head: &head };
        // What Redis refuses is no fault: there is no group to destroy, for one.
        let _ = tokio::task::block_in_place(|| at.apply(deed));
        let about =
            format!("fault {number}, {deed} in {}\n    {}", victim.key, self.options.replay(&[number]));
        self.canary(&about).await;
        if kind.of == Of::App {
            // Long enough that everybody comes across it.
            sleep(Duration::from_millis(300)).await;
            self.canary(&about).await;
        }
        if let Err(error) = self.app.runs(None, 20).await {
            let text = said(&error);
            if !text.contains(&victim.key) {
                self.complain(&[number], &format!("the list of runs, beside {about}: {text}"));
            }
        }
        if let Err(error) = self.backend.dead_letters(None, 10).await
            && victim.key != format!("{PREFIX}:{{events}}:dead")
        {
            self.complain(&[number], &format!("dead letters, beside {about}: {}", said(&error)));
        }
        for dead in self.site.dead() {
            self.complain(&[number], &format!("{dead}, beside {about}"));
        }
        if kind.of == Of::App {
            for red in self.site.red() {
                // An event of a run that was spoilt before comes again until it is set aside.
                if !red.contains(&victim.key) && !red.contains("an event of") {
                    self.complain(&[number], &format!("{red}, beside {about}"));
                }
            }
            self.heal(&victim.key);
            if deed == Deed::LastId {
                // It takes no entry any more: only who deletes it mends that.
                self.site.store.delete(&victim.key);
            }
            self.canary(&format!("what was {about}, and is mended")).await;
        }
    }

    /// A part of a run that is being stored, when that is what the fault is about.
    async fn stage_of(&self, victim: &Victim) -> Option<String> {
        if !victim.kind.place.contains("stage") {
            return None;
        }
        let (app, (canvas, _)) = (self.app.clone(), Scene::Wide.canvas(&victim.queue));
        let id = new_id();
        let submission = tokio::spawn(async move { app.submission(canvas).id(id).await.is_ok() });
        for _ in 0..50 {
            let staged = self.site.store.keys(&format!("{PREFIX}:{{{id}}}:*:stage:*"));
            if let Some(staged) = staged.into_iter().next() {
                return Some(staged);
            }
            if submission.is_finished() {
                break;
            }
        }
        None
    }

    /// Deletes a key that does not hold what it should.
    fn heal(&self, key: &str) {
        let holds =
            KINDS.iter().find(|kind| kind.has(key)).map(|kind| format!("{:?}", kind.holds).to_lowercase());
        let is = self.site.store.type_of(key);
        // Parts of a run that is being stored are hashes and strings.
        if Some(&is) != holds.as_ref() && is != "none" && !key.contains(":stage:") {
            self.site.store.delete(key);
        }
    }

    /// While all is still broken, nobody works without end.
    async fn quiet(&mut self, numbers: &[u64]) {
        sleep(LEASE).await;
        let (mut cpu, mut commands) = self.uses().await;
        let is_busy = |cpu: &[(String, u64)], commands: u64, idle: &(Vec<(String, u64)>, u64)| {
            let of = |name: &str| idle.0.iter().find(|(other, _)| other == name).map_or(0, |(_, ms)| *ms);
            commands > 4 * idle.1 + 2000 || cpu.iter().any(|(name, ms)| *ms > 3 * of(name) + 350)
        };
        // What was just about to be done is done, such as to set aside 5,000 entries; only what does not end
        // is wrong.
        for _ in 0..15 {
            if !is_busy(&cpu, commands, &self.idle) {
                return;
            }
            (cpu, commands) = self.uses().await;
        }
        let what = format!("{cpu:?} ms and {commands} commands in a second; idle {:?}", self.idle);
        self.complain(numbers, &format!("somebody spins: {what}"));
    }

    /// Mends what is broken, judges what became of each fault, and clears up.
    async fn mend(&mut self, numbers: &[u64], victims: &mut [Victim]) {
        for victim in victims.iter() {
            let queue = format!("{PREFIX}:{{q:{}}}:*", victim.queue);
            let run = victim.run.as_ref().map(|run| format!("{PREFIX}:{{{}}}:*", run.id()));
            let keys =
                [Some(queue), run].into_iter().flatten().flat_map(|pattern| self.site.store.keys(&pattern));
            keys.for_each(|key| self.heal(&key));
        }
        let again = join_all(victims.iter().map(|victim| async {
            match (&victim.got, &victim.run) {
                // It may go on now.
                (Err(_), Some(run)) => run.get_json(Some(MENDED)).await.map_err(|error| said(&error)),
                (got, _) => got.clone(),
            }
        }))
        .await;
        let letters = self.letters().await;
        for (victim, again) in victims.iter_mut().zip(again) {
            if again.is_ok() {
                victim.got = again;
            }
            let fate = self.fate(victim, &letters);
            victim.fate = Some(fate);
            self.tally.count(victim.kind, victim.deed, fate);
            if fate == Fate::Wrong || (fate == Fate::Lost && self.options.lost_is_wrong) {
                let got = match (&victim.got, &victim.refused) {
                    (_, Some(refused)) => format!("refused: {refused}"),
                    (Ok(value), None) => value.as_str().chars().take(60).collect(),
                    (Err(error), None) => error.clone(),
                };
                let what =
                    format!("{:?}: {} in {} of {}: {got}", fate, victim.deed, victim.key, victim.queue);
                self.complain(&[victim.number], &what);
            }
        }
        self.left(victims).await;
        let start = Instant::now();
        let mut red = self.site.red();
        while !red.is_empty() && start.elapsed() < MENDED {
            sleep(Duration::from_millis(200)).await;
            red = self.site.red();
        }
        for red in red {
            self.complain(numbers, &format!("when all is mended, {red}"));
        }
        self.clear(victims).await;
        self.drop_letters().await;
    }

    /// The dead letters.
    async fn letters(&mut self) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None);
        while let Ok(letters) = self.backend.dead_letters(after, 100).await
            && let Some(last) = letters.last()
        {
            after = Some(last.id);
            for letter in letters {
                let fields: Vec<String> =
                    letter.fields.iter().map(|(_, value)| hex(&value[..value.len().min(64)])).collect();
                let from = letter.from.as_ref().map(ToString::to_string);
                all.push(format!("{from:?} {} {}", letter.reason, fields.join(" ")));
            }
        }
        all
    }

    /// Drops all dead letters. Before their runs are gone, that would make leaves of them run again.
    async fn drop_letters(&self) {
        while let Ok(letters) = self.backend.dead_letters(None, 100).await
            && !letters.is_empty()
        {
            for letter in letters {
                let _ = self.backend.drop_letter(letter.id).await;
            }
        }
    }

    fn fate(&self, victim: &Victim, letters: &[String]) -> Fate {
        let Some(run) = &victim.run else {
            let refused = victim.refused.as_deref().unwrap_or_default();
            // Whoever submits is told what is broken.
            return if refused.contains(PREFIX) { Fate::Named } else { Fate::Wrong };
        };
        let id = run.id().to_string();
        let simple = id.replace('-', "");
        let is_dead = || {
            let by_queue = [format!("\"{}\"", victim.queue), format!(" {} ", victim.queue)];
            let names = |letter: &&String| {
                letter.contains(&id)
                    // A segment or a node of it.
                    || letter.contains(&simple[..20])
                    || letter.contains(&format!("{}\"", victim.queue))
                    || by_queue.iter().any(|name| letter.contains(name))
            };
            letters.iter().any(|letter| names(&letter))
        };
        match &victim.got {
            Ok(value) if value.as_str() == victim.expected => {
                if is_dead() {
                    Fate::Dead
                } else {
                    Fate::Harmless
                }
            }
            Ok(_) if victim.deed.alters() => Fate::Changed,
            Ok(_) => Fate::Wrong,
            Err(error) if error.starts_with("failed: ") => Fate::Failed,
            Err(_) if is_dead() => Fate::Dead,
            Err(_) if victim.kind.scene == Scene::Forgotten => Fate::Harmless,
            Err(error) if !error.contains("has not ended within") => Fate::Named,
            // It waits, as it was told.
            Err(_) if victim.deed == Deed::Forge(Forged::AgainAtTheEnd) => Fate::Changed,
            Err(_) if self.site.is_logged(&victim.key) || self.site.is_logged(&id) => Fate::Named,
            Err(_) if victim.deed.loses() => Fate::Lost,
            Err(_) => Fate::Wrong,
        }
    }

    /// When all is mended, nothing lies in a line for ever.
    async fn left(&mut self, victims: &[Victim]) {
        let start = Instant::now();
        loop {
            let lines: Vec<(String, u64)> = self
                .site
                .keys()
                .into_iter()
                .filter(|key| KINDS.iter().any(|kind| kind.has(key)) && !key.ends_with(":dead"))
                .map(|key| (self.site.store.entries(&key).unwrap_or(0), key))
                .filter(|(count, _)| *count > 0)
                .map(|(count, key)| (key, count))
                .collect();
            if lines.is_empty() {
                return;
            }
            if start.elapsed() > LEFT {
                for (key, count) in lines {
                    let line = key.strip_suffix("stream").unwrap_or(&key);
                    let is_of = |victim: &&Victim| {
                        victim.key.starts_with(line) || key.contains(&format!("{{q:{}}}", victim.queue))
                    };
                    let of: Vec<&Victim> = victims.iter().filter(is_of).collect();
                    // It waits for a later program, or for a run that nobody has mended and that is named; or
                    // the list that it stood in is gone, and it is gathered after an hour.
                    let waits = |victim: &&Victim| {
                        let is_list = ["again", "apart"].iter().any(|list| victim.key.ends_with(list));
                        victim.deed.is_of_tomorrow()
                            || victim.fate == Some(Fate::Named)
                            || is_list && victim.deed.loses()
                    };
                    if !of.iter().any(waits) && !self.site.is_left_to_later(&key) {
                        let numbers: Vec<u64> = of.iter().map(|victim| victim.number).collect();
                        let about = of.first().map(|victim| format!("{} in {}", victim.deed, victim.key));
                        self.complain(&numbers, &format!("{count} entries are left in {key}, of {about:?}"));
                    }
                    self.site.store.delete(&key);
                }
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Nothing of these runs is left.
    async fn clear(&mut self, victims: &[Victim]) {
        let forgotten = victims.iter().filter_map(|victim| victim.run.clone()).map(|run| async move {
            let id = run.id();
            (id, tokio::time::timeout(MENDED, run.forget()).await)
        });
        for (id, _) in join_all(forgotten).await {
            for key in self.site.store.keys(&format!("{PREFIX}:{{{id}}}:*")) {
                self.site.store.delete(&key);
            }
        }
    }
}

fn new_id() -> RunId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now.as_nanos());
    RunId::from_parts(now.as_millis() as u64, random)
}

/// An error and what is behind it.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let is_failure =
        error.downcast_ref::<GetError>().is_some_and(|error| matches!(error, GetError::Failed(_)));
    let mut text = format!("{}{error}", if is_failure { "failed: " } else { "" });
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// The head of one of its leaves.
fn head(run: Option<&Handle<Json>>, rng: &mut Rng) -> [u8; 28] {
    let mut head = [1; 28];
    if let Some(run) = run {
        let node = NodeNo::new(1 + rng.below(4)).expect("it is not zero");
        head[..16].copy_from_slice(run.id().task(node).uuid().as_bytes());
        head[16..20].copy_from_slice(&1u32.to_be_bytes());
        head[20..].copy_from_slice(&run.run().incarnation.number().to_be_bytes());
    }
    head
}

/// Where somebody listens.
fn channel(queue: &str, rng: &mut Rng) -> String {
    match rng.below(5) {
        0 => format!("{PREFIX}:{{events}}:stream"),
        1 => format!("{PREFIX}:{{q:{queue}}}:stream"),
        2 => format!("{PREFIX}:{{q:celery}}:stream"),
        3 => format!("{PREFIX}:changed:d{}", rng.below(16)),
        _ => format!("{PREFIX}:changed:{}", rng.below(16)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
