//! What is broken, one guarantee at a time, and the test that has to notice. The numbers are those of the invariants in THREAT_MODEL.md.
//! Each mutant stands in the file of the code that it breaks, beside those of the same guarantee.

mod backends;
mod batches;
mod cache;
mod core;
mod credentials;
mod endpoints;
mod handles;
mod identity;
mod layers;
mod logins;
mod privilege;
mod reads;
mod session;
mod transport;
mod verdicts;

/// One change to one place.
pub(crate) struct Mutant {
    /// The guarantee that it breaks.
    pub(crate) breaks: &'static str,
    pub(crate) file: &'static str,
    /// Stands in the file exactly once.
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// The package of the test, and the test's own name.
    pub(crate) package: &'static str,
    pub(crate) test: &'static str,
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    [
        core::MUTANTS,
        cache::MUTANTS,
        handles::MUTANTS,
        reads::MUTANTS,
        layers::MUTANTS,
        endpoints::MUTANTS,
        transport::MUTANTS,
        logins::MUTANTS,
        session::MUTANTS,
        verdicts::MUTANTS,
        backends::MUTANTS,
        batches::MUTANTS,
        privilege::MUTANTS,
        credentials::MUTANTS,
        identity::MUTANTS,
    ]
    .into_iter()
    .flatten()
}

/// A mutant that a test of the core notices.
const fn core(
    breaks: &'static str,
    file: &'static str,
    [from, to]: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    Mutant {
        breaks,
        file,
        from,
        to,
        package: "secret-resolver",
        test,
    }
}

/// A mutant that a test of the Vault backend notices.
const fn vault(
    breaks: &'static str,
    file: &'static str,
    change: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    of("secret-resolver-vault", core(breaks, file, change, test))
}

/// A mutant that a test of the Conjur backend notices.
const fn conjur(
    breaks: &'static str,
    file: &'static str,
    change: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    of("secret-resolver-conjur", core(breaks, file, change, test))
}

/// A mutant that a test of another package notices.
const fn of(package: &'static str, mutant: Mutant) -> Mutant {
    Mutant { package, ..mutant }
}
