//! Hardening, tried as an attacker would: a real core file, and the real memory of another process.
//!
//! Each hardened process is a separate one: this program, started again. It does not run as root,
//! which can read all of it anyway. Nothing of the system is changed. Where the system allows no process a core file, or
//! lets nobody read another's memory, the tests fail, because then they would show nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use fork::Fork;
use rustix::process::{PTracer, Resource, Rlimit, getrlimit, getuid, set_ptracer, setrlimit};
use secret_resolver::testing::MockBackend;
use secret_resolver::{ExposeSecret as _, Harden, Hardened, Resolver, Secret, harden};

const NO_CORE: &str =
    "this system lets no process leave a core file, so nothing is shown; look at `ulimit -Hc`";
const NO_READ: &str = "this system lets no process read another's memory, so nothing is shown; look at /proc/sys/kernel/yama/ptrace_scope";

#[test]
fn a_process_that_aborts_leaves_a_core_file_with_the_value_and_none_once_it_is_hardened() {
    let core = Core::of("abort");
    assert!(core.was_left, "{NO_CORE}");
    assert!(core.has_the_value());
    let core = Core::of("harden abort");
    assert!(!core.was_left && core.content.is_none());
}

#[test]
fn another_process_of_the_same_user_reads_the_memory_and_not_once_it_is_hardened() {
    assert_eq!(read_in("hold"), "the value", "{NO_READ}");
    assert_eq!(read_in("harden hold"), "PermissionDenied");
}

#[test]
fn a_program_that_a_hardened_process_starts_leaves_core_files_and_is_read_as_before() {
    let core = Core::of("harden start-abort");
    assert!(core.was_left && core.has_the_value());
    assert_eq!(read_in("harden start-hold"), "the value");
}

#[test]
fn a_program_that_is_started_leaves_no_core_file_where_that_was_asked_for() {
    let core = Core::of("start-abort");
    assert!(core.was_left, "{NO_CORE}");
    let core = Core::of("harden-all start-limited-abort");
    // The limit is not for a handler of core files; the process has looked at the limit itself.
    assert!(!core.was_left || pattern().starts_with('|'));
    assert!(core.content.is_none());
}

#[test]
fn a_forked_child_is_as_hardened_as_its_parent() {
    assert!(Core::of("fork-abort").was_left, "{NO_CORE}");
    let core = Core::of("harden fork-abort");
    assert!(!core.was_left && core.content.is_none());
}

#[test]
fn hardening_is_for_all_threads_from_any_of_them_and_may_be_repeated() {
    assert!(Core::of("abort").was_left, "{NO_CORE}");
    for orders in ["thread-harden abort", "harden thread-harden harden abort"] {
        let core = Core::of(orders);
        assert!(!core.was_left && core.content.is_none(), "{orders}");
    }
}

/// Run by the tests above in its own process, which follows its orders, word by word.
#[test]
#[ignore = "another test runs it in its own process"]
fn follows_its_orders() {
    let orders = std::env::var(ORDERS).unwrap();
    let mut limit = core_limit();
    // As high as it goes: if nothing is written, the reason is not a missing right.
    limit.current = limit.maximum;
    setrlimit(Resource::Core, limit).unwrap();
    let secret = value_from_a_resolver();
    for order in orders.split(' ') {
        match order {
            "harden" => took_effect(harden(), core_limit()),
            "thread-harden" => {
                let hardened = std::thread::spawn(harden).join().unwrap();
                took_effect(hardened, core_limit());
            }
            "harden-all" => took_effect(Harden::new().with_started_programs().apply(), NONE),
            "limited-abort" => {
                assert_eq!(core_limit(), NONE);
                let more = Rlimit {
                    current: Some(1 << 30),
                    maximum: Some(1 << 30),
                };
                assert!(setrlimit(Resource::Core, more).is_err());
                std::process::abort();
            }
            "abort" => std::process::abort(),
            "fork-abort" => match fork::fork().unwrap() {
                Fork::Child => std::process::abort(),
                Fork::Parent(child) => {
                    end_like(ExitStatus::from_raw(fork::waitpid(child).unwrap()));
                }
            },
            "hold" => hold(&secret),
            _ => {
                let orders = order.strip_prefix("start-").unwrap();
                end_like(this_program(DOES, orders).status().unwrap());
            }
        }
    }
}

/// Run by the tests above in its own process, which looks into another.
#[test]
#[ignore = "another test runs it in its own process"]
fn reads_the_memory_of_another_process() {
    let place = std::env::var(ORDERS).unwrap();
    let (process, address) = place.split_once(' ').unwrap();
    let read = File::open(format!("/proc/{process}/mem")).and_then(|memory| {
        let mut read = vec![0; MASKED.len()];
        memory.read_exact_at(&mut read, address.parse().unwrap())?;
        Ok(read)
    });
    match read {
        Ok(read) if read == value() => say("the value"),
        Ok(_) => say("something else"),
        Err(error) => say(&format!("{:?}", error.kind())),
    }
}

const DOES: &str = "follows_its_orders";
const READS: &str = "reads_the_memory_of_another_process";

/// The variable with a process's orders.
const ORDERS: &str = "SECRET_RESOLVER_TEST_ORDERS";

