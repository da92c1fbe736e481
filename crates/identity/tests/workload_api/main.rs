//! The identity before a scripted Workload API, for what a real agent cannot be made to show. Tests are named by the ids of the catalogue
//! of the public SPIFFE conformance suite where it has one for the case; `own` stands where it has none.
//!
//! | ids that do not apply | why |
//! |---|---|
//! | EP-1, EP-3 | the socket's path comes from code, and never from the environment; an agent is never reached by TCP |
//! | WA-3 | an SVID is chosen by its configured SPIFFE ID, not by its place (`wa_03`) |
//! | XV of clients | this crate is no server |
//! | JV-2 to JV-6, JV-14 to JV-18, JV-21, JV-23 | the store verifies the signature of a JWT-SVID; here it is only carried there |
//! | JV-9 | a JWT-SVID for several audiences is refused, by design (`jv_07_to_09`): another store could use it at ours |
//! | JV-13 | the store looks at `nbf` |
//! | JB | no JWT bundles are read |
//! | JF-2 | a JWT-SVID is asked for with one audience, by design |
//! | HX-1, HX-2 | the store verifies the chain of the client certificate |

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../common/listener.rs"]
mod listener;
#[path = "../common/needles.rs"]
mod needles;

mod broken;
mod calls;
mod endpoint;
mod forks;
mod jwts;
mod leaks;
mod servers;
mod starts;
mod stores;
mod subscriber;
mod support;
mod withdrawals;
mod world;
mod x509;
