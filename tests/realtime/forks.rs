//! A fork has the resolver's memory and none of its threads: it is refused, and at once.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fork::{Fork, WEXITSTATUS, WIFEXITED, fork, waitpid_nohang};
use secret_resolver::{Error, Resolver, Secret, SecretHandle};

use crate::support::{Store, in_a_process, ms, now, since};

/// What the fork reports about one step: what it was answered, and after how long.
type Said = (String, String, u128);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(future)
}

/// The kinds of errors, in words of one line.
fn kinds<'a>(answers: impl IntoIterator<Item = Option<&'a Error>>) -> String {
    let answers = answers.into_iter();
    let kinds =
        answers.map(|error| error.map_or("answered".to_owned(), |e| format!("{:?}", e.kind())));
    kinds.collect::<Vec<_>>().join("+")
}

fn kind(answer: &Result<Secret, Error>) -> String {
    kinds([answer.as_ref().err()])
}

/// What takes longer than three seconds hangs.
async fn bounded(future: impl Future<Output = String>) -> String {
    let ended = tokio::time::timeout(Duration::from_secs(3), future).await;
    ended.unwrap_or_else(|_| "hangs".to_owned())
}

/// Everything that can be asked of a resolver, in the fork. Each step is reported before the next.
fn in_the_fork(resolver: Resolver, handle: SecretHandle, to: &Path) {
    let mut to = std::fs::File::create(to).unwrap();
    let mut step = |name: &str, act: &mut dyn FnMut() -> String| {
        let begun = now();
        let answer = act();
        let took = since(begun).as_millis();
        writeln!(to, "{name},{answer},{took}").unwrap();
    };
    let resolver = &mut Some(resolver);
    let handle = &mut Some(handle);
    let (it, held) = (resolver.clone().unwrap(), handle.clone().unwrap());
    step("peek", &mut || kind(&it.peek("warm/x")));
    step("handle", &mut || kind(&held.secret()));
    step("warm", &mut || {
        block_on(bounded(async { kind(&it.get("warm/x").await) }))
    });
    step("cold", &mut || {
        block_on(bounded(async { kind(&it.get("cold/x").await) }))
    });
    step("batch", &mut || {
        block_on(bounded(async {
            let answers = it.get_many(&["warm/x", "cold/y"]).await;
            kinds(answers.iter().map(|answer| answer.as_ref().err()))
        }))
    });
    step("require", &mut || {
        block_on(bounded(async {
            match it.require(&["warm/x", "cold/z"]).await {
                Ok(_) => "answered".to_owned(),
                Err(error) => kinds(error.failures().map(|(_, _, error)| Some(error))),
            }
        }))
    });
    step("shutdown", &mut || {
        block_on(bounded(async {
            it.shutdown_within(ms(500)).await;
            "returned".to_owned()
        }))
    });
    drop((it, held));
    step("drop", &mut || {
        drop((resolver.take(), handle.take()));
        "returned".to_owned()
    });
}

/// Waits until the fork has ended; says whether it ended on its own and well.
fn wait(process: i32, limit: Duration) -> Result<(), String> {
    let begun = now();
    while since(begun) < limit {
        if let Some(status) = waitpid_nohang(process).unwrap() {
            let well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            return well.then_some(()).ok_or(format!("it ended with {status}"));
        }
        std::thread::sleep(ms(20));
    }
    let kill = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status();
    assert!(kill.unwrap().success());
    while waitpid_nohang(process).unwrap().is_none() {
        std::thread::sleep(ms(20));
    }
    Err(format!("it has not ended within {limit:?}"))
}

#[test]
#[ignore = "another test runs it in its own process"]
fn a_process_that_forks() {
    let resolver = Resolver::builder(Store::new("store")).build().unwrap();
    let handle = block_on(async {
        resolver.get("warm/x").await.unwrap();
        resolver.handle("warm/x").await.unwrap()
    });
    let file = std::env::temp_dir().join(format!("realtime-fork-{}", std::process::id()));
    let ended = match fork().unwrap() {
        Fork::Child => {
            in_the_fork(resolver, handle, &file);
            std::process::exit(0);
        }
        Fork::Parent(process) => wait(process, Duration::from_secs(20)),
    };
    let said = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    let parse = |line: &str| {
        let mut parts = line.split(',').map(str::to_owned);
        let mut part = || parts.next().unwrap();
        (part(), part(), part().parse().unwrap())
    };
    let steps: Vec<Said> = said.lines().map(parse).collect();
    let right = |(_, answer, took): &Said| {
        let refused = answer.split('+').all(|kind| kind == "Refused");
        (refused || answer == "returned") && *took <= 1000
    };
    let wrong: Vec<_> = steps.iter().filter(|step| !right(step)).collect();
    assert!(
        wrong.is_empty() && ended.is_ok(),
        "{wrong:?}, {ended:?}, all: {steps:?}"
    );
    assert_eq!(steps.len(), 8, "{steps:?}");
    // None of this affects the parent.
    assert!(block_on(resolver.get("warm/x")).is_ok() && block_on(resolver.get("cold/x")).is_ok());
    assert!(handle.secret().is_ok());
}

#[test]
fn a_fork_is_refused_at_once_and_ends() {
    in_a_process("forks::a_process_that_forks", Duration::from_secs(40));
}