/// The value, masked: the program itself must not hold it.
const MASKED: &[u8] = b"9;4;(#u5<u.?).)u2;(>?4un<k>h9mm";

/// A user who is not root and has no rights.
const NOBODY: u32 = 65_534;

const NONE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};

fn value() -> Vec<u8> {
    MASKED.iter().map(|byte| byte ^ 0x5a).collect()
}

fn value_from_a_resolver() -> Secret {
    let store = MockBackend::new().with_value("a/b", value());
    let resolver = Resolver::builder(store).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    runtime.block_on(resolver.get("a/b")).unwrap()
}

fn took_effect(hardened: Hardened, limit: Rlimit) {
    assert!(hardened.is_complete() && hardened.check().is_ok());
    assert!(!hardened.is_dumpable(), "{hardened}");
    let shown = hardened.core_limit().unwrap();
    assert_eq!((shown.soft, shown.hard), (limit.current, limit.maximum));
    assert_eq!(core_limit(), limit);
}

fn core_limit() -> Rlimit {
    getrlimit(Resource::Core)
}

/// Reports where the value stands, and waits until its input ends.
fn hold(secret: &Secret) {
    // Some systems let only its parents read a process that does not allow more.
    let _ = set_ptracer(PTracer::Any);
    let address = secret.expose_secret().as_ptr() as usize;
    say(&format!("{} {address}", std::process::id()));
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

/// Passes on how a process has ended that this one has waited for.
fn end_like(status: ExitStatus) {
    std::process::exit(match status.success() {
        true => 0,
        false if Core::left_by(status) => LEFT,
        false => NOT_LEFT,
    });
}

const LEFT: i32 = 10;
const NOT_LEFT: i32 = 11;

/// Beside it on the line may stand what the test harness says.
#[allow(clippy::print_stdout, reason = "it is how the process answers")]
fn say(text: &str) {
    println!("said: {text}");
}

/// This program, started again with one test and its orders.
fn this_program(test: &str, orders: &str) -> Command {
    // By this name it is found even in a folder that `nobody` may not open.
    let mut program = Command::new("/proc/self/exe");
    program
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env(ORDERS, orders)
        .env("RUST_BACKTRACE", "0");
    program
}

/// The same, not as root.
fn not_as_root(test: &str, orders: &str) -> Command {
    let mut program = this_program(test, orders);
    if getuid().is_root() {
        program.uid(NOBODY).gid(NOBODY);
    }
    program.current_dir("/").stdin(Stdio::piped());
    program.stdout(Stdio::piped());
    program
}

/// What another process reads where a process with these orders holds the value.
fn read_in(orders: &str) -> String {
    let mut holds = not_as_root(DOES, orders).spawn().unwrap();
    let mut held = lines_of(&mut holds);
    let mut reads = not_as_root(READS, &said_in(&mut held)).spawn().unwrap();
    let mut reading = lines_of(&mut reads);
    let read = said_in(&mut reading);
    drop(holds.stdin.take());
    holds.wait().unwrap();
    reads.wait().unwrap();
    read
}

fn lines_of(process: &mut Child) -> impl Iterator<Item = String> + use<> {
    let output = BufReader::new(process.stdout.take().unwrap());
    output.lines().map(Result::unwrap)
}

/// What the process says next.
fn said_in(lines: &mut impl Iterator<Item = String>) -> String {
    let said = lines.find_map(|line| Some(line.split_once("said: ")?.1.to_owned()));
    said.expect("the process said nothing")
}

/// What a process leaves that ends by aborting.
struct Core {
    was_left: bool,
    /// Where it is a file in the folder in which the process ran, and not somewhere else.
    content: Option<Vec<u8>>,
}

impl Core {
    fn of(orders: &str) -> Self {
        let folder = Folder::new();
        let mut process = not_as_root(DOES, orders);
        process.current_dir(&folder.0);
        let output = process.output().unwrap();
        let was_left = match output.status.code() {
            Some(LEFT) => true,
            Some(NOT_LEFT) => false,
            _ => Self::left_by(output.status),
        };
        let mut files = fs::read_dir(&folder.0).unwrap();
        let content = files.next().map(|file| fs::read(file.unwrap().path()));
        Self {
            was_left,
            content: content.map(Result::unwrap),
        }
    }

    fn left_by(status: ExitStatus) -> bool {
        const ABORT: i32 = 6;
        assert_eq!(status.signal(), Some(ABORT), "not aborted: {status}");
        status.core_dumped()
    }

    /// Where the system puts it elsewhere or gives it to a handler, it cannot be looked into.
    fn has_the_value(&self) -> bool {
        let value = value();
        let has = |content: &Vec<u8>| content.windows(value.len()).any(|part| part == value);
        match &self.content {
            Some(content) => has(content),
            None => pattern().starts_with(['|', '@', '/']),
        }
    }
}

/// Where the system puts core files.
fn pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap()
}

/// A folder that everybody may open. It is removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("secret-resolver-harden-{}", std::process::id());
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let path = std::env::temp_dir().join(format!("{name}-{number}"));
        fs::create_dir(&path).unwrap();
        if getuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
