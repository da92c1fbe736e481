//! The main job, with two stores behind one resolver: a real OpenBao, and Conjur. Resolve, cached, rotated, invalidated, many at once,
//! one store away and then the other, refused.
//!
//! The Conjur is the double of the tests, in this process and with TLS: no real one can be started here. Real answers of one are what
//! the double is held to.
//!
//! `cargo xtask demo` installs OpenBao and runs this. Each step is checked; the last line is the verdict, and so is the exit code.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

mod stores;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use conjur_double::{ConjurDouble, Kind};
use secret_resolver::{ErrorKind, Resolver};
use test_servers::OpenBao;

/// In OpenBao.
const NAME: &str = "prod/db#password";
/// In Conjur, as all names below `shop`.
const SHOP: &str = "shop/db#password";
const MANY: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(steps) => {
            println!("verdict      all {steps} steps went as they should");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("verdict      it did not go as it should: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many steps there were, all of them as they should be.
async fn run() -> Result<usize, Box<dyn Error>> {
    println!("starting     its own OpenBao, and a double of Conjur in this process, on loopback");
    let mut bao = OpenBao::start()?;
    let conjur = ConjurDouble::start()?;
    let resolver = stores::resolver_of(&bao, &conjur)?;
    stores::put(&bao, "first")?;
    stores::set(&conjur, "first");
    println!("started      OpenBao and the double, each with TLS and an authority of its own");
    println!("             one resolver: shop/* is Conjur's, all else OpenBao's");
    let mut demo = Demo { resolver, steps: 0 };

    demo.step(NAME, "resolved", "login and read", "first", 1)
        .await?;
    demo.step(NAME, "cached", "no request", "first", 0).await?;
    stores::put(&bao, "second")?;
    demo.step(NAME, "rotated", "the cache does not know yet", "first", 0)
        .await?;
    demo.signal(NAME)?;
    demo.step(NAME, "invalidated", "read again", "second", 1)
        .await?;

    println!("Conjur       the same calls, by another name");
    demo.step(SHOP, "resolved", "login and read", "first", 1)
        .await?;
    stores::set(&conjur, "second");
    demo.step(SHOP, "rotated", "the cache does not know yet", "first", 0)
        .await?;
    demo.signal(SHOP)?;
    demo.step(SHOP, "invalidated", "read again", "second", 1)
        .await?;
    demo.many(&conjur).await?;

    println!("Conjur       is stopped");
    conjur.stop();
    stores::set(&conjur, "third");
    demo.signal(SHOP)?;
    demo.refused(SHOP).await?;
    stores::put(&bao, "third")?;
    demo.signal(NAME)?;
    demo.step(NAME, "apart", "OpenBao is asked as before", "third", 1)
        .await?;
    println!("Conjur       is started again");
    conjur.start_again()?;
    demo.step(SHOP, "resolved", "read again", "third", 1)
        .await?;

    println!("OpenBao      is killed");
    bao.stop();
    demo.step(NAME, "killed", "within its time to live", "third", 0)
        .await?;
    demo.signal(NAME)?;
    demo.refused(NAME).await?;
    stores::set(&conjur, "fourth");
    demo.signal(SHOP)?;
    demo.step(SHOP, "apart", "Conjur is asked as before", "fourth", 1)
        .await?;
    demo.shut_down().await?;
    Ok(demo.steps)
}

struct Demo {
    resolver: Resolver,
    steps: usize,
}

impl Demo {
    /// What a webhook or an operator would send.
    fn signal(&self, name: &str) -> Result<(), Box<dyn Error>> {
        self.resolver.invalidator().invalidate(name)?;
        Ok(())
    }

    /// A get that must answer the password of that turn, with this many requests.
    async fn step(
        &mut self,
        name: &str,
        title: &str,
        why: &str,
        turn: &str,
        requests: u64,
    ) -> Result<(), Box<dyn Error>> {
        let clock = self.resolver.clock();
        let (start, before) = (clock.now(), self.resolver.status().fetches);
        let secret = self.resolver.get(name).await?;
        let took = clock.now().since(start);
        let asked = self.resolver.status().fetches - before;
        // The demo's own passwords show their turn by their first word; a service never prints one.
        let answered = secret.expose_str()?.split('-').next().unwrap_or_default();
        // Conjur's answer does not say a number.
        let number = secret.version().as_number();
        let version = number.map_or_else(String::new, |number| format!(" version {number},"));
        println!("{title:12} {name},{version} the {answered} password, {took:?} ({why})");
        self.steps += 1;
        match answered == turn && asked == requests {
            true => Ok(()),
            false => Err(format!("{title}: the {turn} password was due, by {requests} requests, and not the {answered} by {asked}").into()),
        }
    }

    /// Many names that nobody has asked for before, each with its own answer, in few requests at Conjur.
    async fn many(&mut self, conjur: &ConjurDouble) -> Result<(), Box<dyn Error>> {
        let names: Vec<_> = (0..MANY).map(stores::name_of).collect();
        let requests = || conjur.count(Kind::Secret) + conjur.count(Kind::Batch);
        let clock = self.resolver.clock();
        let (start, before) = (clock.now(), requests());
        let answers = self.resolver.get_many(&names).await;
        let (took, asked) = (clock.now().since(start), requests() - before);
        for (number, answer) in answers.into_iter().enumerate() {
            if answer?.expose_str()? != stores::value_of(number) {
                return Err("a name has another one's value".into());
            }
        }
        println!(
            "many         {MANY} other names of Conjur, {asked} requests, {took:?} (get_many)"
        );
        self.steps += 1;
        // The first goes at once, and those that come meanwhile go together: how many come is a matter of time.
        match asked * 10 <= MANY {
            true => Ok(()),
            false => Err(format!("{asked} requests are many").into()),
        }
    }

    /// A get that must fail, because no store stands behind any answer.
    async fn refused(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        let Err(error) = self.resolver.get(name).await else {
            return Err("a value was answered although no store is behind it".into());
        };
        println!("refused      {error}");
        self.steps += 1;
        match error.kind() {
            ErrorKind::Unavailable => Ok(()),
            _ => Err("the error does not say that the store is away".into()),
        }
    }

    async fn shut_down(&mut self) -> Result<(), Box<dyn Error>> {
        let report = self.resolver.shutdown_within(Duration::from_secs(1)).await;
        // Nobody is there to revoke OpenBao's, so the report must not say that all was done. Conjur's cannot be revoked.
        println!(
            "shut down    {} values are held; the tokens are left to their own ends",
            report.values_still_held
        );
        self.steps += 1;
        let closed = self.resolver.get(NAME).await;
        match closed.is_err_and(|error| error.kind() == ErrorKind::Closed) {
            true if report.values_still_held == 0 && !report.is_complete() => Ok(()),
            _ => Err("the shutdown is not what it should be".into()),
        }
    }
}
