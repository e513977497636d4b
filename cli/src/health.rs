//! Whether a process can take what there is to do: said over HTTP, in a file, and asked by `health`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use celeriac_backends::{Events as _, Store as _};
use celeriac_runtime::Vitals;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::args::{HealthArgs, HealthPlaces};
use crate::exit::{Exit, Stop};
use crate::io::{Io, one_line};
use crate::watched::Watched;

/// How often the file is written, and a change noticed.
const BEAT: Duration = Duration::from_secs(1);

/// What new runs meet is looked at this often.
const STRAIN_EVERY: Duration = Duration::from_secs(5);

/// A file that is older is the file of a process that hangs, or is no more.
const FILE_AGE_MAX: Duration = Duration::from_secs(15);

/// A coordinator waits for events no longer than a minute, and answers of the backend may take half a one.
const SILENCE_MIN: Duration = Duration::from_secs(100);

/// A coordinator that works lets no event wait for so long, or for ten leases.
const EVENT_AGE_MAX: Duration = Duration::from_secs(300);

/// So many connections are open at a time. One more takes the place of the oldest, which is most likely of
/// somebody who only holds it: a probe has its answer at once.
const CONNECTIONS_MAX: usize = 64;

/// Who cannot accept a connection waits for so long.
const ACCEPTS_AGAIN: Duration = Duration::from_millis(50);

/// No request or answer is read any further.
const HEAD_MAX: u64 = 8 << 10;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// What a process knows of itself.
#[derive(Debug)]
pub(crate) struct Health {
    parts: Mutex<Vec<(&'static str, Arc<Watched>, Vitals)>>,
    silence: Duration,
    stopping: AtomicBool,
    /// What new runs meet, as it was lately. Who works goes on: it is no reason to be red.
    strain: Mutex<Option<String>>,
    /// That events wait for too long, as it was lately.
    overdue: Mutex<Option<String>>,
    event_age_max: Duration,
}

impl Health {
    /// The health of parts that renew what they hold three times as often as `lease`.
    pub(crate) fn new(lease: Duration) -> Self {
        let silence = lease.max(SILENCE_MIN);
        Self {
            parts: Mutex::default(),
            silence,
            stopping: AtomicBool::new(false),
            strain: Mutex::default(),
            overdue: Mutex::default(),
            event_age_max: EVENT_AGE_MAX.max(lease.saturating_mul(10)),
        }
    }

    /// From now on this part belongs to it, with the backend that it sees.
    pub(crate) fn watch(&self, part: &'static str, watched: Arc<Watched>, vitals: Vitals) {
        self.parts().push((part, watched, vitals));
    }

    fn parts(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<Watched>, Vitals)>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it takes no more.
    pub(crate) fn stops(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Why it is red; `None` is green.
    pub(crate) fn complaint(&self) -> Option<String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Some("stopping".to_owned());
        }
        let complaint = |(part, watched, vitals): &(&str, Arc<Watched>, Vitals)| {
            let complaint = vitals.complaint().or_else(|| watched.complaint(self.silence))?;
            Some(format!("{part}: {complaint}"))
        };
        let complaint = self.parts().iter().find_map(complaint);
        complaint.or_else(|| said(&self.overdue)).map(|complaint| one_line(&complaint))
    }

    fn text(&self) -> String {
        let strain = said(&self.strain).map(|strain| one_line(&strain));
        match (self.complaint(), strain) {
            (Some(complaint), Some(strain)) => format!("red: {complaint}; {strain}\n"),
            (Some(complaint), None) => format!("red: {complaint}\n"),
            (None, Some(strain)) => format!("green: {strain}\n"),
            (None, None) => "green\n".to_owned(),
        }
    }

    /// Asks the backend what new runs meet. Who does not answer is told of otherwise.
    async fn look_at_strain(&self) {
        let watched = self.parts().first().map(|(_, watched, _)| watched.clone());
        let Some(watched) = watched else { return };
        if let Ok(strain) = watched.strain().await {
            *self.strain.lock().unwrap_or_else(PoisonError::into_inner) = strain;
        }
    }

    /// Asks for how long events wait. They are the coordinators' affair: to start a worker anew helps none of
    /// them.
    async fn look_at_events(&self) {
        let coordinator =
            self.parts().iter().find(|(part, ..)| *part == "coordinator").map(|(_, it, _)| it.clone());
        let Some(coordinator) = coordinator else { return };
        if let Ok(oldest) = coordinator.oldest_event().await {
            self.note_oldest(oldest);
        }
    }

    fn note_oldest(&self, oldest: Option<Duration>) {
        let overdue = oldest.filter(|age| *age > self.event_age_max);
        let overdue = overdue.map(|age| format!("coordinator: an event has waited for {} s", age.as_secs()));
        *self.overdue.lock().unwrap_or_else(PoisonError::into_inner) = overdue;
    }
}

