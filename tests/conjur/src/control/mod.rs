//! How a test arranges what the code under test will find: roles, variables, grants, login services. All of it works on the state
//! directly, with no request and no token. Ids are without their account, which is the server's own.

mod roles;
mod services;
mod variables;

pub use self::roles::Host;
pub use self::services::{CertService, JwtService};
use crate::ConjurDouble;
use crate::state::State;

impl ConjurDouble {
    /// `variable:prod/db` becomes `myorg:variable:prod/db`.
    pub(crate) fn full(&self, id: &str) -> String {
        format!("{}:{id}", self.account())
    }

    /// Creates a record of the administrator's, unless it is there.
    pub(crate) fn make(&self, state: &mut State, id: &str) {
        let (owner, policy) = (self.full("user:admin"), self.full("policy:root"));
        let now = self.shared().clock.now_ms();
        state.add(&self.full(id), &owner, &policy, now);
    }
}
