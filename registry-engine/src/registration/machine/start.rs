//! The start of a registration: with takeover, it reads the holder of the id before its first write.

use super::phase::{InFlight, Phase, StartTakeover};
use super::{Action, Effect, Moment, RegistrationMachine};
use registry_core::{ErrorKind, Holder, Result};

impl RegistrationMachine {
    pub(super) fn read_holder(&mut self) -> Action {
        self.in_flight = Some(InFlight::ReadHolder);
        Action::ReadHolder { limit: self.request_limit() }
    }

    /// Decides which holder the start displaces. An unanswered or refused read is repeated.
    pub(super) fn holder_read(&mut self, answer: Result<Option<Holder>>, moment: Moment) -> Action {
        match answer {
            Ok(holder) => {
                if let Phase::Registering { takeover, .. } = &mut self.phase {
                    *takeover = holder.map_or(StartTakeover::No, StartTakeover::From);
                }
                (self.failures, self.due) = (0, moment.now);
            }
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied) {
                    self.effects.push(Effect::Reply(Err(error.clone())));
                }
                self.request_failed(error, moment);
            }
        }
        self.wait()
    }
}