fn said(place: &Mutex<Option<String>>) -> Option<String> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Says how a process is, as long as this is there.
#[derive(Debug)]
pub(crate) struct Reporter {
    file: Option<PathBuf>,
    /// Ends with it.
    _tasks: JoinSet<()>,
}

impl Reporter {
    /// Listens at the address and writes the file.
    pub(crate) async fn start(places: &HealthPlaces, health: &Arc<Health>) -> Result<Self, Stop> {
        let mut tasks = JoinSet::new();
        if let Some(address) = places.health {
            let refused = |error| Stop::new(Exit::Io, format!("--health {address}: {error}"));
            let listener = TcpListener::bind(address).await.map_err(refused)?;
            tracing::info!(address = %listener.local_addr().map_err(refused)?, "health is answered");
            tasks.spawn(serve(listener, health.clone()));
        }
        if let Some(path) = &places.health_file {
            write(path, &health.text()).map_err(|error| {
                Stop::new(Exit::Io, format!("--health-file {} cannot be written: {error}", path.display()))
            })?;
        }
        tasks.spawn(beat(places.health_file.clone(), health.clone()));
        let health = health.clone();
        tasks.spawn(async move {
            loop {
                health.look_at_strain().await;
                health.look_at_events().await;
                tokio::time::sleep(if health.parts().is_empty() { BEAT } else { STRAIN_EVERY }).await;
            }
        });
        Ok(Self { file: places.health_file.clone(), _tasks: tasks })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // When that fails, the file is soon too old to be believed.
        self.file.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Writes the file, and logs when the process turns red or green.
async fn beat(file: Option<PathBuf>, health: Arc<Health>) {
    let mut interval = tokio::time::interval(BEAT);
    let mut was_red = false;
    loop {
        interval.tick().await;
        let complaint = health.complaint();
        match &complaint {
            Some(complaint) if !was_red => tracing::warn!(complaint, "red"),
            None if was_red => tracing::info!("green"),
            _ => {}
        }
        was_red = complaint.is_some();
        if let Some(path) = &file
            && let Err(error) = write(path, &health.text())
        {
            tracing::warn!(path = %path.display(), %error, "the health file cannot be written");
        }
    }
}

/// In one step, so that nobody reads half of it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

async fn serve(listener: TcpListener, health: Arc<Health>) {
    let mut requests = JoinSet::new();
    // The oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = listener.accept().await;
        while requests.try_join_next().is_some() {}
        open.retain(|request| !request.is_finished());
        match accepted {
            Ok((stream, _)) => {
                if open.len() >= CONNECTIONS_MAX {
                    open.pop_front().iter().for_each(AbortHandle::abort);
                }
                let health = health.clone();
                // A client that is slow or goes away is its own affair.
                open.push_back(requests.spawn(async move {
                    let _ = tokio::time::timeout(REQUEST_TIME, answer(stream, &health)).await;
                }));
            }
            // Too many open files, for example: here, at least, are some that need not be.
            Err(_) => {
                open.drain(..).for_each(|request| request.abort());
                tokio::time::sleep(ACCEPTS_AGAIN).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, health: &Health) -> std::io::Result<()> {
    let head = read_until_empty_line(&mut stream).await?;
    let text = health.text();
    let (status, text) = match head.split(' ').next() {
        Some("GET" | "HEAD") if text.starts_with("green") => ("200 OK", text),
        Some("GET" | "HEAD") => ("503 Service Unavailable", text),
        _ => ("405 Method Not Allowed", "write GET\n".to_owned()),
    };
    let body = if head.starts_with("HEAD ") { "" } else { &text };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_until_empty_line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut stream = stream.take(HEAD_MAX);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && stream.read_buf(&mut head).await? > 0 {}
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// `health`: asks a process.
pub(crate) async fn health(args: &HealthArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let mut said = Vec::new();
    if let Some(address) = args.health {
        said.push(ask(address, args.timeout).await);
    }
    if let Some(path) = &args.health_file {
        said.push(look(path));
    }
    if said.is_empty() {
        return Err(Stop::usage("write --health ADDR or --health-file PATH, as the process has it"));
    }
    match said.iter().find(|said| !is_green(said)) {
        None => {
            let longest = said.iter().max_by_key(|said| said.len());
            io.print(&format!("{}\n", longest.map_or("green", |said| said)))
        }
        Some(red) => io.print(&format!("{red}\n")).map(|_| Exit::Internal),
    }
}

/// Perhaps with what new runs meet.
fn is_green(text: &str) -> bool {
    text == "green" || text.starts_with("green: ")
}

async fn ask(address: SocketAddr, time: Duration) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(HEAD_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(time, asked).await {
        Err(_) => format!("red: nobody has answered at {address} within {time:?}"),
        Ok(Err(error)) => format!("red: nobody answers at {address}: {error}"),
        Ok(Ok(answer)) => {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
            match body {
                _ if is_green(body) => body.to_owned(),
                _ if body.starts_with("red: ") => body.to_owned(),
                _ => format!("red: somebody else answers at {address}"),
            }
        }
    }
}

fn look(path: &Path) -> String {
    let place = path.display();
    let read = || {
        let written = std::fs::metadata(path)?.modified()?;
        Ok::<_, std::io::Error>((std::fs::read_to_string(path)?, written))
    };
    match read() {
        Err(error) => format!("red: {place} cannot be read: {error}"),
        Ok((text, written)) => match SystemTime::now().duration_since(written) {
            Ok(age) if age > FILE_AGE_MAX => {
                format!("red: {place} was last written {} s ago", age.as_secs())
            }
            _ => text.trim().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use celeriac_backends::{Queue as _, Take, WorkerId};
    use celeriac_memory::Memory;
    use celeriac_primitives::{Completion, Json, Outcome, Signature, TaskMessage};
    use celeriac_runtime::{App, CoordinatorOptions};

    use super::*;

    /// The lease of these tests.
    const LEASE: Duration = Duration::from_secs(30);

    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Health::new(LEASE))));
        address
    }

    /// Each sends a little of a request now and then, and never all of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_probe_is_answered_while_somebody_holds_all_connections_that_he_can() {
        let address = served().await;
        let mut slow = Vec::new();
        for number in 0..300 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nX: ").await.unwrap();
            slow.push(stream);
            if number % 10 == 0 {
                assert_eq!(ask(address, Duration::from_secs(10)).await, "green", "{number}");
            }
        }
        let mut closed = 0;
        for stream in &mut slow[..300 - CONNECTIONS_MAX] {
            let read = tokio::time::timeout(REQUEST_TIME * 2, stream.read(&mut [0; 1])).await;
            closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
        }
        assert_eq!(closed, 300 - CONNECTIONS_MAX, "the oldest make room");
        assert_eq!(ask(address, Duration::from_secs(10)).await, "green");
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_or_closed() {
        let address = served().await;
        for (request, expect) in [
            (b"POST / HTTP/1.1\r\n\r\n".to_vec(), "HTTP/1.1 405"),
            (vec![b'x'; 64 << 10], "HTTP/1.1 405"),
            (b"\xff\xfe\r\n\r\n".to_vec(), "HTTP/1.1 405"),
            (b"HEAD / HTTP/1.1\r\n\r\n".to_vec(), "HTTP/1.1 200"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may be closed before all is read.
            let _ = stream.write_all(&request).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = tokio::time::timeout(REQUEST_TIME * 2, stream.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            let is_cut = read.is_ok_and(|read| read.is_err());
            assert!(answer.starts_with(expect) || is_cut, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_coordinator_is_red_while_an_event_waits_for_too_long() {
        let health = Health::new(LEASE);
        let watched = Arc::new(Watched::new(Arc::new(Memory::new())));
        let app = App::embedded().build().unwrap().on(watched.clone());
        let coordinator = app.coordinator(CoordinatorOptions::default());
        health.watch("coordinator", watched, coordinator.vitals());
        for (age, is_red) in [(0, false), (299, false), (301, true), (10, false)] {
            health.note_oldest(Some(Duration::from_secs(age)));
            assert_eq!(health.text().starts_with("red: coordinator: an event"), is_red, "{age}");
            assert_eq!(health.text().starts_with("green"), !is_red, "{age}");
        }
    }

    /// Two coordinators were lost with it.
    #[tokio::test]
    async fn a_coordinator_is_red_when_an_event_comes_to_it_again_and_again() {
        let memory = Arc::new(Memory::new());
        let app = App::embedded().build().unwrap().on(memory.clone());
        let canvas = Signature::new("a").unwrap();
        app.submit(canvas).await.unwrap();
        let (worker, soon) = (WorkerId::new("w"), Duration::from_millis(1));
        let taken = memory.receive(&worker, &["celery".into()], Take::new(1, LEASE)).await.unwrap();
        let TaskMessage { task_id, attempt, incarnation, .. } = *taken[0].message;
        let outcome = Outcome::Success(Json::null());
        let done = Completion { task_id, attempt, outcome, incarnation };
        memory.finish(&[(taken[0].id.clone(), done)]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(memory.events(1, soon, LEASE).await.unwrap().len(), 1);
            tokio::time::sleep(soon * 20).await;
            memory.sweep(5).await.unwrap();
        }
        let (health, watched) = (Health::new(LEASE), Arc::new(Watched::new(memory)));
        let coordinator = app.on(watched.clone()).coordinator(CoordinatorOptions::default());
        health.watch("coordinator", watched, coordinator.vitals());
        let deadline = std::time::Instant::now() + LEASE;
        while health.complaint().is_none() {
            assert!(std::time::Instant::now() < deadline, "it is green");
            tokio::time::sleep(soon).await;
        }
        let text = health.text();
        assert!(
            text.starts_with("red: coordinator: an event of ") && text.contains("has come 3 times"),
            "{text}"
        );
    }
}
