// SPDX-License-Identifier: GPL-2.0
//! How a migration is called off from outside, until it is too late.

use crate::proto::Failure;
use crate::transport::Connection;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// A switch that many hold: the one who asked for the migration, its time limit, the link to the peer, the agent that is
/// told to stop. Who throws it first gives the reason; after [`Cancel::seal`] nobody can.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    inner: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    reason: Option<Failure>,
    sealed: bool,
    next: u64,
    streams: Vec<(u64, Box<dyn Connection>)>,
}

impl Cancel {
    /// A switch that nobody has thrown.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the migration off. Every guarded connection is shut down, so that whoever waits on one comes back. Says
    /// whether this was in time.
    pub fn trip(&self, reason: Failure) -> bool {
        let mut state = self.state();
        if state.sealed {
            return false;
        }
        if state.reason.is_none() {
            state.reason = Some(reason);
        }
        for (_, stream) in &state.streams {
            stream.shutdown();
        }
        true
    }

    /// Fails with the reason once the switch is thrown.
    pub fn check(&self) -> Result<(), Failure> {
        self.state().reason.clone().map_or(Ok(()), Err)
    }

    /// The point of no return: from here on nobody can call it off. Fails if somebody already has.
    pub fn seal(&self) -> Result<(), Failure> {
        let mut state = self.state();
        if let Some(reason) = &state.reason {
            return Err(reason.clone());
        }
        state.sealed = true;
        Ok(())
    }

    /// Lets the switch shut `connection` down while the guard lives.
    pub fn guard(&self, connection: &dyn Connection) -> std::io::Result<CancelGuard> {
        let handle = connection.try_clone()?;
        let mut state = self.state();
        if state.reason.is_some() {
            handle.shutdown();
        }
        let name = state.next;
        state.next = name.wrapping_add(1);
        state.streams.push((name, handle));
        Ok(CancelGuard {
            cancel: self.clone(),
            name,
        })
    }
}

/// While it lives, a [`Cancel`] shuts its connection down when it is thrown.
#[derive(Debug)]
pub struct CancelGuard {
    cancel: Cancel,
    name: u64,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.cancel
            .state()
            .streams
            .retain(|(name, _)| *name != self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FailureCode;

    #[test]
    fn the_first_reason_holds_and_a_sealed_switch_stays() {
        let cancel = Cancel::new();
        assert_eq!(cancel.check(), Ok(()));
        let reason = Failure::new(FailureCode::Cancelled, "first");
        assert!(cancel.trip(reason.clone()));
        assert!(cancel.trip(Failure::new(FailureCode::Timeout, "second")));
        assert_eq!(cancel.check(), Err(reason.clone()));
        assert_eq!(cancel.seal(), Err(reason));

        let cancel = Cancel::new();
        assert_eq!(cancel.seal(), Ok(()));
        assert!(!cancel.trip(Failure::new(FailureCode::Cancelled, "too late")));
        assert_eq!(cancel.check(), Ok(()));
    }
}
