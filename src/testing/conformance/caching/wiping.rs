//! The law of wiping, which reads the process's own memory: Linux.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{Court, Kept, Make, NAME, TTL, broken};
use crate::clock::Clock;
use crate::resolver::{SecretResolver, SecretResolverExt};
use crate::testing::Canary;

/// After a value's expiry, its invalidation, its rotation and the shutdown, no copy of it is left in
/// the memory of the process: none beyond the law's own store's. Asked by nobody, within 2 s.
///
/// # Errors
/// When a copy is left.
pub async fn no_value_outlives_its_end_in_memory(make: Make<'_>) -> Kept {
    let court = Court::new("no_value_outlives_its_end_in_memory", make)?;
    let canary = Canary::new();
    court.stores(&canary)?;
    let stored = court.copies(&canary)?;
    court.holds(&canary).await?;
    court.clock.advance(TTL);
    court.only(stored, &canary, "after its expiry").await?;
    court.holds(&canary).await?;
    court.invalidate()?;
    court
        .only(stored, &canary, "after its invalidation")
        .await?;
    court.holds(&canary).await?;
    court.store.set(NAME, "another");
    court.invalidate()?;
    court.answers("another").await?;
    court.only(0, &canary, "after its rotation").await?;
    court.stores(&canary)?;
    court.invalidate()?;
    court.holds(&canary).await?;
    let end = court.clock.now() + Duration::from_secs(5);
    let shutdown = court.subject.resolver.shutdown(end);
    court.in_time(shutdown).await?;
    court.only(stored, &canary, "after the shutdown").await
}

impl Court {
    /// Writes the canary into the store.
    fn stores(&self, canary: &Canary) -> Kept {
        match canary.value() {
            Ok(value) => self.store.set(NAME, value.expose()),
            Err(_) => return broken(self.law, "there is no memory for a value"),
        }
        Ok(())
    }

    /// How often the canary stands in memory.
    fn copies(&self, canary: &Canary) -> Kept<usize> {
        let found = canary.found();
        found.or_else(|_| broken(self.law, "the process's memory cannot be read"))
    }

    /// The subject answers the canary, and the caller drops it.
    async fn holds(&self, canary: &Canary) -> Kept {
        let answer = self.in_time(self.subject.resolver.get(NAME)).await?;
        match (answer, canary.value()) {
            (Ok(secret), Ok(value)) if secret.expose_secret() == value.expose() => Ok(()),
            (Err(error), _) => broken(self.law, &format!("an error instead of a value: {error}")),
            _ => broken(self.law, "another value than the current one"),
        }
    }

    /// The canary stands in memory as often as in the store: at the latest in 2 s.
    async fn only(&self, stored: usize, canary: &Canary, when: &str) -> Kept {
        let end = self.real.now() + Duration::from_secs(2);
        loop {
            // A look takes a while: only one that begins after the end says what is left then.
            let is_last = self.real.now() >= end;
            let found = self.copies(canary)?;
            if found <= stored {
                return Ok(());
            }
            if is_last {
                let left = found - stored;
                return broken(self.law, &format!("{left} copies are left {when}"));
            }
            let again = self.real.now() + Duration::from_millis(50);
            self.real.sleep_until(again).await;
        }
    }
}
