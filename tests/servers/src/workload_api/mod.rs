//! A SPIFFE Workload API in process, for what a real agent cannot be made to show: it answers each call as the test says, down to the byte.
//! It owns the socket, what is answered next, and the record of what was asked; connections are in `serve.rs`.
//!
//! It checks of a call what a real agent checks, the metadata, and nothing else. What a real agent answers is tested against a real one.

mod answer;
mod messages;
mod serve;
mod svid;

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::answer::Answer;
use self::answer::Step;
pub use self::messages::{X509Message, jwt_bundles_message, jwt_message, x509_bundles_message};
pub use self::svid::{SvidFlaw, TestSvid, TestTrustDomain};
use crate::Error;

/// A running server. Dropping it closes its socket and all of its connections.
///
/// # Example
/// ```
/// use test_servers::{Answer, TestTrustDomain, WorkloadApi, WorkloadMethod, X509Message};
/// let domain = TestTrustDomain::new("example.test")?;
/// let api = WorkloadApi::start()?;
/// api.show(&X509Message::of(&[domain.svid("/billing")?]));
/// api.answer(WorkloadMethod::JwtSvid, Answer::status(14, "later"));
/// assert_eq!(api.calls(WorkloadMethod::X509Svid), 0);
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct WorkloadApi {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadMethod {
    /// `FetchX509SVID`, a stream.
    X509Svid,
    /// `FetchJWTSVID`.
    JwtSvid,
    /// `FetchX509Bundles`, a stream.
    X509Bundles,
    /// `FetchJWTBundles`, a stream.
    JwtBundles,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadCall {
    /// What was called.
    pub method: WorkloadMethod,
    /// The audiences that were asked for; of a [`WorkloadMethod::JwtSvid`] alone.
    pub audiences: Vec<String>,
    /// The SPIFFE ID that was asked for, or nothing; of a [`WorkloadMethod::JwtSvid`] alone.
    pub id: String,
}

/// How the server treats a connection.
#[derive(Clone, Debug, Default)]
pub enum Manner {
    /// As a Workload API.
    #[default]
    Grpc,
    /// It says these bytes, whatever it is asked, and closes.
    Says(Vec<u8>),
    /// It neither reads nor writes.
    Silent,
    /// It closes at once.
    HangsUp,
}

type Script = Arc<dyn Fn(&WorkloadCall) -> Answer + Send + Sync>;

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    called: Condvar,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// The bytes of all answers' bodies.
    sent: AtomicU64,
}

#[derive(Default)]
struct State {
    manner: Manner,
    calls: Vec<WorkloadCall>,
    /// What is answered next, once each.
    next: Vec<(WorkloadMethod, VecDeque<Answer>)>,
    /// What is answered else; the last one for a method counts.
    scripts: Vec<(WorkloadMethod, Script)>,
    /// The open streams of X509-SVIDs.
    streams: Vec<mpsc::UnboundedSender<Step>>,
}

impl WorkloadApi {
    /// Starts it in a new folder below the system's folder for temporary files. Until it is told what to answer, it answers
    /// `PermissionDenied`, as an agent that knows no entry for a workload.
    ///
    /// # Errors
    /// The socket cannot be made, or the thread that serves it.
    pub fn start() -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("workload-api-")
            .tempdir()
            .map_err(Error::during("making a folder for a socket"))?;
        let mut api = Self {
            folder,
            shared: Arc::default(),
            running: None,
        };
        api.start_again()?;
        Ok(api)
    }

    /// The folder of the socket, which belongs to this process's user alone.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// Closes the socket and all connections. What was said and recorded stays.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.thread.join();
            let _ = std::fs::remove_file(self.socket());
        }
    }

    /// Opens the socket again, after [`WorkloadApi::stop`].
    ///
    /// # Errors
    /// As [`WorkloadApi::start`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        let opening = Error::during("opening a socket");
        let listener = UnixListener::bind(self.socket()).map_err(opening)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::during("starting a runtime"))?;
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("workload-api".to_owned())
            .spawn(move || runtime.block_on(serve::until(stopped, listener, shared)))
            .map_err(Error::during("starting a thread"))?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Answers each call of `method` so from now on.
    pub fn answer(&self, method: WorkloadMethod, answer: Answer) {
        self.answer_by(method, move |_| answer.clone());
    }

    /// Asks `script` what to answer to each call of `method` from now on.
    pub fn answer_by(
        &self,
        method: WorkloadMethod,
        script: impl Fn(&WorkloadCall) -> Answer + Send + Sync + 'static,
    ) {
        let mut state = self.shared.lock();
        state.scripts.retain(|(of, _)| *of != method);
        state.scripts.push((method, Arc::new(script)));
    }

    /// Answers one call of `method` so: the next, or the one after those that were told before.
    pub fn answer_once(&self, method: WorkloadMethod, answer: Answer) {
        let mut state = self.shared.lock();
        match state.next.iter_mut().find(|(of, _)| *of == method) {
            Some((_, answers)) => answers.push_back(answer),
            None => state.next.push((method, VecDeque::from([answer]))),
        }
    }

    /// What a real agent does with other X509-SVIDs: a message in each open stream, and first in each that is opened from now on.
    pub fn show(&self, message: &X509Message) {
        let answer = Answer::message(&message.encode());
        self.answer(WorkloadMethod::X509Svid, answer.clone());
        self.push(answer);
    }

    /// Goes on so in each open stream of X509-SVIDs.
    pub fn push(&self, answer: Answer) {
        let mut state = self.shared.lock();
        let Answer(steps) = answer;
        let takes_all = |stream: &mpsc::UnboundedSender<Step>| {
            steps.iter().all(|step| stream.send(step.clone()).is_ok())
        };
        state.streams.retain(takes_all);
    }

    /// Treats each connection so that is made from now on.
    pub fn treat_connections(&self, manner: Manner) {
        self.shared.lock().manner = manner;
    }

    /// How often `method` was called, calls without the metadata included.
    #[must_use]
    pub fn calls(&self, method: WorkloadMethod) -> usize {
        count(&self.shared.lock(), method)
    }

    /// All calls so far, in their order.
    #[must_use]
    pub fn all_calls(&self) -> Vec<WorkloadCall> {
        self.shared.lock().calls.clone()
    }

    /// Waits until `method` was called so often; `false` when that has not happened within `limit`.
    #[must_use]
    pub fn wait_for_calls(&self, method: WorkloadMethod, calls: usize, limit: Duration) -> bool {
        let state = self.shared.lock();
        let fewer = |state: &mut State| count(state, method) < calls;
        let waited = self.shared.called.wait_timeout_while(state, limit, fewer);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        count(&state, method) >= calls
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(ORDER)
    }

    /// How many of them are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(ORDER)
    }

    /// How many bytes of messages clients have let it send.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(ORDER)
    }
}

const ORDER: std::sync::atomic::Ordering = std::sync::atomic::Ordering::SeqCst;

fn count(state: &State, method: WorkloadMethod) -> usize {
    let calls = state.calls.iter();
    calls.filter(|call| call.method == method).count()
}

impl Shared {
    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi")
            .field("socket", &self.socket())
            .finish_non_exhaustive()
    }
}
